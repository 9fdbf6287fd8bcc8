//! `dual16`: parses, runs, and turns an error into a message and an exit code. All else is in the
//! library.

use std::{ffi::OsString, process::ExitCode, time::Duration};

use dual16::{
    cli::{self, ColorWhen, OutputFormat, Signals},
    config::{self, ConfigError},
    error::Error,
    render::{Terminal, error_json},
};
use dual16_telemetry::{logs::LogArgs, trace};
use tracing::Instrument as _;

fn main() -> ExitCode {
    #[cfg(feature = "local")]
    if let Some(ended) = dual16_worker::ChildProgram::enter() {
        return ended;
    }
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let cli = match config::parse(&arguments) {
        Ok(cli) => cli,
        Err(ConfigError::Arguments(error)) => return refuse(error, &arguments),
        Err(error) => {
            let terminal = Terminal::detect(ColorWhen::Auto);
            return end(&terminal, config::output_of(&arguments), Err(error.into()));
        }
    };
    let output = cli.global.output;
    // Logs are for those who ask: DUAL16_LOG=info, or a filter for each module.
    let logs = LogArgs::from_env();
    let terminal = Terminal::detect(cli.global.color);
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return end(&terminal, output, Err(Error::Local(error.to_string()))),
    };
    for warning in config::unknown_variables() {
        terminal.warn(warning);
    }
    let result = runtime.block_on(async {
        // A command without them does its work all the same.
        let logs = logs.start("dual16");
        if let Err(error) = &logs {
            terminal.warn(format_args!("without logs and traces: {error}"));
        }
        // Whoever calls this command may have begun a trace: by convention, in this variable.
        let parent = std::env::var("TRACEPARENT").ok();
        let span = tracing::error_span!("command", trace_id = tracing::field::Empty);
        trace::adopt(&span, parent.as_deref());
        let command = async {
            let signals = Signals::listen()?;
            cli::run(cli, &terminal, signals).await
        };
        command.instrument(span).await
    });
    // A blocked read of an input file must not keep a finished command.
    runtime.shutdown_timeout(Duration::from_secs(1));
    end(&terminal, output, result)
}

/// clap has its own way of printing, help and version to stdout among it.
fn refuse(error: clap::Error, arguments: &[OsString]) -> ExitCode {
    let output = config::output_of(arguments);
    if !error.use_stderr() || output == OutputFormat::Table {
        error.exit();
    }
    // What clap says on stderr is for people.
    let _ = error.print();
    let error = Error::from(ConfigError::Arguments(error));
    let _ = Terminal::plain().result(&error_json(&error).to_string());
    ExitCode::from(error.exit_code())
}

fn end(terminal: &Terminal, output: OutputFormat, result: Result<(), Error>) -> ExitCode {
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    let code = error.exit_code();
    if code != 0 {
        if output != OutputFormat::Table && error.is_for_stdout() {
            // Stdout may be gone; stderr and the exit code say the same.
            let _ = terminal.result(&error_json(&error).to_string());
        }
        terminal.report(&error);
    }
    ExitCode::from(code)
}

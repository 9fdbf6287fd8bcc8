//! `dual16`: parses, runs, and turns an error into a message and an exit code. All else is in the
//! library.

use std::{ffi::OsString, process::ExitCode, time::Duration};

use dual16::{
    cli::{self, Signals},
    config::{self, ConfigError},
    error::Error,
    render::Terminal,
};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let cli = match config::parse(&arguments) {
        Ok(cli) => cli,
        // clap has its own way of printing, help and version to stdout among it.
        Err(ConfigError::Arguments(error)) => error.exit(),
        Err(error) => return end(&Terminal::plain(), Err(error.into())),
    };
    init_logging();
    let terminal = Terminal::detect(cli.global.color);
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return end(&terminal, Err(Error::Local(error.to_string()))),
    };
    let result = runtime.block_on(async {
        let signals = Signals::listen()?;
        cli::run(cli, &terminal, signals).await
    });
    // A blocked read of an input file must not keep a finished command.
    runtime.shutdown_timeout(Duration::from_secs(1));
    end(&terminal, result)
}

fn end(terminal: &Terminal, result: Result<(), Error>) -> ExitCode {
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    let code = error.exit_code();
    if code != 0 {
        terminal.report(&error);
    }
    ExitCode::from(code)
}

/// Logs are for those who ask: DUAL16_LOG=info, or a filter for each module.
fn init_logging() {
    let filter = EnvFilter::try_from_env("DUAL16_LOG").unwrap_or_else(|_| EnvFilter::new("off"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
}

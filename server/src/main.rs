//! The `dual16-server` binary: flags, logs and signals around [`dual16_server::start`].

use std::{io, process::ExitCode, time::Duration};

use anyhow::Context as _;
use dual16_server::{
    cli::{self, Command, Invocation, TokenCommand},
    config::Config,
    offline,
};
use dual16_telemetry::{exit, files::write_whole};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

fn main() -> ExitCode {
    let outcome = match cli::parse(std::env::args_os()) {
        Ok(Invocation::Serve(config)) => serve(&config),
        Ok(Invocation::Command(command)) => match obey(&command) {
            Ok(true) => Ok(()),
            Ok(false) => return ExitCode::FAILURE,
            Err(error) => Err(error),
        },
        Err(error) => error.exit(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::failed(error.as_ref()),
    }
}

/// Runs a command that needs no server. False = it found what it looked for, and that is bad.
fn obey(command: &Command) -> anyhow::Result<bool> {
    let report = &mut io::stdout();
    match command {
        Command::Token(TokenCommand::New(asked)) => {
            cli::new_token(asked, report, &mut io::stderr()).context("the token was not made")?;
        }
        Command::Check(at) => return Ok(offline::check(&at.data, report)?),
        Command::Repair(at) => offline::repair(&at.data, report)?,
        Command::Export(at) => offline::export(&at.data, &at.archive, report)?,
        Command::Import(at) => offline::import(&at.archive, &at.data, report)?,
    }
    Ok(true)
}

fn serve(config: &Config) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("cannot start the async runtime")?;
    let outcome = runtime.block_on(async {
        // Within the runtime: an export of spans has a task of its own.
        let _logs = config.logs.start("dual16-server")?;
        run(config).await
    });
    // A thread that waits for a disk that does not answer must not hold up the exit.
    runtime.shutdown_background();
    outcome
}

async fn run(config: &Config) -> anyhow::Result<()> {
    // Before anything listens, so that no signal finds the default handler.
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
    let mut hangup = signal(SignalKind::hangup()).context("SIGHUP")?;
    // First, so that opening a large store looks like starting and not like death.
    let ops = config.ops.start().await?;
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("cannot listen on {}", config.listen))?;
    let mut server = dual16_server::start(config.options(), listener).await?;
    if let Some(ops) = &ops {
        ops.attach(server.observed());
    }
    let addr = server.addr();
    tracing::info!(%addr, "listening");
    if let Some(file) = &config.port_file {
        write_whole(file, &format!("{addr}\n"))
            .with_context(|| format!("cannot write --port-file {}", file.display()))?;
    }
    loop {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: shutting down"),
            _ = interrupt.recv() => tracing::info!("SIGINT: shutting down"),
            _ = hangup.recv() => {
                server.reload().await;
                continue;
            }
            reason = server.stopped() => anyhow::bail!("the server stopped: {reason}"),
        }
        break;
    }
    server
        .shutdown(Duration::from_secs(config.drain_deadline))
        .await;
    Ok(())
}

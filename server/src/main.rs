//! The `dual16-server` binary: flags, logs and signals around [`dual16_server::start`].

use std::{io, process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::Parser as _;
use dual16_server::config::Config;
use dual16_telemetry::files::write_whole;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

#[tokio::main]
async fn main() -> ExitCode {
    let config = Config::parse();
    let outcome = match config.logs.start("dual16-server") {
        Ok(_logs) => run(&config).await,
        Err(error) => Err(error.into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The log may be what failed, and a filter may hide it: this line is for the operator.
            let _ = io::Write::write_fmt(&mut io::stderr(), format_args!("error: {error:#}\n"));
            ExitCode::FAILURE
        }
    }
}

async fn run(config: &Config) -> anyhow::Result<()> {
    // Before anything listens, so that no signal finds the default handler.
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
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
    tracing::info!(%addr, data = %config.data.display(), "listening");
    if let Some(file) = &config.port_file {
        write_whole(file, &format!("{addr}\n"))
            .with_context(|| format!("cannot write --port-file {}", file.display()))?;
    }
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM: shutting down"),
        _ = interrupt.recv() => tracing::info!("SIGINT: shutting down"),
        reason = server.stopped() => anyhow::bail!("the server stopped: {reason}"),
    }
    server
        .shutdown(Duration::from_secs(config.drain_deadline))
        .await;
    Ok(())
}

//! The `dual16-server` binary: flags, logs and signals around [`dual16_server::start`].

use std::{io, process::ExitCode, time::Duration};

use anyhow::Context as _;
use dual16_server::{
    cli::{self, Command, Invocation, TokenCommand},
    config::Config,
    descriptors,
    limits::Limits,
    offline,
};
use dual16_telemetry::{exit, files::write_whole};
use rustix::{fs::Mode, process::umask};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

/// Blocking threads beside those of transfers and calls.
const BLOCKING_THREADS_LEFT: u64 = 256;
/// Blocking threads of transfers and calls, whatever their limits say.
const MAX_BLOCKING_THREADS: u64 = 8192;

fn main() -> ExitCode {
    // Models, batches and tokens are their owners': folders 0700, files 0600, whatever makes them.
    umask(Mode::RWXG | Mode::RWXO);
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
        Command::MigrateStore(asked) => {
            // Not where the command line is read, which would print a URL, password and all.
            let [from, to] = [&asked.from, &asked.to].map(|place| place.parse::<offline::Place>());
            let (from, to) = (from.context("FROM")?, to.context("TO")?);
            offline::migrate(&from, &to, report)?;
        }
        Command::Import(at) => offline::import(&at.archive, &at.data, report)?,
    }
    Ok(true)
}

fn serve(config: &Config) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(blocking_threads(&config.limits))
        .build()
        .context("cannot start the async runtime")?;
    let outcome = runtime.block_on(async {
        // Within the runtime: an export of spans has a task of its own.
        let _logs = config.logs.start("dual16-server")?;
        run(config).await
    });
    // A thread that waits for a disk that does not answer must not hold up the exit.
    runtime.shutdown_background();
    outcome
}

/// Threads that may wait for the disk. Transfers and calls that are worked on have one each at most;
/// the rest are those of heartbeats, leases and watchers, so that no flood of uploads, hashing and
/// syncing, can keep a worker's sign of life from the store. They exist only while they are needed.
fn blocking_threads(limits: &Limits) -> usize {
    let busy = limits.transfers.saturating_add(limits.working_calls);
    let threads = busy
        .min(MAX_BLOCKING_THREADS)
        .saturating_add(BLOCKING_THREADS_LEFT);
    usize::try_from(threads).unwrap_or(usize::MAX)
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
    let page = config.page.listen(config.access.insecure).await?;
    let mut options = config.options();
    descriptors::fit(&mut options.limits, descriptors::raise());
    // Opening a large store takes its time. Cut short it is as after a power cut: nothing is lost.
    let mut server = tokio::select! {
        server = dual16_server::start(options, listener) => server?,
        _ = terminate.recv() => {
            tracing::info!("SIGTERM: not started");
            return Ok(());
        }
        _ = interrupt.recv() => {
            tracing::info!("SIGINT: not started");
            return Ok(());
        }
    };
    if let Some(ops) = &ops {
        ops.attach(server.observed());
    }
    if let Some(listener) = page {
        server.serve_page(listener);
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

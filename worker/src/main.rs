//! The `dual16-worker` program: options from the command line and the environment, logs to stderr,
//! and a drain when asked to stop.

use std::{num::NonZeroUsize, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::Parser;
use dual16_rpc::credentials::{AccessArgs, TokenSource};
use dual16_telemetry::{exit, logs::LogArgs, ops::OpsArgs};
use dual16_worker::{
    ChildProgram, DEFAULT_CACHE_BYTES, MemoryLimit, NUMERICS_VERSION, WorkerOptions, start,
};
use rustix::{fs::Mode, process::umask};
use tokio::signal::unix::{SignalKind, signal};

/// A dual16 worker: leases tasks from a server, runs them, hands in their results.
///
/// SIGTERM or SIGINT drains it: it takes nothing new, lets running tasks end for --drain-seconds,
/// and gives the rest back to the server. A second signal skips the wait.
#[derive(Debug, Parser)]
#[command(version = version())]
struct Args {
    /// The server's URL.
    #[arg(long, env = "DUAL16_SERVER", default_value = "http://127.0.0.1:7016")]
    server: String,

    /// Tasks run at once [default: the number of cores].
    #[arg(long, env = "DUAL16_WORKERS", value_name = "N")]
    workers: Option<NonZeroUsize>,

    /// Threads that compute, shared by all tasks [default: the number of cores].
    #[arg(long, env = "DUAL16_THREADS", value_name = "N")]
    threads: Option<NonZeroUsize>,

    /// Folder of the blob cache; no other running worker may use it.
    #[arg(
        long,
        env = "DUAL16_CACHE",
        value_name = "DIR",
        default_value = "dual16-cache"
    )]
    cache: PathBuf,

    /// Size the cache is kept under, in bytes; blobs in use stay even if they are more.
    #[arg(long, env = "DUAL16_CACHE_BYTES", value_name = "BYTES", default_value_t = DEFAULT_CACHE_BYTES)]
    cache_bytes: u64,

    /// Memory the process may use: a size such as 1500MB or 2GiB, "auto" (the control group's limit,
    /// else 3/4 of the machine's memory) or "none".
    ///
    /// Every task is estimated before it runs. One that does not fit beside the others waits for
    /// them; one that does not fit alone is cut smaller where it can be, else refused with the
    /// figure, and another worker may take it.
    #[arg(
        long,
        env = "DUAL16_MEMORY_LIMIT",
        value_name = "SIZE",
        default_value_t
    )]
    memory_limit: MemoryLimit,

    /// Name shown in errors, unique for each worker [default: the host's name and a random part].
    #[arg(long, env = "DUAL16_WORKER_NAME")]
    name: Option<String>,

    /// How long a drain waits for running tasks.
    #[arg(
        long,
        env = "DUAL16_DRAIN_SECONDS",
        value_name = "SECONDS",
        default_value_t = 25
    )]
    drain_seconds: u64,

    #[command(flatten)]
    access: AccessArgs,

    #[command(flatten)]
    ops: OpsArgs,

    #[command(flatten)]
    logs: LogArgs,
}

/// What --version prints behind the name: figures of one numerics version can be compared.
fn version() -> String {
    format!(
        "{} (numerics {NUMERICS_VERSION})",
        env!("CARGO_PKG_VERSION")
    )
}

fn main() -> ExitCode {
    // The cache holds others' models.
    umask(Mode::RWXG | Mode::RWXO);
    if let Some(ended) = ChildProgram::enter() {
        return ended;
    }
    match work(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::failed(error.as_ref()),
    }
}

fn work(args: Args) -> anyhow::Result<()> {
    let Args {
        server,
        workers,
        threads,
        cache,
        cache_bytes,
        memory_limit,
        name,
        drain_seconds,
        access,
        ops,
        logs,
    } = args;

    let mut options = WorkerOptions::new(server, cache);
    options.credentials = access.credentials()?;
    options.cache_bytes = cache_bytes;
    options.memory_limit = memory_limit;
    options.slots = workers.unwrap_or(options.slots);
    options.threads = threads.unwrap_or(options.threads);
    options.name = name.unwrap_or(options.name);

    let runtime = tokio::runtime::Builder::new_multi_thread()
        // Moves messages only; the cores are for the compute threads.
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    // The export of spans needs the runtime, from its start to its end.
    let logs = {
        let _entered = runtime.enter();
        logs.start("dual16-worker")?
    };
    let ended = runtime.block_on(run(options, &ops, Duration::from_secs(drain_seconds)));
    drop(logs);
    // A task that does not listen must not hold up the exit; its lease was given back.
    runtime.shutdown_background();
    ended
}

async fn run(options: WorkerOptions, ops: &OpsArgs, drain: Duration) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen to SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen to SIGINT")?;
    // Before the server is found: a worker that waits for it is alive and not ready.
    let ops = ops.start().await?;
    let token = options.credentials.token.as_ref();
    if let Some(weakness) = token.and_then(TokenSource::weakness) {
        tracing::warn!("{weakness}");
    }
    let worker = tokio::select! {
        worker = start(options) => worker?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    if let Some(ops) = &ops {
        ops.attach(worker.observed());
    }
    let mut asked = async || {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    asked().await;
    tracing::info!(seconds = drain.as_secs(), "draining");
    let deadline = async {
        tokio::select! {
            () = tokio::time::sleep(drain) => {}
            () = asked() => {}
        }
    };
    let drained = worker.shutdown_when(deadline).await;
    tracing::info!(released = drained.released, "stopped");
    Ok(())
}

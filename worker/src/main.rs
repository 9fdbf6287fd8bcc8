//! The `dual16-worker` program: options from the command line and the environment, logs to stderr,
//! and a drain when asked to stop.

use std::{num::NonZeroUsize, path::PathBuf, time::Duration};

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use dual16_worker::{DEFAULT_CACHE_BYTES, MemoryLimit, WorkerOptions, start};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// A dual16 worker: leases tasks from a server, runs them, hands in their results.
///
/// SIGTERM or SIGINT drains it: it takes nothing new, lets running tasks end for --drain-seconds,
/// and gives the rest back to the server. A second signal skips the wait.
#[derive(Debug, Parser)]
#[command(version)]
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

    /// How logs are written to stderr.
    #[arg(long, env = "DUAL16_LOG_FORMAT", value_enum, default_value_t = LogFormat::Pretty)]
    log_format: LogFormat,

    /// What is logged, as tracing's filter directives: "debug", "dual16_worker=debug".
    #[arg(long, env = "DUAL16_LOG", default_value = "info")]
    log: EnvFilter,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

fn main() -> anyhow::Result<()> {
    let Args {
        server,
        workers,
        threads,
        cache,
        cache_bytes,
        memory_limit,
        name,
        drain_seconds,
        log_format,
        log,
    } = Args::parse();
    let logs = tracing_subscriber::fmt()
        .with_env_filter(log)
        .with_writer(std::io::stderr);
    match log_format {
        LogFormat::Pretty => logs.init(),
        LogFormat::Json => logs.json().init(),
    }

    let mut options = WorkerOptions::new(server, cache);
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
    let ended = runtime.block_on(run(options, Duration::from_secs(drain_seconds)));
    // A task that does not listen must not hold up the exit; its lease was given back.
    runtime.shutdown_background();
    ended
}

async fn run(options: WorkerOptions, drain: Duration) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen to SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen to SIGINT")?;
    let worker = tokio::select! {
        worker = start(options) => worker?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
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

//! Starting, draining and stopping one worker.

use std::{fmt, io, sync::Arc, time::Duration};

use dual16_quant::memory::MemoryBudget;
use dual16_rpc::{Address, Connection};
use dual16_telemetry::{ops::Observed, trace::traceparent};
use tokio::{
    task::{JoinHandle, spawn_blocking},
    time,
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use crate::{
    blob_cache::BlobCache,
    blob_store::BlobStore,
    child::Health,
    compute,
    connect::{StartError, connect},
    heartbeat::Heartbeat,
    lease_loop::{LeaseLoop, RELEASE_LIMIT},
    leases::LeaseTable,
    link::Link,
    metrics::Metrics,
    observer::Observer,
    options::WorkerOptions,
    quantize_runner::QuantizeRunner,
    report::Reporter,
    runner::TaskRunner,
    specs::Specs,
    task::TaskContext,
};

#[cfg(target_os = "linux")]
use crate::child::{Keeper, ProcessRunner, Settings, Shares};

/// A worker at work. Dropped without [`shutdown`](Self::shutdown), it leases and renews no more; tasks
/// under way end as they may.
#[must_use = "a worker stops when dropped"]
pub struct RunningWorker {
    stop: DropGuard,
    tasks: TaskTracker,
    leasing: JoinHandle<()>,
    leases: Arc<LeaseTable>,
    reporter: Arc<Reporter>,
    runner: Arc<dyn TaskRunner>,
    heartbeat: Heartbeat,
    observed: Arc<Observer>,
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Tasks that were still running at the deadline and were given back.
    pub released: usize,
}

/// Starts a worker: opens its cache, waits for the server, then leases and runs tasks in the
/// background until [`RunningWorker::shutdown`]. Needs a tokio runtime with its timers and I/O on.
///
/// A server that goes away later is waited for, for ever; results are kept and handed in when it is
/// back.
///
/// # Errors
/// See [`StartError`].
pub async fn start(options: WorkerOptions) -> Result<RunningWorker, StartError> {
    let to_run = options.clone();
    let WorkerOptions {
        server,
        credentials,
        name,
        slots,
        threads,
        cache_dir,
        cache_bytes,
        ..
    } = options;
    let address = Address::new(&server, &credentials, traceparent).map_err(|error| {
        StartError::InvalidServer {
            server: server.clone(),
            reason: error.to_string(),
        }
    })?;
    let cache = BlobCache::open(&cache_dir, cache_bytes).map_err(|source| StartError::Cache {
        dir: cache_dir,
        source,
    })?;
    let task_memory = options.memory_limit.for_tasks();
    let (runner, health) = runner(to_run, &cache).map_err(StartError::Threads)?;

    let link = Arc::new(Link::new(&server));
    let mut connection = Connection::new(&address, Arc::clone(&link) as _);
    let limits = connect(&mut connection, &server, options.connect_timeout).await?;

    let leases = Arc::new(LeaseTable::default());
    let heartbeat = Heartbeat::start(
        address,
        name.clone(),
        Arc::clone(&leases),
        Arc::clone(&link),
    )
    .map_err(StartError::Threads)?;
    let metrics = Arc::new(Metrics::new(slots.get()));
    let store = Arc::new(BlobStore::new(
        Arc::clone(&cache),
        connection.clone(),
        Arc::clone(&metrics),
    ));
    let reporter = Arc::new(Reporter {
        connection: connection.clone(),
        worker: name.clone(),
        inline_bytes: limits.inline_bytes,
        store: Arc::clone(&store),
    });
    let context = Arc::new(TaskContext {
        runner: Arc::clone(&runner),
        store,
        specs: Specs::new(connection.clone()),
        reporter: Arc::clone(&reporter),
        metrics: Arc::clone(&metrics),
    });
    let tasks = TaskTracker::new();
    let lease_loop = LeaseLoop {
        client: connection.worker(),
        worker: name.clone(),
        slots,
        leases: Arc::clone(&leases),
        context,
        tasks: tasks.clone(),
        parting: limits.parting,
        link: Arc::clone(&link),
        recent: Vec::new(),
    };
    let stop = CancellationToken::new();
    let observed = Arc::new(Observer {
        metrics,
        link,
        cache,
        health,
        stop: stop.clone(),
    });
    let leasing = tokio::spawn(lease_loop.run(stop.clone()));
    tracing::info!(worker = %name, %server, slots, threads, task_memory, "worker ready");
    Ok(RunningWorker {
        stop: stop.drop_guard(),
        tasks,
        leasing,
        leases,
        reporter,
        runner,
        heartbeat,
        observed,
    })
}

/// What runs the tasks, and how that is, where it can be anything but well.
type Runner = (Arc<dyn TaskRunner>, Option<Arc<Health>>);

/// Starts what the options say.
fn runner(options: WorkerOptions, cache: &BlobCache) -> io::Result<Runner> {
    let WorkerOptions {
        runner,
        child,
        threads,
        slots,
        memory_limit,
        ..
    } = options;
    let memory = memory_limit.for_tasks();
    match (runner, child) {
        (Some(runner), _) => {
            compute::bound(threads);
            Ok((runner, None))
        }
        #[cfg(target_os = "linux")]
        (None, Some(program)) => {
            // Each process has a pool for parallel sections, one for float runs, and a thread a task.
            let most = 2 * threads.get() + slots.get();
            let keeper = Keeper::start(Settings {
                program,
                threads: threads.get() as u64,
                shares: Shares::new(memory, memory_limit.bytes(), most as u64),
                folder: cache.temp_folder()?,
            })?;
            let health = keeper.health();
            Ok((Arc::new(ProcessRunner::new(keeper)), Some(health)))
        }
        (None, _) => {
            compute::bound(threads);
            Ok((
                Arc::new(QuantizeRunner::new(MemoryBudget::new(memory))),
                None,
            ))
        }
    }
}

impl fmt::Debug for RunningWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningWorker")
            .field("leases", &self.leases)
            .finish_non_exhaustive()
    }
}

impl RunningWorker {
    /// What an ops port shows of this worker.
    pub fn observed(&self) -> Arc<dyn Observed> {
        Arc::clone(&self.observed) as _
    }

    /// Drains: leases nothing more, lets running tasks end until `deadline` has passed, then gives
    /// the rest back to the server, which counts no attempt for them. Returns within `deadline` and
    /// a few seconds, whether or not the server answers and the tasks listen.
    pub async fn shutdown(self, deadline: Duration) -> Drained {
        self.shutdown_when(time::sleep(deadline)).await
    }

    /// As [`shutdown`](Self::shutdown), with the deadline given as whatever ends the wait.
    pub async fn shutdown_when(mut self, deadline: impl Future<Output = ()>) -> Drained {
        drop(self.stop);
        self.tasks.close();
        let ended = async {
            let _ = (&mut self.leasing).await;
            self.tasks.wait().await;
        };
        let rest = tokio::select! {
            () = ended => Vec::new(),
            () = deadline => {
                // It ends soon, and may add a task until then.
                while !self.leasing.is_finished() {
                    time::sleep(Duration::from_millis(5)).await;
                }
                self.leases.surrender()
            }
        };
        let released = rest.len();
        if released > 0 {
            tracing::info!(released, "drain deadline passed; giving running tasks back");
            self.reporter.release(rest, RELEASE_LIMIT).await;
        }
        let runner = self.runner;
        // A runtime that is going away takes no such work, and ends the processes with this one.
        let _ = spawn_blocking(move || runner.end()).await;
        self.heartbeat.stop(RELEASE_LIMIT).await;
        Drained { released }
    }
}

//! One server from its options: opens the data directory, serves on a listener that the caller
//! bound, and stops within a deadline. Knows neither flags nor signals, so that tests and the
//! client's local mode start it in process.

mod data_dir;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use dual16_proto::{
    blob::{CONNECTION_WINDOW_BYTES, FRAME_BYTES, STREAM_WINDOW_BYTES},
    v1::{
        blob_service_server::BlobServiceServer, info_service_server::InfoServiceServer,
        job_service_server::JobServiceServer, worker_service_server::WorkerServiceServer,
    },
};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::transport::{
    Server,
    server::{Router, TcpIncoming},
};

use self::data_dir::DataDir;
use crate::{
    clock::{Clock, SystemClock},
    job::Machine,
    limits::Limits,
    rpc::{App, BlobApi, InfoApi, JobApi, WorkerApi},
    store::{StoreConfig, StoreError},
    wake::Wakeups,
};

/// A connection that answers no ping within the two is dead, and its uploads are free again.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Calls that one connection may have open.
const MAX_STREAMS: u32 = 2048;
/// Least and greatest time between two looks for expired leases.
const EXPIRY_TICK: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// What a server is started with.
#[derive(Clone)]
pub struct ServerOptions {
    /// Directory of the job store and the blobs; made if it is not there.
    pub data: PathBuf,
    /// What the server accepts.
    pub limits: Limits,
    /// Time a worker has between two heartbeats. A restarted server waits as long for the workers
    /// of its predecessor.
    pub lease_ttl: Duration,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
}

impl ServerOptions {
    /// The defaults over a data directory.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self {
            data: data.into(),
            limits: Limits::default(),
            lease_ttl: Duration::from_secs(30),
            clock: Arc::new(SystemClock::new()),
        }
    }
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be used.
    #[error("data directory {path}: {source}; it must be a directory this user can write")]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another server has it.
    #[error(
        "data directory {path} is in use by another server; stop that one or use another --data"
    )]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The job store in it cannot be opened.
    #[error("job store in {path}: {source}")]
    Store {
        /// The directory.
        path: PathBuf,
        /// What the store said.
        source: StoreError,
    },
    /// The listener is not usable.
    #[error("listener: {0}")]
    Listener(std::io::Error),
    /// The API's own description is not usable.
    #[error("reflection: {0}")]
    Reflection(tonic_reflection::server::Error),
}

/// A server at work. Dropped without [`RunningServer::shutdown`], it stops without waiting for
/// anyone; acknowledged writes are on disk either way.
pub struct RunningServer {
    addr: SocketAddr,
    app: Arc<App>,
    serving: JoinHandle<Result<(), tonic::transport::Error>>,
    expiry: JoinHandle<()>,
    /// Keeps other servers out of the data directory.
    _data: DataDir,
}

/// Starts a server on `listener`.
pub async fn start(
    options: ServerOptions,
    listener: TcpListener,
) -> Result<RunningServer, StartError> {
    let ServerOptions {
        data,
        limits,
        lease_ttl,
        clock,
    } = options;
    let addr = listener.local_addr().map_err(StartError::Listener)?;
    let config = StoreConfig {
        machine: Machine {
            max_attempts: Limits::count(limits.attempts).max(1),
            max_stages: Limits::count(limits.stages).max(1),
        },
        max_open_jobs: limits.queued_jobs,
    };
    let now = clock.now();
    let opening = tokio::task::spawn_blocking(move || {
        let data = DataDir::lock(data)?;
        let store = data.open_store(config, now, lease_ttl)?;
        let blobs = data.open_blobs()?;
        Ok((data, store, blobs))
    });
    let (data, store, blobs) = opening
        .await
        .map_err(|stopped| StartError::Listener(std::io::Error::other(stopped)))??;
    let app = Arc::new(App {
        store,
        blobs,
        clock,
        lease_ttl,
        wakeups: Arc::new(Wakeups::default()),
        watchers: Arc::new(Semaphore::new(
            Limits::len(limits.watchers).min(Semaphore::MAX_PERMITS),
        )),
        limits,
        shutdown: CancellationToken::new(),
    });
    let router = router(&app).await?;
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let stop = app.shutdown.clone().cancelled_owned();
    let serving = tokio::spawn(router.serve_with_incoming_shutdown(incoming, stop));
    let expiry = tokio::spawn(expire_leases(Arc::clone(&app)));
    Ok(RunningServer {
        addr,
        app,
        serving,
        expiry,
        _data: data,
    })
}

impl RunningServer {
    /// The address that the server listens on.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns if the server stops by itself, which only a failure makes it do.
    pub async fn stopped(&mut self) -> String {
        match (&mut self.serving).await {
            Ok(Ok(())) => "the server stopped".into(),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        }
    }

    /// Stops: no new connections, long polls and event streams end at once, calls under way have
    /// until `deadline` from now. On return the data directory is free.
    pub async fn shutdown(mut self, deadline: Duration) {
        self.app.shutdown.cancel();
        if !self.serving.is_finished()
            && tokio::time::timeout(deadline, &mut self.serving)
                .await
                .is_err()
        {
            // A silent connection would keep tonic waiting for ever.
            tracing::warn!("connections were still open at the shutdown deadline");
        }
        self.expiry.abort();
        let store = Arc::clone(&self.app.store);
        match tokio::task::spawn_blocking(move || store.close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the store did not close cleanly"),
            Err(error) => tracing::error!(%error, "the store did not close cleanly"),
        }
    }
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        self.app.shutdown.cancel();
        self.serving.abort();
        self.expiry.abort();
    }
}

async fn router(app: &Arc<App>) -> Result<Router, StartError> {
    let max = Limits::len(app.limits.message_bytes);
    let jobs = JobServiceServer::new(JobApi(Arc::clone(app))).max_decoding_message_size(max);
    let blobs = BlobServiceServer::new(BlobApi(Arc::clone(app))).max_decoding_message_size(max);
    let workers =
        WorkerServiceServer::new(WorkerApi(Arc::clone(app))).max_decoding_message_size(max);
    let info = InfoServiceServer::new(InfoApi(Arc::clone(app))).max_decoding_message_size(max);

    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<JobServiceServer<JobApi>>().await;
    reporter.set_serving::<BlobServiceServer<BlobApi>>().await;
    reporter
        .set_serving::<WorkerServiceServer<WorkerApi>>()
        .await;
    reporter.set_serving::<InfoServiceServer<InfoApi>>().await;

    let described = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(dual16_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let reflection = described().build_v1().map_err(StartError::Reflection)?;
    // What older tools and Python's own client still ask for.
    let reflection_v1alpha = described()
        .build_v1alpha()
        .map_err(StartError::Reflection)?;

    Ok(Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .max_concurrent_streams(MAX_STREAMS)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .add_service(health)
        .add_service(reflection)
        .add_service(reflection_v1alpha)
        .add_service(jobs)
        .add_service(blobs)
        .add_service(workers)
        .add_service(info))
}

/// Fails the attempts whose workers have fallen silent.
async fn expire_leases(app: Arc<App>) {
    let mut tick = tokio::time::interval((app.lease_ttl / 10).clamp(EXPIRY_TICK.0, EXPIRY_TICK.1));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = app.shutdown.cancelled() => return,
            _ = tick.tick() => {}
        }
        if let Err(error) = app.change(|store, now| store.expire(now)).await {
            tracing::error!(%error, "expired leases were not handled");
        }
    }
}

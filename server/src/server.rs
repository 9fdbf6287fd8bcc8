//! One server from its options: opens the data directory, serves on a listener that the caller
//! bound, and stops within a deadline. Knows neither flags nor signals, so that tests and the
//! client's local mode start it in process.

mod blob_place;
mod blob_uses;
pub(crate) mod data_dir;
mod protection;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use dual16_proto::{
    externalscaler::external_scaler_server::ExternalScalerServer,
    v1::{
        blob_service_server::BlobServiceServer, info_service_server::InfoServiceServer,
        job_service_server::JobServiceServer, worker_service_server::WorkerServiceServer,
    },
};
use dual16_telemetry::ops::{Observed, connections};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic_health::pb::health_server::{Health, HealthServer};

pub(crate) use self::blob_uses::StoreUses;
use self::{blob_place::Opened, data_dir::DataDir, protection::Protection};
use crate::{
    access::{AccessOptions, Exposed, Guard, audit::Audit, tokens::TokensError},
    blob::{BlobError, InvalidUrl, Place, Presign, Uses},
    clock::{Clock, SystemClock},
    durability::Durability,
    job::{Backoff, Machine},
    limits::{LimitError, Limits},
    listener,
    metrics::Metrics,
    observer::Observer,
    page,
    policy::{CHECK_BYTES, Mismatch, Policies},
    reload::Reloader,
    rpc::{App, BlobApi, InfoApi, JobApi, Perimeter, ScalerApi, WorkerApi},
    store::{
        InvalidUrl as InvalidDatabaseUrl, PostgresStore, Quota, StoreConfig, StoreError,
        check_database,
    },
    tls::TlsError,
    upkeep::{self, Keeping},
    wake::Wakeups,
};

/// How long the last write of the store may take at shutdown.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// The live page's connections. A stream of events is one, and goes on in a new one after that time.
const PAGE_BOUNDS: connections::Bounds = connections::Bounds {
    connections: 128,
    headers: Duration::from_secs(5),
    lifetime: Duration::from_secs(3600),
};

/// How long the last lines of the audit log may take.
const AUDIT_LIMIT: Duration = Duration::from_secs(1);
/// Bytes of a question about the API itself.
const REFLECTION_BYTES: usize = 16 << 10;

/// Long enough for a passing trouble to pass, short beside the work of a task.
const DEFAULT_BACKOFF: Backoff = Backoff {
    first: Duration::from_millis(500),
    cap: Duration::from_secs(30),
};

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
    /// How long ended jobs, and blobs that no job keeps, stay.
    pub keeping: Keeping,
    /// URL of a PostgreSQL database for the jobs, which other servers may share; without one they are in the
    /// data directory.
    pub store: Option<String>,
    /// URL of the place of the blobs, as [`Place`] reads it; without one they are in the data directory.
    pub blobs: Option<String>,
    /// Whether who downloads gets a URL into the object store of the blobs rather than the bytes, and how.
    pub presign: Option<Presign>,
    /// Waits between the attempts of a task that failed.
    pub backoff: Backoff,
    /// Who may call, and how. By default everyone on this machine, everything.
    pub access: AccessOptions,
    /// How often files that are read again when they change are looked at.
    pub look_for_changes: Duration,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
    /// Whether writes are waited for until they are on the disk. By default always.
    pub durability: Durability,
}

impl ServerOptions {
    /// The defaults over a data directory.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self {
            data: data.into(),
            limits: Limits::default(),
            lease_ttl: Duration::from_secs(30),
            keeping: Keeping::default(),
            store: None,
            blobs: None,
            presign: None,
            backoff: DEFAULT_BACKOFF,
            access: AccessOptions::default(),
            look_for_changes: Duration::from_secs(5),
            clock: Arc::new(SystemClock::new()),
            durability: Durability::default(),
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
    #[error("job store in {path}: {source}{}", remedy(source))]
    Store {
        /// The directory.
        path: PathBuf,
        /// What the store said.
        source: StoreError,
    },
    /// The URL of the database is none.
    #[error("--store: {0}")]
    DatabaseUrl(#[from] InvalidDatabaseUrl),
    /// The database of the jobs cannot be used.
    #[error("--store: {0}")]
    Database(StoreError),
    /// The URL names no place for blobs.
    #[error(transparent)]
    BlobsUrl(#[from] InvalidUrl),
    /// Files have no URLs.
    #[error("--presign is for blobs in an object store: --blobs must be s3://, gs:// or az://")]
    PresignFiles,
    /// The place of the blobs cannot be used.
    #[error(
        "--blobs {url}: {source}; the bucket must be there, and this server allowed to read, write, list and delete in it"
    )]
    Blobs {
        /// The place.
        url: String,
        /// What went wrong.
        source: BlobError,
    },
    /// There was a job store, and it is gone.
    #[error("data directory {path} has \"{rest}\" but no \"store\": {remedy}")]
    StoreGone {
        /// The directory.
        path: PathBuf,
        /// What is left.
        rest: String,
        /// What has happened to it, and what to do.
        remedy: String,
    },
    /// A limit cannot hold.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// Strangers could reach it.
    #[error(transparent)]
    Exposed(#[from] Exposed),
    /// The tokens file cannot be read, or is wrong.
    #[error("--tokens {path}: {source}")]
    Tokens {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: TokensError,
    },
    /// TLS cannot be had from its files.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The audit log cannot be written.
    #[error("--audit-log {path}: {source}")]
    AuditLog {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The listener is not usable.
    #[error("listener: {0}")]
    Listener(std::io::Error),
    /// A method was forgotten in the table of policies.
    #[error(transparent)]
    Policy(#[from] Mismatch),
    /// The API's own description is not usable.
    #[error("reflection: {0}")]
    Reflection(tonic_reflection::server::Error),
}

/// What an operator can do about a store that cannot be opened.
fn remedy(error: &StoreError) -> &'static str {
    match error {
        StoreError::Corrupt(_) => {
            "; `dual16-server check` says what is damaged, `repair` saves what can be read"
        }
        StoreError::Format { .. } => "; use the version that wrote it, or another --data",
        _ => "",
    }
}

/// A server at work. Dropped without [`RunningServer::shutdown`], it stops without waiting for
/// anyone; acknowledged writes are on disk either way.
pub struct RunningServer {
    addr: SocketAddr,
    app: Arc<App>,
    serving: JoinHandle<()>,
    upkeep: Vec<JoinHandle<()>>,
    reloader: Reloader,
    guard: Arc<Guard>,
    policies: Policies,
    audit: Arc<Audit>,
    /// Held while the data directory is tried.
    probing: Arc<tokio::sync::Mutex<()>>,
    /// Keeps other servers out of the data directory.
    data: DataDir,
    /// The same for a directory of blobs elsewhere.
    _blobs_dir: Option<DataDir>,
}

/// Starts a server on `listener`.
pub async fn start(
    options: ServerOptions,
    listener: TcpListener,
) -> Result<RunningServer, StartError> {
    let ServerOptions {
        data,
        mut limits,
        lease_ttl,
        keeping,
        store,
        blobs,
        presign,
        backoff,
        access,
        look_for_changes,
        clock,
        durability,
    } = options;
    limits.check()?;
    // Not where the command line is read, which would print the URL, password and all.
    store.as_deref().map_or(Ok(()), check_database)?;
    let blobs: Option<Place> = blobs.map(|url| url.parse()).transpose()?;
    if presign.is_some() && !matches!(blobs, Some(Place::Bucket(_))) {
        return Err(StartError::PresignFiles);
    }
    let addr = listener.local_addr().map_err(StartError::Listener)?;
    access.check_exposure(addr)?;
    let policies = Policies::new()?;
    let protection = Protection::open(access, Arc::clone(&clock))?;
    let config = StoreConfig {
        machine: Machine {
            max_attempts: Limits::count(limits.attempts).max(1),
            max_stages: Limits::count(limits.stages).max(1),
            backoff,
        },
        max_open_jobs: limits.queued_jobs,
        quota: Quota {
            open_jobs: limits.owner_jobs,
            bytes: limits.owner_bytes,
        },
    };
    let (now, embedded) = (clock.now(), store.is_none());
    let opening = tokio::task::spawn_blocking(move || {
        let data = DataDir::lock(data)?.with_durability(durability);
        let blobs = Opened::open(&data, blobs, &mut limits)?;
        let store = match embedded {
            true => Some(data.open_store(config, now, lease_ttl, blobs.local())?),
            false => None,
        };
        Ok::<_, StartError>((data, store, blobs, limits))
    });
    let (data, embedded, place, limits) = opening
        .await
        .map_err(|stopped| StartError::Listener(std::io::Error::other(stopped)))??;
    let (store, clock) = match (embedded, store) {
        (Some(store), _) => {
            // The grace begins when the server can listen, however long it took to open the store.
            let extended = store.extend_leases(clock.now().after(lease_ttl)).await;
            extended.map_err(|source| StartError::Store {
                path: data.path().join("store"),
                source,
            })?;
            (store, clock)
        }
        (None, url) => {
            let url = url.unwrap_or_default();
            let store = PostgresStore::open(&url, config, None, lease_ttl).await;
            let store = store.map_err(StartError::Database)?;
            let clock = store.clock();
            (Arc::new(store) as _, clock)
        }
    };
    let uses: Arc<dyn Uses> = Arc::new(StoreUses {
        store: Arc::clone(&store),
        clock: Arc::clone(&clock),
    });
    let blobs = place.connect(presign.as_ref(), Arc::clone(&uses)).await?;
    let app = Arc::new(App {
        store,
        blobs,
        clock,
        lease_ttl,
        wakeups: Arc::new(Wakeups::default()),
        quarantine: Arc::default(),
        room: place.room(),
        metrics: Metrics::new(),
        watchers: Arc::new(Semaphore::new(
            Limits::len(limits.watchers).min(Semaphore::MAX_PERMITS),
        )),
        limits,
        shutdown: CancellationToken::new(),
    });
    let Protection {
        guard,
        tls,
        reloader,
        audit,
    } = protection;
    let guard = Arc::new(guard);
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<JobServiceServer<JobApi>>().await;
    reporter.set_serving::<BlobServiceServer<BlobApi>>().await;
    reporter
        .set_serving::<WorkerServiceServer<WorkerApi>>()
        .await;
    reporter.set_serving::<InfoServiceServer<InfoApi>>().await;
    reporter
        .set_serving::<ExternalScalerServer<ScalerApi>>()
        .await;
    let (metrics, routes) = (app.metrics.calls.clone(), routes(&app, health)?);
    let perimeter = Perimeter::new(
        policies.clone(),
        Arc::clone(&guard),
        Arc::clone(&audit),
        metrics,
        &app.limits,
        routes,
    );
    let call = move |peer, request| perimeter.clone().call(peer, request);
    let serving = listener::serve(listener, tls, &app.limits, call, app.shutdown.clone());
    let upkeep = upkeep::start(&app, uses, data.disk().clone(), keeping, reporter);
    tokio::spawn(reloader.clone().run(look_for_changes, app.shutdown.clone()));
    Ok(RunningServer {
        addr,
        app,
        serving,
        upkeep,
        reloader,
        guard,
        policies,
        audit,
        probing: Arc::default(),
        data,
        _blobs_dir: place.elsewhere,
    })
}

impl RunningServer {
    /// The address that the server listens on.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Reads tokens and certificates again, and opens the audit log again. What cannot be read
    /// stays as it was, and the log says so.
    pub async fn reload(&self) {
        self.reloader.reload(true).await;
    }

    /// What an ops port shows of this server.
    pub fn observed(&self) -> Arc<dyn Observed> {
        Arc::new(Observer {
            app: Arc::clone(&self.app),
            data: self.data.path().to_owned(),
            probing: Arc::clone(&self.probing),
        })
    }

    /// Serves the live page on `listener`, until the server stops.
    pub fn serve_page(&mut self, listener: TcpListener) {
        let router = page::router(&self.app, Arc::clone(&self.guard), self.policies.clone());
        let stop = self.app.shutdown.clone();
        self.upkeep.push(tokio::spawn(async move {
            stop.run_until_cancelled(connections::serve(listener, router, PAGE_BOUNDS))
                .await;
        }));
    }

    /// Returns if the server stops by itself, which only a failure makes it do.
    pub async fn stopped(&mut self) -> String {
        match (&mut self.serving).await {
            Ok(()) => "the server stopped".into(),
            Err(error) => error.to_string(),
        }
    }

    /// Stops: no new connections, long polls and event streams end at once, calls under way have
    /// until `deadline` from now. On return, a few seconds later at most, the data directory is free
    /// unless its disk does not answer.
    pub async fn shutdown(mut self, deadline: Duration) {
        self.app.shutdown.cancel();
        if !self.serving.is_finished()
            && tokio::time::timeout(deadline, &mut self.serving)
                .await
                .is_err()
        {
            tracing::warn!("connections were still open at the shutdown deadline");
        }
        self.upkeep.iter().for_each(JoinHandle::abort);
        match tokio::time::timeout(CLOSE_LIMIT, self.app.store.close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the store did not close cleanly"),
            // Everything that was acknowledged is on disk.
            Err(_) => tracing::error!("the disk did not answer in time; the store was not closed"),
        }
        self.audit.flush(AUDIT_LIMIT).await;
    }
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        self.app.shutdown.cancel();
        self.serving.abort();
        self.upkeep.iter().for_each(JoinHandle::abort);
    }
}

/// Every service.
fn routes(app: &Arc<App>, health: HealthServer<impl Health>) -> Result<Routes, StartError> {
    let max = Limits::len(app.limits.message_bytes);
    let jobs = JobServiceServer::new(JobApi(Arc::clone(app))).max_decoding_message_size(max);
    let blobs = BlobServiceServer::new(BlobApi(Arc::clone(app))).max_decoding_message_size(max);
    let workers =
        WorkerServiceServer::new(WorkerApi(Arc::clone(app))).max_decoding_message_size(max);
    let info = InfoServiceServer::new(InfoApi(Arc::clone(app))).max_decoding_message_size(max);
    let scaler =
        ExternalScalerServer::new(ScalerApi(Arc::clone(app))).max_decoding_message_size(max);

    let described = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(dual16_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let reflection = described().build_v1().map_err(StartError::Reflection)?;
    let reflection = reflection.max_decoding_message_size(REFLECTION_BYTES);
    // What older tools and Python's own client still ask for.
    let reflection_v1alpha = described()
        .build_v1alpha()
        .map_err(StartError::Reflection)?
        .max_decoding_message_size(REFLECTION_BYTES);
    let health = health.max_decoding_message_size(Limits::len(CHECK_BYTES));

    Ok(Routes::new(health)
        .add_service(reflection)
        .add_service(reflection_v1alpha)
        .add_service(jobs)
        .add_service(blobs)
        .add_service(workers)
        .add_service(info)
        .add_service(scaler)
        .prepare())
}

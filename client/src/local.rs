//! The cluster in this process: a server and a worker that talk gRPC over a loopback port, on the
//! same code as their own binaries. It lasts as long as the command that needs it; its state lies
//! in a folder and outlasts it.
//!
//! Knows nothing of jobs: the command talks to it through the same client as to any server.

mod unsettled;

use std::{
    fs,
    net::Ipv4Addr,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    time::Duration,
};

use dual16_proto::digest::Digest;
use dual16_rpc::credentials::TokenSource;
use dual16_server::{RunningServer, ServerOptions};
use dual16_worker::{RunningWorker, WorkerOptions};
use tokio::{net::TcpListener, task::JoinHandle};

use crate::error::Error;
use unsettled::Unsettled;

/// Folders of the server and of the worker in the state's.
const SERVER: &str = "server";
const WORKER: &str = "worker";

/// Running tasks get this long to end before they are given back.
const WORKER_DEADLINE: Duration = Duration::from_secs(2);
/// Open connections get this long to end before they are cut.
const SERVER_DEADLINE: Duration = Duration::from_secs(2);
/// A command that was killed comes back to find its tasks leased; it should not wait long for them.
const LEASE_TTL: Duration = Duration::from_secs(10);
/// The server is in this process: it answers at once or never.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A job that has run for this long is worth to be waited for at the disk.
const SETTLES_AFTER: Duration = Duration::from_secs(5);

/// A running server and, unless only its state is wanted, a worker.
pub struct LocalCluster {
    url: String,
    server: RunningServer,
    worker: Option<RunningWorker>,
    /// Waits until the state is worth it.
    settling: Option<JoinHandle<()>>,
}

/// What becomes of a cluster's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It outlives a loss of power from its first byte on.
    Kept,
    /// A command that is run again begins it again: in its first seconds it outlives the command only.
    OfOneCommand,
}

/// How many tasks run at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workers {
    /// None: the state is only looked at or changed.
    None,
    /// One for each core.
    Cores,
    /// This many.
    Count(NonZeroUsize),
}

impl LocalCluster {
    /// Starts a cluster on the state in the folder `data`, made where it is missing. With a `token`, it
    /// lets in who has it; without one, everyone on this machine.
    ///
    /// # Errors
    /// [`Error::Local`]: the folder cannot be used, or another cluster uses it.
    pub async fn start(
        data: &Path,
        state: State,
        workers: Workers,
        token: Option<String>,
    ) -> Result<Self, Error> {
        let failed = |what: &str, error: &dyn std::fmt::Display| {
            Error::Local(format!("{what} on {}: {error}", data.display()))
        };
        private_folder(data).map_err(|error| failed("cannot keep state", &error))?;
        let unsettled =
            Unsettled::begin(data, state).map_err(|error| failed("cannot keep state", &error))?;
        let mut options = ServerOptions::new(data.join(SERVER));
        if let Some(unsettled) = &unsettled {
            options.durability = unsettled.durability();
        }
        options.lease_ttl = LEASE_TTL;
        if let Some(token) = &token {
            let path = data.join("tokens.toml");
            fs::write(&path, tokens(token)).map_err(|error| failed("cannot keep state", &error))?;
            options.access.tokens = Some(path);
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .map_err(|error| Error::Local(format!("cannot listen on 127.0.0.1: {error}")))?;
        let server = dual16_server::start(options, listener)
            .await
            .map_err(|error| failed("cannot start the server", &error))?;
        let url = format!("http://{}", server.addr());
        match start_worker(&url, data.join(WORKER), workers, token).await {
            Ok(worker) => Ok(Self {
                url,
                server,
                worker,
                settling: unsettled
                    .map(|unsettled| tokio::spawn(unsettled.settle_after(SETTLES_AFTER))),
            }),
            Err(error) => {
                server.shutdown(SERVER_DEADLINE).await;
                Err(failed("cannot start the worker", &error))
            }
        }
    }

    /// The server's URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Stops the worker, which gives back what it has not finished, then the server.
    pub async fn shutdown(self) {
        if let Some(settling) = self.settling {
            settling.abort();
        }
        if let Some(worker) = self.worker {
            worker.shutdown(WORKER_DEADLINE).await;
        }
        self.server.shutdown(SERVER_DEADLINE).await;
    }
}

async fn start_worker(
    url: &str,
    cache: PathBuf,
    workers: Workers,
    token: Option<String>,
) -> Result<Option<RunningWorker>, dual16_worker::StartError> {
    let mut options = WorkerOptions::new(url, cache);
    match workers {
        Workers::None => return Ok(None),
        Workers::Cores => {}
        Workers::Count(count) => {
            options.slots = count;
            options.threads = count;
        }
    }
    options.credentials.token = token.map(TokenSource::Value);
    options.connect_timeout = Some(CONNECT_TIMEOUT);
    dual16_worker::start(options).await.map(Some)
}

/// The tokens file of a server that lets in whoever has this one, for everything.
fn tokens(token: &str) -> String {
    let hash = Digest::of(token.as_bytes()).hex();
    format!(
        "[[token]]\nprincipal = \"local\"\nroles = [\"admin\", \"worker\"]\nsha256 = \"{hash}\"\n"
    )
}

/// State holds copies of models and batches: nobody else's business.
fn private_folder(path: &Path) -> std::io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(0o700);
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    builder.create(path)
}

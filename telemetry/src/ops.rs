//! The plain HTTP port for the platform: is the process alive, may it be sent work, what does it
//! measure. Read only, and no part of the API: it needs no TLS, no token and no gRPC.
//!
//! It listens before the program is ready, so that a long start is "not ready" rather than dead.

pub mod connections;

use std::{
    future::Future,
    io,
    net::SocketAddr,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, OnceLock},
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{net::TcpListener, task::JoinHandle};

use self::connections::{Bounds, serve};
use crate::files;

/// OpenMetrics 1.0, which every Prometheus since 2.5 reads.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// An answer that may take a moment.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A program as its ops port shows it.
pub trait Observed: Send + Sync + 'static {
    /// Whether work may be sent here; otherwise one line that says why not.
    fn ready(&self) -> Answer<'_, Result<(), String>>;

    /// What somebody should look at although work may be sent here, on one line.
    fn remark(&self) -> Option<String> {
        None
    }

    /// Whether the program still does what it is for; otherwise one line that says why it should be
    /// started anew.
    fn alive(&self) -> Result<(), String> {
        Ok(())
    }

    /// All metrics as OpenMetrics text.
    fn metrics(&self) -> Answer<'_, String>;
}

type Slot = Arc<OnceLock<Arc<dyn Observed>>>;

/// The port at work; closed when dropped.
#[derive(Debug)]
pub struct OpsServer {
    addr: SocketAddr,
    observed: Attached,
    serving: JoinHandle<()>,
}

struct Attached(Slot);

impl std::fmt::Debug for Attached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0.get() {
            Some(_) => "attached",
            None => "starting",
        })
    }
}

/// Flags of the ops port, the same for every program that has one.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Operations")]
pub struct OpsArgs {
    /// Address of the plain HTTP port with /livez, /readyz and /metrics; port 0 takes a free one
    /// [default: none]
    #[arg(long, env = "DUAL16_OPS_LISTEN", value_name = "ADDRESS:PORT")]
    pub ops_listen: Option<SocketAddr>,
    /// Write the address of the ops port to this file, once it listens
    #[arg(
        long,
        env = "DUAL16_OPS_PORT_FILE",
        value_name = "FILE",
        requires = "ops_listen"
    )]
    pub ops_port_file: Option<PathBuf>,
}

impl OpsArgs {
    /// Starts the port, if one was asked for.
    ///
    /// # Errors
    /// The flag, and why the system refused it.
    pub async fn start(&self) -> Result<Option<OpsServer>, OpsError> {
        let Some(addr) = self.ops_listen else {
            return Ok(None);
        };
        let listening = OpsServer::start(addr).await;
        let server = listening.map_err(|source| OpsError::Listen { addr, source })?;
        if let Some(file) = &self.ops_port_file {
            let text = format!("{}\n", server.addr());
            files::write_whole(file, &text).map_err(|source| OpsError::PortFile {
                file: file.clone(),
                source,
            })?;
        }
        tracing::info!(addr = %server.addr(), "ops port listens");
        Ok(Some(server))
    }
}

/// Why there is no ops port.
#[derive(Debug, thiserror::Error)]
pub enum OpsError {
    /// The address cannot be listened on.
    #[error("--ops-listen {addr}: {source}")]
    Listen {
        /// As given.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("--ops-port-file {}: {source}", .file.display())]
    PortFile {
        /// As given.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl OpsServer {
    /// Listens on `addr`; port 0 takes a free one. Alive from now on, ready once a program is
    /// [attached](Self::attach) and says so.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub async fn start(addr: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        let slot = Slot::default();
        let router = Router::new()
            .route("/livez", get(alive))
            .route("/readyz", get(ready))
            .route("/metrics", get(metrics))
            .with_state(Arc::clone(&slot));
        let serving = tokio::spawn(serve(listener, router, Bounds::default()));
        Ok(Self {
            addr,
            observed: Attached(slot),
            serving,
        })
    }

    /// The address that it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Shows `program` from now on. A second program is not shown.
    pub fn attach(&self, program: Arc<dyn Observed>) {
        if self.observed.0.set(program).is_err() {
            tracing::debug!("the ops port shows another program already");
        }
    }
}

impl Drop for OpsServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn alive(State(slot): State<Slot>) -> Response {
    said("ok", slot.get().map_or(Ok(()), |program| program.alive()))
}

async fn ready(State(slot): State<Slot>) -> Response {
    let verdict = match slot.get() {
        Some(program) => program.ready().await,
        None => Err("starting".to_owned()),
    };
    let remark = slot.get().and_then(|program| program.remark());
    match (&verdict, remark) {
        (Ok(()), Some(remark)) => said(&format!("ready\n{remark}"), verdict),
        _ => said("ready", verdict),
    }
}

fn said(yes: &str, verdict: Result<(), String>) -> Response {
    match verdict {
        Ok(()) => format!("{yes}\n").into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

async fn metrics(State(slot): State<Slot>) -> Response {
    let Some(program) = slot.get() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "starting\n").into_response();
    };
    let text = program.metrics().await;
    ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response()
}

//! From a listener to HTTP/2: accepts connections, plain or TLS by the newest configuration, bounds how
//! many there are, and closes those that must not stay.
//!
//! By hand and over hyper, since tonic's own server has no limit of connections, reads certificates
//! once, waits for the first words of HTTP/2 without end, and keeps 400 KiB for each reader that does
//! not read. Who calls and what, this module must not know.

mod connection;

use std::{
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use dual16_rpc::blob::{CONNECTION_WINDOW_BYTES, FRAME_BYTES, STREAM_WINDOW_BYTES};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinHandle,
    time::{Instant, interval, timeout},
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig, server::TlsStream};
use tokio_stream::StreamExt as _;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{
    body::Body,
    codegen::http::{Request, Response},
    transport::server::TcpIncoming,
};

pub(crate) use self::connection::{Peer, Unread};
use crate::{limits::Limits, reload::Latest, tls};

/// A connection that answers no ping within the two is dead, and its uploads are free again.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// The system notices as well, within some two minutes: pings are only sent to those who have begun to
/// speak HTTP/2.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 4;
/// Bytes of one answer that HTTP/2 holds for a reader who has not taken them, beside the last piece.
const UNSENT_BYTES: usize = 16 << 10;
/// What a client says first: `PRI * HTTP/2.0`, some line ends, and `SM`.
const PREFACE_BYTES: usize = 24;
/// TLS handshakes under way; further connections wait in the system's queue.
const MAX_HANDSHAKES: usize = 512;
/// From the refusal of a handshake to the end of the connection.
const PARTING_TIMEOUT: Duration = Duration::from_secs(1);
/// Pause after the system refused a connection: no file descriptor is left, most likely.
const PAUSE: Duration = Duration::from_millis(100);
/// Between two warnings that all connections are taken.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);
/// How often it is looked at whether a connection may stay.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Serves `call` on the connections of `listener` until `stop`; ends when the last of them has.
pub(crate) fn serve<C, F>(
    listener: TcpListener,
    tls: Option<Latest<ServerConfig>>,
    limits: &Limits,
    call: C,
    stop: CancellationToken,
) -> JoinHandle<()>
where
    C: Fn(Arc<Peer>, Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let connections = Limits::len(limits.connections).clamp(1, Semaphore::MAX_PERMITS);
    let server = Server {
        tls,
        http: http(limits),
        call,
        free: Arc::new(Semaphore::new(connections)),
        awaited: Arc::default(),
        handshakes: Arc::new(Semaphore::new(MAX_HANDSHAKES)),
        patience: Duration::from_secs(limits.handshake_seconds),
        idle: Duration::from_secs(limits.upload_idle_seconds),
        stop,
        tasks: TaskTracker::new(),
    };
    tokio::spawn(async move {
        server
            .stop
            .run_until_cancelled(server.accept(listener))
            .await;
        server.tasks.close();
        server.tasks.wait().await;
    })
}

fn http(limits: &Limits) -> http2::Builder<TokioExecutor> {
    let mut http = http2::Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .max_concurrent_streams(Limits::count(limits.connection_streams))
        // Enough of the headers that are too large to answer them.
        .max_header_list_size(Limits::count(limits.header_bytes.saturating_mul(2)))
        .max_send_buf_size(UNSENT_BYTES)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    http
}

#[derive(Clone)]
struct Server<C> {
    tls: Option<Latest<ServerConfig>>,
    http: http2::Builder<TokioExecutor>,
    call: C,
    /// A permit for each connection that there may be.
    free: Arc<Semaphore>,
    /// None is free, and the next connection waits for one.
    awaited: Arc<AtomicBool>,
    handshakes: Arc<Semaphore>,
    /// From the connection to the end of the preface.
    patience: Duration,
    /// How long an answer waits for its reader.
    idle: Duration,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl<C, F> Server<C>
where
    C: Fn(Arc<Peer>, Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    async fn accept(&self, listener: TcpListener) {
        let mut incoming = TcpIncoming::from(listener)
            // Small messages must not wait for larger ones.
            .with_nodelay(Some(true))
            .with_keepalive(Some(KEEPALIVE_IDLE))
            .with_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .with_keepalive_retries(Some(KEEPALIVE_PROBES));
        let mut warned: Option<Instant> = None;
        loop {
            // Before the connection is accepted: one that is not costs no file descriptor.
            let Some(permit) = self.permit(&mut warned).await else {
                return;
            };
            let stream = match incoming.next().await {
                Some(Ok(stream)) => stream,
                Some(Err(error)) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                None => return,
            };
            let deadline = Instant::now() + self.patience;
            let server = self.clone();
            match &self.tls {
                None => drop(self.tasks.spawn(async move {
                    let peer = Peer::new(stream.peer_addr().ok(), Vec::new());
                    server.speak(stream, peer, deadline, permit).await;
                })),
                Some(tls) => {
                    let Ok(handshake) = Arc::clone(&self.handshakes).acquire_owned().await else {
                        return;
                    };
                    let config = tls.get();
                    drop(self.tasks.spawn(async move {
                        let handshaking = shake_hands(config, stream, deadline);
                        let shaken = server.stop.run_until_cancelled(handshaking).await.flatten();
                        drop(handshake);
                        if let Some(stream) = shaken {
                            let peer = peer_of(&stream);
                            server.speak(stream, peer, deadline, permit).await;
                        }
                    }));
                }
            }
        }
    }

    /// A permit for one more connection. Where there is none, others give way for it.
    async fn permit(&self, warned: &mut Option<Instant>) -> Option<OwnedSemaphorePermit> {
        if let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() {
            return Some(permit);
        }
        if warned.is_none_or(|warned| warned.elapsed() > WARNING_INTERVAL) {
            *warned = Some(Instant::now());
            tracing::warn!("all connections are taken (--limit-connections); new ones wait");
        }
        self.awaited.store(true, Ordering::Relaxed);
        let permit = Arc::clone(&self.free).acquire_owned().await.ok();
        self.awaited.store(false, Ordering::Relaxed);
        permit
    }

    /// Serves one connection until it ends, or must not stay.
    async fn speak(
        self,
        mut stream: impl AsyncRead + AsyncWrite + Send + 'static + Unpin,
        peer: Peer,
        deadline: Instant,
        _permit: OwnedSemaphorePermit,
    ) {
        let mut preface = [0; PREFACE_BYTES];
        let first_words = tokio::time::timeout_at(deadline, stream.read_exact(&mut preface));
        match self.stop.run_until_cancelled(first_words).await {
            Some(Ok(Ok(_))) => {}
            _ => return,
        }
        let (reading, writing) = tokio::io::split(stream);
        let stream = tokio::io::join(io::Cursor::new(preface).chain(reading), writing);
        let peer = Arc::new(peer);
        let (call, caller) = (self.call.clone(), Arc::clone(&peer));
        let service = service_fn(move |request| {
            let answer = call(Arc::clone(&caller), request);
            async move { Ok::<_, std::convert::Infallible>(answer.await) }
        });
        let mut serving = pin!(self.http.serve_connection(TokioIo::new(stream), service));
        let mut check = interval(CHECK_INTERVAL);
        let mut stopping = false;
        loop {
            tokio::select! {
                ended = &mut serving => {
                    if let Err(error) = ended {
                        tracing::debug!(peer = ?peer.addr, %error, "a connection failed");
                    }
                    return;
                }
                () = self.stop.cancelled(), if !stopping => {
                    stopping = true;
                    serving.as_mut().graceful_shutdown();
                }
                _ = check.tick() => {
                    if !self.may_stay(&peer, deadline) {
                        return;
                    }
                }
            }
        }
    }

    /// Strangers can take every connection, so those on which nobody has called who may give way once
    /// all are taken. And what HTTP/2 keeps for a reader that takes nothing, only the end of its
    /// connection frees.
    fn may_stay(&self, peer: &Peer, deadline: Instant) -> bool {
        let awaited = self.awaited.load(Ordering::Relaxed);
        if awaited && !peer.is_known() && Instant::now() >= deadline {
            tracing::debug!("a connection that nobody known uses gives way");
            return false;
        }
        if peer.has_unread_for(self.idle) {
            let seconds = self.idle.as_secs();
            tracing::info!(
                seconds,
                "a connection is closed: an answer waits on it and nothing was taken"
            );
            return false;
        }
        true
    }
}

async fn shake_hands(
    config: Arc<ServerConfig>,
    stream: TcpStream,
    deadline: Instant,
) -> Option<TlsStream<TcpStream>> {
    let peer = stream.peer_addr().ok();
    let handshake = TlsAcceptor::from(config).accept(stream).into_fallible();
    match tokio::time::timeout_at(deadline, handshake).await {
        Ok(Ok(stream)) => Some(stream),
        // At debug: anyone who scans ports can cause it.
        Ok(Err((error, stream))) => {
            tracing::debug!(?peer, %error, "TLS handshake failed");
            part(stream).await;
            None
        }
        Err(_) => {
            tracing::debug!(?peer, "TLS handshake did not end in time");
            None
        }
    }
}

fn peer_of(stream: &TlsStream<TcpStream>) -> Peer {
    let (tcp, session) = stream.get_ref();
    let certificate = session.peer_certificates().and_then(<[_]>::first);
    let names = certificate.map(tls::names_of).unwrap_or_default();
    Peer::new(tcp.peer_addr().ok(), names)
}

/// Closes a connection so that the alert gets there. A caller that was refused after it had sent its
/// first request has left bytes here that nobody read, and a socket that is closed over those resets
/// the connection, which overtakes what was sent before.
async fn part(mut stream: TcpStream) {
    let mut left = [0; 4096];
    let drain = async {
        stream.shutdown().await?;
        while stream.read(&mut left).await? > 0 {}
        io::Result::Ok(())
    };
    // Whatever becomes of it, the connection is closed now.
    let _ = timeout(PARTING_TIMEOUT, drain).await;
}

//! From a listener to the connections that HTTP is spoken on: plain, or TLS by the newest
//! configuration. A connection keeps what it was accepted with; the next one gets what is new.
//!
//! How many connections there are is bounded, and how many handshakes at once. A handshake is a task
//! of its own with a deadline, so that a slow or silent caller holds up nobody.

mod connection;
mod line;
mod seat;

use std::{io, sync::Arc, time::Duration};

use rustix::net::sockopt;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use self::seat::{Seat, Seats};
pub(crate) use self::{
    connection::{Connection, Peer},
    line::Line,
};
use crate::{limits::Limits, reload::Latest};

/// From the refusal to the end of the connection.
const PARTING_TIMEOUT: Duration = Duration::from_secs(1);
/// Handshakes under way; further connections wait in the system's queue.
const MAX_HANDSHAKES: usize = 512;
/// Pause after the system refused a connection: no file descriptor is left, most likely.
const PAUSE: Duration = Duration::from_millis(100);
/// Between two warnings that there is no place.
const TOLD: Duration = Duration::from_secs(60);
/// A connection whose other side is gone without a word is noticed by the system, too, within some
/// two minutes: pings are only sent to those who have begun to speak HTTP/2.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 4;
/// Connections that are ready and not yet taken.
const READY: usize = 16;

/// The connections of `listener` until `stop`.
pub(crate) fn connections(
    listener: TcpListener,
    tls: Option<Latest<ServerConfig>>,
    limits: &Limits,
    stop: CancellationToken,
) -> ReceiverStream<io::Result<Connection>> {
    let (ready, connections) = mpsc::channel(READY);
    let patience = Duration::from_secs(limits.handshake_seconds);
    let seats = Seats::new(Limits::len(limits.connections), patience);
    tokio::spawn(async move {
        stop.run_until_cancelled(accept(listener, tls, seats, ready))
            .await;
    });
    ReceiverStream::new(connections)
}

type Ready = mpsc::Sender<io::Result<Connection>>;

async fn accept(
    listener: TcpListener,
    tls: Option<Latest<ServerConfig>>,
    seats: Seats,
    ready: Ready,
) {
    let handshakes = Arc::new(Semaphore::new(MAX_HANDSHAKES));
    let mut told: Option<Instant> = None;
    loop {
        // Before the connection is accepted: one that is not costs no file descriptor.
        let place = match seats.free() {
            Some(place) => place,
            None => {
                if told.is_none_or(|told| told.elapsed() > TOLD) {
                    told = Some(Instant::now());
                    tracing::warn!(
                        "all connections are taken (--limit-connections); new ones wait"
                    );
                }
                let freed = tokio::select! {
                    () = ready.closed() => return,
                    freed = seats.freed() => freed,
                };
                let Some(place) = freed else { return };
                place
            }
        };
        let stream = tokio::select! {
            () = ready.closed() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            },
        };
        // Small messages must not wait for larger ones.
        if stream.set_nodelay(true).is_err() || keep_alive(&stream).is_err() {
            continue;
        }
        let seat = seats.seat(place);
        let Some(tls) = &tls else {
            let connection = Connection::plain(stream, seat);
            if ready.send(Ok(connection)).await.is_err() {
                return;
            }
            continue;
        };
        let Ok(permit) = Arc::clone(&handshakes).acquire_owned().await else {
            return;
        };
        let (config, ready) = (tls.get(), ready.clone());
        tokio::spawn(async move {
            if let Some(connection) = shake_hands(config, stream, seat).await {
                // Fails only when the server stops.
                let _ = ready.send(Ok(connection)).await;
            }
            drop(permit);
        });
    }
}

fn keep_alive(stream: &TcpStream) -> rustix::io::Result<()> {
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(stream, KEEPALIVE_PROBES)
}

async fn shake_hands(
    config: Arc<ServerConfig>,
    stream: TcpStream,
    seat: Seat,
) -> Option<Connection> {
    let peer = stream.peer_addr().ok();
    let handshake = TlsAcceptor::from(config).accept(stream).into_fallible();
    match timeout_at(seat.deadline, handshake).await {
        Ok(Ok(stream)) => Some(Connection::tls(stream, seat)),
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

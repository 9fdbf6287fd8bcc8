//! From a listener to the connections that HTTP is spoken on: plain, or TLS by the newest
//! configuration. A connection keeps what it was accepted with; the next one gets what is new.
//!
//! A handshake is a task of its own with a deadline, so that a slow or silent caller holds up
//! nobody; how many there are at once is bounded.

mod connection;

use std::{io, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

pub(crate) use self::connection::{Connection, Peer};
use crate::reload::Latest;

/// From the connection to the end of the handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// From the refusal to the end of the connection.
const PARTING_TIMEOUT: Duration = Duration::from_secs(1);
/// Handshakes under way; further connections wait in the system's queue.
const MAX_HANDSHAKES: usize = 512;
/// Pause after the system refused a connection: no file descriptor is left, most likely.
const PAUSE: Duration = Duration::from_millis(100);
/// Connections that are ready and not yet taken.
const READY: usize = 16;

/// The connections of `listener` until `stop`.
pub(crate) fn connections(
    listener: TcpListener,
    tls: Option<Latest<ServerConfig>>,
    stop: CancellationToken,
) -> ReceiverStream<io::Result<Connection>> {
    let (ready, connections) = mpsc::channel(READY);
    tokio::spawn(async move {
        stop.run_until_cancelled(accept(listener, tls, ready)).await;
    });
    ReceiverStream::new(connections)
}

type Ready = mpsc::Sender<io::Result<Connection>>;

async fn accept(listener: TcpListener, tls: Option<Latest<ServerConfig>>, ready: Ready) {
    let handshakes = Arc::new(Semaphore::new(MAX_HANDSHAKES));
    loop {
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
        if stream.set_nodelay(true).is_err() {
            continue;
        }
        let Some(tls) = &tls else {
            if ready.send(Ok(Connection::plain(stream))).await.is_err() {
                return;
            }
            continue;
        };
        let Ok(permit) = Arc::clone(&handshakes).acquire_owned().await else {
            return;
        };
        let (config, ready) = (tls.get(), ready.clone());
        tokio::spawn(async move {
            if let Some(connection) = shake_hands(config, stream).await {
                // Fails only when the server stops.
                let _ = ready.send(Ok(connection)).await;
            }
            drop(permit);
        });
    }
}

async fn shake_hands(config: Arc<ServerConfig>, stream: TcpStream) -> Option<Connection> {
    let peer = stream.peer_addr().ok();
    let handshake = TlsAcceptor::from(config).accept(stream).into_fallible();
    match timeout(HANDSHAKE_TIMEOUT, handshake).await {
        Ok(Ok(stream)) => Some(Connection::tls(stream)),
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

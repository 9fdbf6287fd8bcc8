//! A TCP proxy that does what networks do: answers take their time, and a connection dies without a
//! word. Neither side is told; new connections get through.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// A running proxy.
pub(crate) struct Proxy {
    pub(crate) url: String,
    /// For each connection, in the order they came, what kills it.
    connections: Arc<Mutex<Vec<CancellationToken>>>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Carries to `server` at once, and back after `lag`.
    pub(crate) async fn start(server: SocketAddr, lag: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let connections = Arc::new(Mutex::new(Vec::new()));
        let accepted = Arc::clone(&connections);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let dead = CancellationToken::new();
                accepted.lock().unwrap().push(dead.clone());
                let server = TcpStream::connect(server).await.unwrap();
                for stream in [&client, &server] {
                    stream.set_nodelay(true).unwrap();
                }
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                tokio::spawn(carry(from_client, to_server, Duration::ZERO, dead.clone()));
                tokio::spawn(carry(from_server, to_client, lag, dead));
            }
        });
        Self {
            url,
            connections,
            accepting,
        }
    }

    /// Connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.lock().unwrap().len()
    }

    /// From now on the connection carries nothing, and does not end.
    pub(crate) fn kill(&self, connection: usize) {
        self.connections.lock().unwrap()[connection].cancel();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    lag: Duration,
    dead: CancellationToken,
) {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let Some(read) = dead.run_until_cancelled(from.read(&mut buffer)).await else {
            // Holds both halves, so that neither side hears of it.
            return std::future::pending().await;
        };
        let Ok(count @ 1..) = read else { return };
        tokio::time::sleep(lag).await;
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

//! A TCP proxy that cuts connections after a number of bytes: the one way to lose a server at a
//! point of the stream that the test chooses.

use std::{collections::VecDeque, sync::Mutex};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, tcp},
    task::JoinHandle,
};

/// Bytes that a connection carries before it is cut.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    /// To the server.
    pub(crate) up: usize,
    /// From the server.
    pub(crate) down: usize,
}

/// A running proxy: each connection takes the next budget, and those after the last are left alone.
pub(crate) struct Proxy {
    pub(crate) url: String,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Stands before several servers: each connection goes to the next of them that is there.
    pub(crate) async fn service(addresses: Vec<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let accepting = tokio::spawn(async move {
            let mut next = 0;
            while let Ok((client, _)) = listener.accept().await {
                next += 1;
                let mut turn = addresses.clone();
                turn.rotate_left(next % addresses.len());
                tokio::spawn(async move {
                    for address in turn {
                        if let Ok(server) = TcpStream::connect(address).await {
                            return carry(client, server, None).await;
                        }
                    }
                });
            }
        });
        Self { url, accepting }
    }

    /// Stands before the server at `address`.
    pub(crate) async fn before(address: &str, budgets: Vec<Budget>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (address, budgets) = (address.to_owned(), Mutex::new(VecDeque::from(budgets)));
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let budget = budgets.lock().unwrap().pop_front();
                let address = address.clone();
                tokio::spawn(async move {
                    if let Ok(server) = TcpStream::connect(address).await {
                        carry(client, server, budget).await;
                    }
                });
            }
        });
        Self { url, accepting }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Carries both ways until one of them has used up its budget or has ended; then both are cut.
async fn carry(client: TcpStream, server: TcpStream, budget: Option<Budget>) {
    for stream in [&client, &server] {
        stream.set_nodelay(true).unwrap();
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let (up, down) = budget.map_or((usize::MAX, usize::MAX), |budget| (budget.up, budget.down));
    tokio::select! {
        () = copy(from_client, to_server, up) => {}
        () = copy(from_server, to_client, down) => {}
    }
}

async fn copy(mut from: tcp::OwnedReadHalf, mut to: tcp::OwnedWriteHalf, budget: usize) {
    let mut left = budget;
    let mut buffer = vec![0; 8 << 10];
    while left > 0 {
        let wanted = buffer.len().min(left);
        let Ok(count @ 1..) = from.read(&mut buffer[..wanted]).await else {
            return;
        };
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
        left -= count;
    }
}

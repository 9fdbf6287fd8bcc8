//! A TCP proxy that cuts connections after a number of bytes: the one honest way to lose a server
//! in mid-stream.

use std::{collections::VecDeque, net::SocketAddr, sync::Mutex};

use tokio::{
    io::{self, AsyncReadExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// More than any connection carries.
pub(crate) const UNLIMITED: u64 = u64::MAX;

/// A running proxy. Connections may carry so many bytes to the client, those after the last one `rest`.
pub(crate) struct Proxy {
    pub(crate) url: String,
    accepting: JoinHandle<()>,
}

impl Proxy {
    pub(crate) async fn start(
        server: SocketAddr,
        budgets: impl IntoIterator<Item = u64>,
        rest: u64,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let budgets: Mutex<VecDeque<_>> = Mutex::new(budgets.into_iter().collect());
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let budget = budgets.lock().unwrap().pop_front().unwrap_or(rest);
                tokio::spawn(carry(client, server, budget));
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

/// Carries both ways until the budget is used up, then cuts both at once.
async fn carry(client: TcpStream, server: SocketAddr, budget: u64) {
    if budget == 0 {
        return;
    }
    let server = TcpStream::connect(server).await.unwrap();
    let (mut from_client, mut to_client) = client.into_split();
    let (from_server, mut to_server) = server.into_split();
    let mut from_server = from_server.take(budget);
    // However it ends, it is over.
    tokio::select! {
        _ = io::copy(&mut from_client, &mut to_server) => {}
        _ = io::copy(&mut from_server, &mut to_client) => {}
    }
}

//! A TCP proxy that cuts connections after a number of bytes: the one honest way to lose a server
//! in mid-stream.

use std::{collections::VecDeque, net::SocketAddr, sync::Mutex};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinHandle,
};

/// How many bytes a connection may carry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    /// To the server.
    pub(crate) up: usize,
    /// To the client.
    pub(crate) down: usize,
}

impl Budget {
    pub(crate) const NONE: Self = Self { up: 0, down: 0 };
    pub(crate) const UNLIMITED: Self = Self {
        up: usize::MAX,
        down: usize::MAX,
    };

    pub(crate) fn up(up: usize) -> Self {
        Self {
            up,
            ..Self::UNLIMITED
        }
    }

    pub(crate) fn down(down: usize) -> Self {
        Self {
            down,
            ..Self::UNLIMITED
        }
    }
}

/// A running proxy; connections take their budgets in turn, those after the last one `rest`.
pub(crate) struct Proxy {
    pub(crate) url: String,
    accepting: JoinHandle<()>,
}

impl Proxy {
    pub(crate) async fn start(
        server: SocketAddr,
        budgets: impl IntoIterator<Item = Budget>,
        rest: Budget,
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

/// Carries both ways until one budget is used up, then cuts both at once.
async fn carry(client: TcpStream, server: SocketAddr, budget: Budget) {
    if budget.up == 0 {
        return;
    }
    let server = TcpStream::connect(server).await.unwrap();
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let up = copy(from_client, to_server, budget.up);
    let down = copy(from_server, to_client, budget.down);
    tokio::select! {
        () = up => {}
        () = down => {}
    }
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut budget: usize) {
    let mut buffer = vec![0; 16 << 10];
    while budget > 0 {
        let wanted = buffer.len().min(budget);
        let Ok(count @ 1..) = from.read(&mut buffer[..wanted]).await else {
            return;
        };
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
        budget -= count;
    }
}

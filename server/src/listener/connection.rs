//! What a connection and the calls on it tell each other.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

/// The other side of a connection.
#[derive(Debug, Default)]
pub(crate) struct Peer {
    pub(crate) addr: Option<SocketAddr>,
    /// DNS names and URIs of the verified client certificate; none without one.
    pub(crate) certificate_names: Vec<String>,
    known: AtomicBool,
    next: AtomicU64,
    /// Since when the answers wait that the peer has to take a piece of.
    unread: Mutex<HashMap<u64, Instant>>,
}

impl Peer {
    pub(crate) fn new(addr: Option<SocketAddr>, certificate_names: Vec<String>) -> Self {
        Self {
            addr,
            certificate_names,
            ..Self::default()
        }
    }

    /// Notes that someone calls on the connection who may.
    pub(crate) fn is_now_known(&self) {
        self.known.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_known(&self) -> bool {
        self.known.load(Ordering::Relaxed)
    }

    /// Whether the peer has left some answer unread for so long.
    pub(super) fn has_unread_for(&self, idle: Duration) -> bool {
        let now = Instant::now();
        let unread = self.unread();
        unread
            .values()
            .any(|since| now.duration_since(*since) >= idle)
    }

    fn unread(&self) -> MutexGuard<'_, HashMap<u64, Instant>> {
        self.unread.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells the connection whether its peer has to take a piece of one answer.
#[derive(Debug)]
pub(crate) struct Unread {
    peer: Arc<Peer>,
    number: u64,
}

impl Unread {
    pub(crate) fn new(peer: Arc<Peer>) -> Self {
        let number = peer.next.fetch_add(1, Ordering::Relaxed);
        Self { peer, number }
    }

    /// A piece was handed out, and the next one is not asked for before it has left.
    pub(crate) fn begins(&self) {
        self.peer.unread().insert(self.number, Instant::now());
    }

    pub(crate) fn ends(&self) {
        self.peer.unread().remove(&self.number);
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        self.ends();
    }
}

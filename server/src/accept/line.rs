//! What a connection and the calls on it tell each other.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// One connection, as both sides of it here see it. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Line(Arc<State>);

#[derive(Debug, Default)]
struct State {
    known: AtomicBool,
    written: AtomicU64,
    cut: CancellationToken,
}

impl Line {
    /// Notes that someone calls on it who may.
    pub(crate) fn knows_its_caller(&self) {
        self.0.known.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_known(&self) -> bool {
        self.0.known.load(Ordering::Relaxed)
    }

    /// Bytes that it has carried to the other side.
    pub(crate) fn written(&self) -> u64 {
        self.0.written.load(Ordering::Relaxed)
    }

    pub(super) fn wrote(&self, bytes: usize) {
        self.0.written.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Closes it, whatever is under way.
    pub(crate) fn cut(&self) {
        self.0.cut.cancel();
    }

    pub(super) fn is_cut(&self) -> WaitForCancellationFutureOwned {
        self.0.cut.clone().cancelled_owned()
    }
}

//! Whether the server answers, so that an outage is one log line when it begins and one when it
//! ends, however many calls fail in between.

use std::sync::atomic::{AtomicBool, Ordering};

use tonic::Status;

/// Shared by everything that calls the server.
#[derive(Debug)]
pub(crate) struct Link {
    server: String,
    up: AtomicBool,
}

impl Link {
    pub(crate) fn new(server: &str) -> Self {
        Self {
            server: server.to_owned(),
            up: AtomicBool::new(true),
        }
    }

    /// Whether the last call got through.
    pub(crate) fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// A call got through.
    pub(crate) fn answered(&self) {
        if !self.up.swap(true, Ordering::Relaxed) {
            tracing::info!(server = %self.server, "server answers again");
        }
    }

    /// A call did not get through and will be tried again.
    pub(crate) fn failed(&self, status: &Status) {
        if self.up.swap(false, Ordering::Relaxed) {
            tracing::warn!(
                server = %self.server,
                code = ?status.code(),
                error = status.message(),
                "server does not answer; trying on"
            );
        }
    }
}

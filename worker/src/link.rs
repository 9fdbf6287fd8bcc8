//! Whether the server answers and gives tasks, so that an outage is one log line when it begins and
//! one when it ends, however many calls fail in between.

use std::sync::atomic::{AtomicBool, Ordering};

use tonic::Status;

/// Shared by everything that calls the server.
#[derive(Debug)]
pub(crate) struct Link {
    server: String,
    up: AtomicBool,
    refused: AtomicBool,
}

impl Link {
    pub(crate) fn new(server: &str) -> Self {
        Self {
            server: server.to_owned(),
            up: AtomicBool::new(true),
            refused: AtomicBool::new(false),
        }
    }

    /// Whether the last call got through.
    pub(crate) fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// Whether the last call for tasks was answered with a no.
    pub(crate) fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
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

    /// A call for tasks got through.
    pub(crate) fn leased(&self) {
        self.answered();
        if self.refused.swap(false, Ordering::Relaxed) {
            tracing::info!(server = %self.server, "server gives tasks again");
        }
    }

    /// The server answers and gives no tasks, which a new token or a new role may mend.
    pub(crate) fn refused(&self, status: &Status) {
        if !self.refused.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                server = %self.server,
                code = ?status.code(),
                error = status.message(),
                "server refuses to give tasks; trying on"
            );
        }
    }
}

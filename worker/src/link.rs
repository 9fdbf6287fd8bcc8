//! Whether the server answers and gives tasks, so that an outage is one log line when it begins and
//! one when it ends, however many calls fail in between; and what this worker does about one: work
//! that is done is not thrown away because the server was restarted, so it is waited for, for ever.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use dual16_rpc::{Policy, Retrying, is_transient, reason};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// How long a server is waited for that has no room for a blob: longer than one takes to free what was
/// deleted, also one that was restarted for it. Not without end: what has no room keeps its slot, and
/// with all slots waiting no job would end that could be deleted.
const FULL_PATIENCE: Duration = Duration::from_secs(90 * 60);

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

    /// A call did not get through and will be tried again.
    pub(crate) fn failed(&self, status: &Status) {
        if self.up.swap(false, Ordering::Relaxed) {
            tracing::warn!(
                server = %self.server,
                code = ?status.code(),
                error = %reason(status),
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

impl Policy for Link {
    fn patience(&self, status: &Status) -> Option<Duration> {
        // A token that has run out may be replaced while the worker runs; results are kept until then.
        let borne = is_transient(status) || status.code() == Code::Unauthenticated;
        borne.then_some(match is_full(status) {
            true => FULL_PATIENCE,
            false => Duration::MAX,
        })
    }

    fn retrying(&self, retrying: &Retrying<'_>) {
        let status = retrying.status;
        if is_full(status) {
            self.answered();
            let error = status.message();
            tracing::warn!(
                call = retrying.call,
                error,
                "the server has no room; trying on"
            );
        } else {
            self.failed(status);
        }
    }

    fn answered(&self) {
        if !self.up.swap(true, Ordering::Relaxed) {
            tracing::info!(server = %self.server, "server answers again");
        }
    }
}

/// Whether the server has no room for a blob: it may have, once jobs are deleted.
pub(crate) fn is_full(status: &Status) -> bool {
    let full = ["QUOTA_EXCEEDED", "STORAGE_FULL"];
    let info = status.get_details_error_info();
    status.code() == Code::ResourceExhausted
        && info.is_some_and(|info| full.contains(&info.reason.as_str()))
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn a_full_server_answers_and_is_waited_for_but_not_for_ever() {
        let link = Link::new("http://h:1");
        let mut details = ErrorDetails::new();
        details.set_error_info(
            "QUOTA_EXCEEDED",
            "dual16",
            [("a".to_owned(), "b".to_owned())],
        );
        details.set_retry_info(Some(Duration::from_secs(1)));
        let full = Status::with_error_details(Code::ResourceExhausted, "no room", details);
        let (away, refusal) = (Status::unavailable("away"), Status::not_found("no"));
        let patience = [&full, &away, &refusal].map(|status| link.patience(status));
        assert_eq!(patience, [Some(FULL_PATIENCE), Some(Duration::MAX), None]);
        for (status, up) in [(&away, false), (&full, true)] {
            link.retrying(&Retrying {
                call: "Upload",
                status,
                delay: Duration::ZERO,
                left: Duration::MAX,
            });
            assert_eq!(link.is_up(), up, "{status}");
        }
    }
}

//! What can go wrong in a store.

use crate::{
    job::{JobId, Refusal},
    principal::Principal,
};

/// Why a verb failed. Nothing was changed, unless the engine itself failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No such job.
    #[error("{0} does not exist")]
    NotFound(JobId),
    /// The request id belongs to a job with another spec.
    #[error("the request id was used for {0}, whose spec is different")]
    RequestIdReused(JobId),
    /// No further job may be open.
    #[error("{max} jobs are pending or running, the most this server keeps")]
    QueueFull {
        /// The limit.
        max: u64,
    },
    /// The owner's jobs use as much as they may.
    #[error(
        "{owner} has {used} {what}, {asked} more would exceed the quota of {max}: delete jobs, or wait for some to end"
    )]
    QuotaExceeded {
        /// Whose quota it is.
        owner: Principal,
        /// What there is a quota of.
        what: &'static str,
        /// The name of the limit.
        limit: &'static str,
        /// What the call would add.
        asked: u64,
        /// What there is already.
        used: u64,
        /// The quota.
        max: u64,
    },
    /// Only jobs that have ended can be deleted.
    #[error("{0} has not ended: cancel it first")]
    NotEnded(JobId),
    /// The state machine refused the event.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A record is larger than the engine keeps durable.
    #[error("a {what} record of {bytes} bytes is larger than {max}")]
    RecordTooLarge {
        /// Which kind of record.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// A record is missing or unreadable.
    #[error("the store is corrupt: {0}")]
    Corrupt(String),
    /// The database was written by another version.
    #[error("the store has format {found}, this server reads and writes format {expected}")]
    Format {
        /// The format found.
        found: String,
        /// The only one known.
        expected: &'static str,
    },
    /// The engine failed. What was not acknowledged may be lost, so nothing more is accepted.
    #[error("the store has failed and accepts nothing more: {0}")]
    Failed(String),
    /// The database does not answer, or cannot do more now. What was asked may have been done or not.
    #[error("the job store does not answer: {0}")]
    Unavailable(String),
    /// Others were at the same records; nothing was done.
    #[error("the job store is busy: {0}")]
    Contended(String),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// It is about the records of one job, which is no reason to let others wait.
    pub(super) fn concerns_one_job(&self) -> bool {
        matches!(
            self,
            Self::NotFound(_) | Self::Refused(_) | Self::RecordTooLarge { .. } | Self::Corrupt(_)
        )
    }

    /// The same call may succeed later, perhaps at a restarted server.
    pub fn retryable(&self) -> bool {
        match self {
            Self::QueueFull { .. }
            | Self::Failed(_)
            | Self::Unavailable(_)
            | Self::Contended(_)
            | Self::Closed => true,
            // What is more than the whole quota never fits.
            Self::QuotaExceeded { asked, max, .. } => asked <= max,
            _ => false,
        }
    }
}

//! The seam between the service and what computes: synchronous, small, and the only thing a test
//! has to replace. It knows nothing of leases being renewed, of retries or of the network.

use std::{borrow::Cow, io, sync::Arc};

use dual16_proto::v1::{EventDetail, JobSpec, Lease};
pub use dual16_quant::flow::{Blobs, Control, Next, QueuedStage};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{blob_store::damaged, digest::Digest};

/// Runs tasks. Called from a thread of the task, by several at once; a panic fails only its own task.
pub trait TaskRunner: Send + Sync {
    /// Runs one task.
    ///
    /// `spec` is the one that [`Lease::spec_digest`] names, the same for all tasks of a job; `payload`
    /// and `inputs` are the bytes of [`Lease::payload`] and [`Lease::inputs`], wherever those lay. Parallel work goes through rayon's global pool.
    ///
    /// # Errors
    /// The task's own error; see [`TaskError::permanent`]. [`TaskError::STOPPED`] gives the task back.
    /// Once `control` says cancelled, whatever is returned is dropped.
    fn run(
        &self,
        lease: &Lease,
        spec: &Arc<JobSpec>,
        payload: &[u8],
        inputs: &[Vec<u8>],
        blobs: &dyn Blobs,
        control: &dyn Control,
    ) -> Result<TaskOutput, TaskError>;

    /// Drops whatever it keeps of the job of `task`, whose bytes were not what they should have been.
    fn forget(&self, _task: &str) {}

    /// Ends whatever else it keeps running; called when no more tasks come. Blocks, for a second or
    /// so at most.
    fn end(&self) {}
}

/// What a finished task hands in.
#[derive(Debug, Default)]
pub struct TaskOutput {
    /// For the reduce (maps), or nothing.
    pub result: Vec<u8>,
    /// To append to the job's events, in order.
    pub events: Vec<EventDetail>,
    /// Reduce only: what comes next.
    pub next: Option<Next>,
}

/// Why a task failed.
#[derive(Debug, PartialEq, Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct TaskError {
    /// Upper snake case, stable.
    pub code: Cow<'static, str>,
    /// For people.
    pub message: String,
    /// No other attempt can succeed: the input is at fault.
    pub permanent: bool,
}

impl TaskError {
    /// Code of [`TaskError::io`].
    pub const IO: &'static str = "IO";
    /// Code of bytes that changed while they were read.
    pub const BLOB_DAMAGED: &'static str = "BLOB_DAMAGED";
    /// Code of [`TaskError::storing`] where the server's storage is full.
    pub const STORAGE_FULL: &'static str = "STORAGE_FULL";
    /// Code of [`TaskError::panic`].
    pub const PANIC: &'static str = "PANIC";
    /// Code of [`TaskError::process`].
    pub const PROCESS_DIED: &'static str = "TASK_PROCESS_DIED";
    /// Code of [`TaskError::stopped`].
    pub const STOPPED: &'static str = "STOPPED";
    /// Code of a result that the server does not take, an oversized one for instance.
    pub const RESULT_REFUSED: &'static str = "RESULT_REFUSED";

    /// Bytes could not be read, written or transferred. Another attempt may succeed.
    pub fn io(message: impl Into<String>) -> Self {
        Self {
            code: Self::IO.into(),
            message: message.into(),
            permanent: false,
        }
    }

    /// A blob in the cache changed while the task read it. The next attempt fetches it again.
    pub(crate) fn damaged(blob: &Digest) -> Self {
        Self {
            code: Self::BLOB_DAMAGED.into(),
            ..Self::io(damaged(blob).to_string())
        }
    }

    /// Something could not be brought to the server. Another attempt may succeed.
    pub fn storing(what: &str, error: &io::Error) -> Self {
        let code = match error.kind() {
            io::ErrorKind::QuotaExceeded => Self::STORAGE_FULL,
            _ => Self::IO,
        };
        Self {
            code: code.into(),
            ..Self::io(format!("cannot store {what}: {error}"))
        }
    }

    /// What the task ran in died. Another attempt may succeed.
    pub fn process(message: impl Into<String>) -> Self {
        Self {
            code: Self::PROCESS_DIED.into(),
            message: message.into(),
            permanent: false,
        }
    }

    /// The worker stopped the task, through no fault of its own: it is given back and has cost no
    /// attempt.
    pub fn stopped() -> Self {
        Self {
            code: Self::STOPPED.into(),
            message: "stopped by the worker".to_owned(),
            permanent: false,
        }
    }

    /// The runner panicked. Another attempt may succeed, if only by a chance of the machine.
    pub fn panic(message: impl Into<String>) -> Self {
        Self {
            code: Self::PANIC.into(),
            message: message.into(),
            permanent: false,
        }
    }
}

//! The seam between the service and what computes: synchronous, small, and the only thing a test
//! has to replace. It knows nothing of leases being renewed, of retries or of the network.

use std::{borrow::Cow, io};

use dual16_proto::v1::Lease;
pub use dual16_quant::flow::{Blobs, Control, Next, QueuedStage, TaskOutput};
use thiserror::Error;

/// Runs tasks. Called from a compute thread, by several at once; a panic fails only its own task.
pub trait TaskRunner: Send + Sync {
    /// Runs one task.
    ///
    /// `payload` and `inputs` are the bytes of [`Lease::payload`] and [`Lease::inputs`], wherever
    /// those lay. Parallel work goes through rayon: the calling thread belongs to the worker's pool.
    ///
    /// # Errors
    /// The task's own error; see [`TaskError::permanent`]. Once `control` says cancelled, whatever
    /// is returned is dropped.
    fn run(
        &self,
        lease: &Lease,
        payload: &[u8],
        inputs: &[Vec<u8>],
        blobs: &dyn Blobs,
        control: &dyn Control,
    ) -> Result<TaskOutput, TaskError>;
}

/// Why a task failed.
#[derive(Debug, Error)]
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
    /// Code of [`TaskError::storing`] where the server's storage is full.
    pub const STORAGE_FULL: &'static str = "STORAGE_FULL";
    /// Code of [`TaskError::panic`].
    pub const PANIC: &'static str = "PANIC";
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

    /// The runner panicked. Another attempt may succeed, if only by a chance of the machine.
    pub fn panic(message: impl Into<String>) -> Self {
        Self {
            code: Self::PANIC.into(),
            message: message.into(),
            permanent: false,
        }
    }
}

//! What uploads and downloads have in common.

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;

use std::{io, time::Duration};

use dual16_proto::digest::Digest;

use crate::retry::{CallError, reason};

/// A stream that brings nothing for this long is given up and resumed. Longer than a server lets one
/// upload wait for another of the same blob.
pub(crate) const STALL_TIMEOUT: Duration = Duration::from_secs(60);

/// How often a transfer begins anew for what waiting does not mend.
pub(crate) const MAX_RESTARTS: u32 = 3;

/// A blob, by its digest as the API writes it.
#[derive(Debug, Clone, Copy)]
pub struct Blob<'a> {
    /// "sha256:" and 64 hex digits.
    pub digest: &'a str,
    /// Bytes.
    pub size: u64,
}

/// Told how many bytes of a transfer have moved; negative when an interrupted transfer goes back to
/// what the other side kept.
pub type Moved<'a> = &'a (dyn Fn(i64) + Send + Sync);

/// Why a blob did not come across.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The server refused it, or stayed away.
    #[error("{} ({:?})", reason(&.0.status), .0.status.code())]
    Call(#[from] CallError),
    /// What is uploaded cannot be read, or what is downloaded cannot be written.
    #[error(transparent)]
    Local(#[from] io::Error),
    /// What was uploaded has not the digest or the size that it was to have.
    #[error("{0}")]
    Changed(String),
    /// What was downloaded has another digest.
    #[error("the bytes that arrived have the digest {found}")]
    Damaged {
        /// The digest of what arrived.
        found: Digest,
    },
    /// The server sent more bytes than the blob has, or fewer, and does not do better.
    #[error("the server sent {received} bytes and ended, of {size}")]
    WrongSize {
        /// Bytes that came.
        received: u64,
        /// Bytes of the blob.
        size: u64,
    },
}

//! Blobs over the wire. A download goes on where it broke off and is checked against its digest as
//! it arrives; an upload sends only what the server does not have. Outages are waited out. Knows no
//! cache.

mod download;
#[cfg(test)]
mod tests;
mod upload;

use std::{io, sync::Arc, time::Duration};

use dual16_proto::{credentials::AuthorizedChannel, v1::blob_service_client::BlobServiceClient};
use dual16_telemetry::nameless::nameless;
use thiserror::Error;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{digest::Digest, link::Link};

/// A stream that brings nothing for this long is given up and resumed.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// [`Transfer::full_patience`] of a worker: longer than a server takes to free what was deleted, also
/// one that was restarted for it.
pub(crate) const FULL_PATIENCE: Duration = Duration::from_secs(90 * 60);

/// Moves blobs between the server and local files.
#[derive(Debug)]
pub(crate) struct Transfer {
    pub(crate) client: BlobServiceClient<AuthorizedChannel>,
    /// Bytes of data in one message of an upload; the server takes no more.
    pub(crate) chunk_bytes: usize,
    pub(crate) link: Arc<Link>,
    /// How long a full storage is waited for. Not without end: what has no room keeps its slot, and
    /// with all slots waiting no job would end that could be deleted.
    pub(crate) full_patience: Duration,
}

/// Why a blob did not come across.
#[derive(Debug, Error)]
pub(crate) enum TransferError {
    #[error("blob {digest}: {} ({:?})", .status.message(), .status.code())]
    Refused { digest: Digest, status: Box<Status> },
    #[error("blob {digest}: the server sent {received} bytes and ended, short of {size}")]
    Truncated {
        digest: Digest,
        received: u64,
        size: u64,
    },
    #[error("blob {digest}: the bytes that arrived have the digest {found}")]
    Damaged { digest: Digest, found: Digest },
    /// Told to the job's owner, who must not learn where the worker keeps its files.
    #[error("blob {digest}: a file of the worker's: {source}")]
    File { digest: Digest, source: io::Error },
}

impl From<TransferError> for io::Error {
    fn from(error: TransferError) -> Self {
        let kind = match &error {
            TransferError::Refused { status, .. } if status.code() == Code::NotFound => {
                io::ErrorKind::NotFound
            }
            TransferError::Refused { status, .. } if is_full(status) => {
                io::ErrorKind::QuotaExceeded
            }
            TransferError::Refused { .. } => io::ErrorKind::Other,
            TransferError::Truncated { .. } => io::ErrorKind::UnexpectedEof,
            TransferError::Damaged { .. } => io::ErrorKind::InvalidData,
            TransferError::File { source, .. } => source.kind(),
        };
        io::Error::new(kind, error)
    }
}

/// Whether the server has no room for a blob: it may have, once jobs are deleted.
fn is_full(status: &Status) -> bool {
    let full = ["QUOTA_EXCEEDED", "STORAGE_FULL"];
    let info = status.get_details_error_info();
    status.code() == Code::ResourceExhausted
        && info.is_some_and(|info| full.contains(&info.reason.as_str()))
}

/// What ended one try.
enum Broken {
    Status(Status),
    File(io::Error),
}

impl Broken {
    /// As the reason to give up on a blob.
    fn give_up(self, digest: &Digest) -> TransferError {
        let digest = *digest;
        match self {
            Self::Status(status) => TransferError::Refused {
                digest,
                status: Box::new(status),
            },
            Self::File(source) => TransferError::File {
                digest,
                source: nameless(source),
            },
        }
    }
}

impl From<Status> for Broken {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::File(error)
    }
}

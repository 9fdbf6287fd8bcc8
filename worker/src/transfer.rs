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

use crate::{digest::Digest, link::Link};

/// A stream that brings nothing for this long is given up and resumed.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Moves blobs between the server and local files.
#[derive(Debug)]
pub(crate) struct Transfer {
    pub(crate) client: BlobServiceClient<AuthorizedChannel>,
    /// Bytes of data in one message of an upload; the server takes no more.
    pub(crate) chunk_bytes: usize,
    pub(crate) link: Arc<Link>,
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
            TransferError::Refused { .. } => io::ErrorKind::Other,
            TransferError::Truncated { .. } => io::ErrorKind::UnexpectedEof,
            TransferError::Damaged { .. } => io::ErrorKind::InvalidData,
            TransferError::File { source, .. } => source.kind(),
        };
        io::Error::new(kind, error)
    }
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

//! Content-addressed bytes of any size, behind a trait: local files, or an object store that servers share.
//!
//! A blob is named by its digest, never changes, and exists only once all of its bytes were
//! checked against that name and are on disk. What a blob means, this module must not know.

mod age;
mod checked;
mod gc;
mod local;
mod object;
mod part;
mod pieces;
mod room;
#[cfg(test)]
mod tests;
mod turns;
mod uses;

use std::{pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::async_trait;

pub(crate) use self::room::{Reservation, Room};
pub use self::{
    checked::Scrubbed,
    gc::Swept,
    local::LocalBlobs,
    object::{Bucket, InvalidUrl, ObjectBlobs, Place, Presign},
    uses::{Removal, Uses},
};
use crate::digest::Digest;

/// A store of blobs.
#[async_trait]
pub trait BlobStore: Send + Sync + 'static {
    /// Size in bytes of each blob that is stored, in the order asked.
    async fn sizes(&self, digests: Vec<Digest>) -> Result<Vec<Option<u64>>, BlobError>;

    /// As [`BlobStore::sizes`], for one who will rely on them: those found stay for a time of grace.
    async fn renew(&self, digests: Vec<Digest>) -> Result<Vec<Option<u64>>, BlobError>;

    /// Size of one blob in bytes, if it is stored.
    async fn size(&self, digest: Digest) -> Result<Option<u64>, BlobError> {
        Ok(self.sizes(vec![digest]).await?.into_iter().next().flatten())
    }

    /// Bytes kept of an upload that was not finished.
    async fn committed(&self, digest: Digest) -> Result<u64, BlobError>;

    /// Begins an upload of `size` bytes at `offset`, at most what is committed. There is one upload
    /// of a digest at a time: this waits for the one under way, and is [`BlobError::Busy`] if that
    /// takes longer than `patience`. `None` if the blob is stored.
    async fn begin_within(
        &self,
        digest: Digest,
        size: u64,
        offset: u64,
        patience: Duration,
    ) -> Result<Option<Box<dyn Upload>>, BlobError>;

    /// As [`BlobStore::begin_within`], for one who waits until the upload under way has ended.
    async fn begin(
        &self,
        digest: Digest,
        size: u64,
        offset: u64,
    ) -> Result<Option<Box<dyn Upload>>, BlobError> {
        self.begin_within(digest, size, offset, Duration::MAX).await
    }

    /// Size of the blob and its bytes from `offset` on, in small pieces. Each is read when it is asked
    /// for: a reader that takes nothing costs nothing.
    async fn read(&self, digest: Digest, offset: u64) -> Result<BlobReader, BlobError>;

    /// A URL by which whoever has it reads the blob for a short time, where the store has that and it is
    /// wanted. Unlike [`BlobStore::read`] it looks at no byte.
    async fn url(&self, _digest: Digest) -> Result<Option<BlobUrl>, BlobError> {
        Ok(None)
    }

    /// Damaged blobs that were found since the start.
    fn found_damaged(&self) -> u64;

    /// Looks at everything once, and removes the blobs that no job keeps and nobody has used for `grace`,
    /// and the uploads that nobody went on with for as long. Where servers share the blobs, for one of them.
    async fn collect(&self, grace: Duration, uses: Arc<dyn Uses>) -> Result<Swept, BlobError>;

    /// Reads every blob once, at most `bytes_per_second` of them, until `stop`; those that are damaged are
    /// missing from then on.
    async fn scrub(
        &self,
        bytes_per_second: u64,
        stop: CancellationToken,
    ) -> Result<Scrubbed, BlobError>;

    /// Whether other servers store the same blobs.
    fn is_shared(&self) -> bool {
        false
    }

    /// Bytes that are stored, for those of several servers that do not collect.
    async fn count(&self) -> Result<u64, BlobError>;
}

/// Where a blob is for a while.
pub struct BlobUrl {
    /// Size of the whole blob in bytes.
    pub size: u64,
    /// For a GET. Whoever has it can read the blob: it belongs into no log.
    pub url: String,
}

/// A download.
pub struct BlobReader {
    /// Size of the whole blob in bytes.
    pub size: u64,
    /// The bytes, until the end or an error.
    pub pieces: Pin<Box<dyn Stream<Item = Result<Bytes, BlobError>> + Send>>,
}

/// An upload under way. Dropping it keeps what was written, for another to go on from, at the same server; what
/// [`write`](Self::write) has taken but not written yet is still written then. After an error of the disk
/// nothing is kept.
#[async_trait]
pub trait Upload: Send {
    /// Appends bytes, which need not be written on return; more than the declared size is refused,
    /// by this call or a later one.
    async fn write(&mut self, data: Bytes) -> Result<(), BlobError>;

    /// Checks size and digest; the blob exists from then on. If the digest does not match,
    /// everything is discarded.
    async fn finish(self: Box<Self>) -> Result<(), BlobError>;
}

/// Stores `data` as a blob of the server's own making.
pub(crate) async fn store(blobs: &dyn BlobStore, data: Bytes) -> Result<Digest, BlobError> {
    let digest = Digest::of(&data);
    if let Some(mut upload) = blobs.begin(digest, data.len() as u64, 0).await? {
        upload.write(data).await?;
        upload.finish().await?;
    }
    Ok(digest)
}

/// Why an operation on a blob failed.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// No such blob.
    #[error("blob {0} does not exist")]
    NotFound(Digest),
    /// The offset is behind the end.
    #[error("offset {offset} is beyond the {end} bytes of {digest}")]
    OffsetOutOfRange {
        /// The blob.
        digest: Digest,
        /// What was asked for.
        offset: u64,
        /// What there is.
        end: u64,
    },
    /// Another upload of the same blob is under way.
    #[error("another upload of {0} is under way; query the upload and go on from there")]
    Busy(Digest),
    /// The upload goes beyond its declared size.
    #[error("the upload of {digest} has more than its declared {size} bytes")]
    TooLong {
        /// The blob.
        digest: Digest,
        /// The declared size.
        size: u64,
    },
    /// The upload ended early; what came is kept.
    #[error("the upload of {digest} ended at byte {written} of {size}; go on from there")]
    Incomplete {
        /// The blob.
        digest: Digest,
        /// Bytes that came.
        written: u64,
        /// The declared size.
        size: u64,
    },
    /// The bytes are not those that the digest names; nothing of them is kept.
    #[error("the bytes sent as {expected} have the digest {found}: upload them again")]
    DigestMismatch {
        /// The name.
        expected: Digest,
        /// The digest of what came.
        found: Digest,
    },
    /// The stored bytes are not those that the digest names.
    #[error("blob {0} was damaged where the server keeps it, and is missing now: send it again")]
    Damaged(Digest),
    /// The disk is full.
    #[error("no space is left for blobs")]
    StorageFull,
    /// The limit of all blobs is met.
    #[error(
        "{used} bytes of blobs are stored, {asked} more would exceed the limit of {max}: delete jobs, and wait for their files to go"
    )]
    NoRoom {
        /// Bytes that the upload would add.
        asked: u64,
        /// Bytes there are, those of uploads under way included.
        used: u64,
        /// The limit.
        max: u64,
    },
    /// The disk or the object store failed.
    #[error("the blob storage failed: {0}")]
    Io(std::io::Error),
}

impl BlobError {
    /// The same call may succeed later.
    pub fn retryable(&self) -> bool {
        match self {
            Self::StorageFull | Self::Io(_) | Self::Incomplete { .. } | Self::Busy(_) => true,
            // What is too much for an empty store is so for ever.
            Self::NoRoom { asked, max, .. } => asked <= max,
            _ => false,
        }
    }
}

impl From<std::io::Error> for BlobError {
    fn from(error: std::io::Error) -> Self {
        let error = match error.downcast() {
            Ok(blob) => return blob,
            Err(error) => error,
        };
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                Self::StorageFull
            }
            _ => Self::Io(error),
        }
    }
}

//! Blobs in an object store that any number of servers share: S3 and what speaks like it, Google's, Azure's.
//!
//! A blob is one object, `PREFIX/sha256/ab/abcdef…`. It comes to be by one request, a PUT or the end of a
//! multipart upload, after its bytes had the right digest, so that it exists whole or not at all. Its last
//! use is kept elsewhere ([`Uses`]): whoever is to rely on a blob notes the use first and looks then, and a
//! removal goes on while no use can be noted, at any server.

mod connect;
mod presign;
mod reader;
mod session;
mod sweep;
mod upload;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt as _, path::Path};
use tokio::{sync::Semaphore, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tonic::async_trait;

pub use self::{
    connect::{Bucket, InvalidUrl, Place},
    presign::Presign,
};
use self::{presign::Presigner, reader::Pieces, session::Kept, upload::ObjectUpload};
use super::{
    BlobError, BlobReader, BlobStore, BlobUrl, Scrubbed, Swept, Upload, turns::Turns, uses::Uses,
};
use crate::{digest::Digest, permits};

/// Looks for objects that one call has under way at a time.
const LOOKS: usize = 32;
/// A step of a removal that takes longer is given up; the use of the blob cannot be noted before. Two of them are
/// shorter than a database waits for its client.
const REMOVAL_LIMIT: Duration = Duration::from_secs(8);
/// Memory that all uploads gather their parts in.
const BUFFERS: u64 = 256 << 20;
/// That memory is counted in such units.
const BUFFER_UNIT: u64 = 64 << 10;
/// Nothing goes before a server has run for so long, or for the grace: those who were cut off from it come
/// back within that.
const COMING_BACK: Duration = Duration::from_secs(3600);

/// Blobs in a bucket.
#[derive(Clone)]
pub struct ObjectBlobs(Arc<Shared>);

struct Shared {
    objects: Arc<dyn ObjectStore>,
    prefix: Path,
    /// Makes URLs, where that is wanted.
    presigner: Option<Presigner>,
    uses: Arc<dyn Uses>,
    turns: Turns,
    /// What is left of [`BUFFERS`], in units.
    buffers: Arc<Semaphore>,
    /// Uploads that were given up here and can go on.
    kept: Kept,
    /// Bytes of a part of a multipart upload, at least.
    part_bytes: u64,
    started: Instant,
    coming_back: Duration,
    /// Bytes of the blobs that came to be through this server since its start.
    published: AtomicU64,
    found_damaged: AtomicU64,
}

impl ObjectBlobs {
    /// The blobs of a bucket, once it was written to and read; with URLs to them if `presign` says so.
    ///
    /// # Errors
    /// What the environment lacks, or what the store said.
    pub async fn connect(
        bucket: &Bucket,
        presign: Option<&Presign>,
        uses: Arc<dyn Uses>,
    ) -> Result<Self, BlobError> {
        let objects = bucket.connect().await?;
        let presigner = match presign {
            Some(presign) => Some(bucket.presigner(presign).await?),
            None => None,
        };
        let prefix = bucket.prefix().clone();
        let parts = session::PART_BYTES;
        Ok(Self::with(
            objects,
            prefix,
            presigner,
            uses,
            parts,
            COMING_BACK,
        ))
    }

    fn with(
        objects: Arc<dyn ObjectStore>,
        prefix: Path,
        presigner: Option<Presigner>,
        uses: Arc<dyn Uses>,
        part_bytes: u64,
        coming_back: Duration,
    ) -> Self {
        Self(Arc::new(Shared {
            objects,
            prefix,
            presigner,
            uses,
            turns: Turns::default(),
            buffers: Arc::new(Semaphore::new(units(BUFFERS) as usize)),
            kept: Kept::default(),
            part_bytes,
            started: Instant::now(),
            coming_back,
            published: AtomicU64::default(),
            found_damaged: AtomicU64::default(),
        }))
    }

    /// As [`ObjectBlobs::connect`], with parts and times as a test can wait for.
    #[cfg(test)]
    pub(super) fn for_test(
        objects: Arc<dyn ObjectStore>,
        prefix: Path,
        uses: Arc<dyn Uses>,
        part_bytes: u64,
    ) -> Self {
        Self::with(objects, prefix, None, uses, part_bytes, Duration::ZERO)
    }

    /// Where a blob lies.
    #[cfg(test)]
    pub(super) fn key_of(&self, digest: Digest) -> Path {
        self.0.key(digest)
    }
}

impl Shared {
    fn folder(&self) -> Path {
        self.prefix.clone().join("sha256")
    }

    fn key(&self, digest: Digest) -> Path {
        let hex = digest.hex();
        let shard = hex.get(..2).unwrap_or_default().to_owned();
        self.folder().join(shard).join(hex)
    }

    async fn find(&self, digest: Digest) -> Result<Option<ObjectMeta>, BlobError> {
        match self.objects.head(&self.key(digest)).await {
            Ok(found) => Ok(Some(found)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes an object that is damaged, unless another has come in its place since it was looked at.
    async fn set_aside(
        self: &Arc<Self>,
        digest: Digest,
        damaged: ObjectMeta,
    ) -> Result<(), BlobError> {
        let shared = Arc::clone(self);
        let removal = Box::pin(async move {
            let there = tokio::time::timeout(REMOVAL_LIMIT, shared.find(digest)).await;
            let same = match there.unwrap_or_else(|late| Err(BlobError::Io(late.into()))) {
                Ok(Some(there)) => {
                    (there.last_modified, there.size, there.e_tag)
                        == (damaged.last_modified, damaged.size, damaged.e_tag)
                }
                Ok(None) => false,
                Err(error) => {
                    tracing::warn!(%error, %digest, "a damaged blob was not removed");
                    false
                }
            };
            same && shared.delete(digest).await
        });
        if self.uses.remove(digest, None, removal).await? {
            self.found_damaged.fetch_add(1, Ordering::Relaxed);
            tracing::error!(%digest, "a stored blob is damaged: it was removed, and has to be sent again");
        }
        Ok(())
    }

    /// Whether the object is gone.
    async fn delete(&self, digest: Digest) -> bool {
        let key = self.key(digest);
        match tokio::time::timeout(REMOVAL_LIMIT, self.objects.delete(&key)).await {
            Ok(Ok(()) | Err(object_store::Error::NotFound { .. })) => true,
            Ok(Err(error)) => {
                tracing::warn!(%error, %digest, "a blob was not removed");
                false
            }
            Err(_) => {
                tracing::warn!(%digest, "the object store does not answer: perhaps a blob was removed");
                false
            }
        }
    }

    /// Whether a stored blob is what its name says; false if it is damaged, and gone by now, or not there.
    async fn is_whole(self: &Arc<Self>, digest: Digest) -> Result<bool, BlobError> {
        let read = async {
            let (mut pieces, _) = Pieces::open(self, digest, 0, None).await?;
            while !pieces.next().await?.is_empty() {}
            Ok(())
        };
        match read.await {
            Ok(()) => Ok(true),
            Err(BlobError::Damaged(_) | BlobError::NotFound(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

#[async_trait]
impl BlobStore for ObjectBlobs {
    async fn sizes(&self, digests: Vec<Digest>) -> Result<Vec<Option<u64>>, BlobError> {
        let mut sizes = vec![None; digests.len()];
        let mut asked = digests.into_iter().enumerate();
        let mut looks = JoinSet::new();
        loop {
            while looks.len() < LOOKS
                && let Some((at, digest)) = asked.next()
            {
                let shared = Arc::clone(&self.0);
                looks.spawn(async move { (at, shared.find(digest).await) });
            }
            let Some(look) = looks.join_next().await else {
                return Ok(sizes);
            };
            let (at, found) = look.map_err(std::io::Error::other)?;
            let found = found?.map(|found| found.size);
            if let Some(size) = sizes.get_mut(at) {
                *size = found;
            }
        }
    }

    async fn renew(&self, digests: Vec<Digest>) -> Result<Vec<Option<u64>>, BlobError> {
        self.0.uses.note(&digests).await?;
        self.sizes(digests).await
    }

    async fn committed(&self, digest: Digest) -> Result<u64, BlobError> {
        Ok(self.0.kept.bytes(digest))
    }

    async fn begin_within(
        &self,
        digest: Digest,
        size: u64,
        offset: u64,
        patience: Duration,
    ) -> Result<Option<Box<dyn Upload>>, BlobError> {
        let turn = self.0.turns.take(digest, patience).await?;
        // Whoever sends it has the right bytes: the object is not to be believed instead.
        let there = self.renew(vec![digest]).await?.into_iter().flatten().next();
        if there.is_some() && self.0.is_whole(digest).await? {
            return Ok(None);
        }
        // One part is gathered while another is sent.
        let buffer = units(size.min(2 * self.0.part_bytes)).min(units(BUFFERS));
        let buffer = Arc::clone(&self.0.buffers).acquire_many_owned(buffer);
        let buffer = tokio::time::timeout(patience, buffer).await;
        let buffer = buffer.map_err(|_| BlobError::Busy(digest))?;
        let buffer = buffer.map_err(std::io::Error::other)?;
        let upload = ObjectUpload::begin(&self.0, digest, size, offset, (turn, buffer))?;
        Ok(Some(Box::new(upload)))
    }

    async fn read(&self, digest: Digest, offset: u64) -> Result<BlobReader, BlobError> {
        let (pieces, size) = Pieces::open(&self.0, digest, offset, permits::current()).await?;
        Ok(BlobReader {
            size,
            pieces: Box::pin(pieces.into_stream()),
        })
    }

    async fn url(&self, digest: Digest) -> Result<Option<BlobUrl>, BlobError> {
        let Some(presigner) = &self.0.presigner else {
            return Ok(None);
        };
        let found = self.0.find(digest).await?;
        let size = found.ok_or(BlobError::NotFound(digest))?.size;
        match presigner.url(&self.0.key(digest)).await {
            Ok(url) => Ok(Some(BlobUrl { size, url })),
            Err(error) => {
                tracing::warn!(%error, "no URL was signed: the bytes come through the server");
                Ok(None)
            }
        }
    }

    fn found_damaged(&self) -> u64 {
        self.0.found_damaged.load(Ordering::Relaxed)
    }

    async fn collect(&self, grace: Duration, uses: Arc<dyn Uses>) -> Result<Swept, BlobError> {
        self.0.sweep(grace, &*uses).await
    }

    async fn scrub(
        &self,
        bytes_per_second: u64,
        stop: CancellationToken,
    ) -> Result<Scrubbed, BlobError> {
        self.0.scrub(bytes_per_second, &stop).await
    }

    fn is_shared(&self) -> bool {
        true
    }

    async fn count(&self) -> Result<u64, BlobError> {
        self.0.count().await
    }
}

/// Units that so many bytes take.
fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(BUFFER_UNIT)).unwrap_or(u32::MAX)
}

impl From<object_store::Error> for BlobError {
    fn from(error: object_store::Error) -> Self {
        Self::Io(std::io::Error::other(error))
    }
}

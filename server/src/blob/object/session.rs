//! The bytes of an upload on their way into an object store, and what is kept of one that was given up.
//!
//! What can be kept is what this process holds: the state of the hash, the multipart upload, and the bytes
//! that do not fill a part yet. A server that ends takes them along, and another never had them: there an
//! upload begins anew, and the parts that were sent stay in the bucket until its lifecycle rule for
//! incomplete multipart uploads takes them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use object_store::{MultipartUpload, ObjectStoreExt as _, PutPayload};
use sha2::{Digest as _, Sha256};

use super::{super::BlobError, Shared};
use crate::digest::Digest;

/// The least that S3 takes as a part is 5 MiB.
pub(super) const PART_BYTES: u64 = 8 << 20;
/// The most parts of an upload.
const MAX_PARTS: u64 = 10_000;
/// Uploads that are kept; each holds a part in memory at most.
const MAX_KEPT: usize = 16;

/// Bytes that have come, in order: those of whole parts are sent, the others wait.
pub(super) struct Session {
    shared: Arc<Shared>,
    pub(super) digest: Digest,
    hasher: Sha256,
    multipart: Option<Box<dyn MultipartUpload>>,
    /// Bytes hashed and sent.
    pub(super) sent: u64,
    /// What came after them.
    pub(super) rest: Chunks,
    pub(super) part_bytes: u64,
}

/// Bytes as they came.
#[derive(Default)]
pub(super) struct Chunks {
    chunks: Vec<Bytes>,
    pub(super) bytes: u64,
}

impl Chunks {
    pub(super) fn push(&mut self, chunk: Bytes) {
        self.bytes += chunk.len() as u64;
        self.chunks.push(chunk);
    }

    /// Keeps the first `bytes`.
    pub(super) fn truncate(&mut self, bytes: u64) {
        let mut left = bytes;
        for chunk in &mut self.chunks {
            let keep = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len());
            chunk.truncate(keep);
            left -= keep as u64;
        }
        self.chunks.retain(|chunk| !chunk.is_empty());
        self.bytes = bytes - left;
    }
}

impl Session {
    pub(super) fn new(shared: &Arc<Shared>, digest: Digest, size: u64) -> Self {
        Self {
            shared: Arc::clone(shared),
            digest,
            hasher: Sha256::new(),
            multipart: None,
            sent: 0,
            rest: Chunks::default(),
            part_bytes: shared.part_bytes.max(size.div_ceil(MAX_PARTS)),
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.sent + self.rest.bytes
    }

    /// Hashes and sends what waits, as one part; after an error nothing is kept.
    pub(super) async fn send(mut self) -> Result<Self, BlobError> {
        let part = self.hash().await?;
        match self.put_part(part).await {
            Ok(()) => Ok(self),
            Err(error) => {
                self.abort().await;
                Err(error)
            }
        }
    }

    /// Sends the last bytes and has the object made, if all have the right digest.
    pub(super) async fn finish(mut self) -> Result<(), BlobError> {
        let part = self.hash().await?;
        let found = Digest::finish(self.hasher.clone());
        if found != self.digest {
            let expected = self.digest;
            self.abort().await;
            return Err(BlobError::DigestMismatch { expected, found });
        }
        let key = self.shared.key(self.digest);
        if self.multipart.is_none() {
            self.shared.objects.put(&key, payload(part)).await?;
            return Ok(());
        }
        let mut ended = Ok(());
        if part.bytes > 0 {
            ended = self.put_part(part).await;
        }
        if ended.is_ok()
            && let Some(multipart) = &mut self.multipart
        {
            ended = multipart.complete().await.map(drop).map_err(Into::into);
        }
        if ended.is_err() {
            self.abort().await;
        }
        ended
    }

    /// Lets go of what was sent.
    pub(super) async fn abort(mut self) {
        if let Some(mut multipart) = self.multipart.take()
            && let Err(error) = multipart.abort().await
        {
            let digest = self.digest;
            tracing::debug!(%error, %digest, "parts of an upload are left to the bucket's lifecycle rules");
        }
    }

    /// Takes what waits into the hash.
    async fn hash(&mut self) -> Result<Chunks, BlobError> {
        let part = std::mem::take(&mut self.rest);
        let mut hasher = self.hasher.clone();
        let hashing = tokio::task::spawn_blocking(move || {
            for chunk in &part.chunks {
                hasher.update(chunk);
            }
            (hasher, part)
        });
        let (hasher, part) = hashing.await.map_err(std::io::Error::other)?;
        self.hasher = hasher;
        self.sent += part.bytes;
        Ok(part)
    }

    async fn put_part(&mut self, part: Chunks) -> Result<(), BlobError> {
        let multipart = match &mut self.multipart {
            Some(multipart) => multipart,
            none => {
                let key = self.shared.key(self.digest);
                none.insert(self.shared.objects.put_multipart(&key).await?)
            }
        };
        Ok(multipart.put_part(payload(part)).await?)
    }
}

fn payload(part: Chunks) -> PutPayload {
    part.chunks.into_iter().collect()
}

/// Uploads that were given up and can go on.
#[derive(Default)]
pub(super) struct Kept(Mutex<HashMap<Digest, (Session, Instant)>>);

impl Kept {
    pub(super) fn bytes(&self, digest: Digest) -> u64 {
        let kept = self.locked();
        kept.get(&digest).map_or(0, |(session, _)| session.bytes())
    }

    /// Bytes of all of them.
    pub(super) fn all_bytes(&self) -> u64 {
        let kept = self.locked();
        kept.values().map(|(session, _)| session.bytes()).sum()
    }

    pub(super) fn take(&self, digest: Digest) -> Option<Session> {
        self.locked().remove(&digest).map(|(session, _)| session)
    }

    pub(super) fn keep(&self, session: Session) {
        let mut kept = self.locked();
        kept.insert(session.digest, (session, Instant::now()));
        while kept.len() > MAX_KEPT {
            let oldest = kept.iter().min_by_key(|(_, (_, since))| *since);
            let Some(oldest) = oldest.map(|(digest, _)| *digest) else {
                return;
            };
            if let Some((session, _)) = kept.remove(&oldest) {
                abort_behind(session);
            }
        }
    }

    /// Lets go of those that nobody went on with for `grace`; how many, and their bytes.
    pub(super) async fn sweep(&self, grace: Duration) -> (u64, u64) {
        let old: Vec<_> = {
            let mut kept = self.locked();
            let old = kept.extract_if(|_, (_, since)| since.elapsed() >= grace);
            old.map(|(_, (session, _))| session).collect()
        };
        let bytes = old.iter().map(Session::bytes).sum();
        let number = old.len() as u64;
        for session in old {
            session.abort().await;
        }
        (number, bytes)
    }

    /// Nothing done under the lock can panic half-way.
    fn locked(&self) -> MutexGuard<'_, HashMap<Digest, (Session, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets go of an upload without waiting for it.
pub(super) fn abort_behind(session: Session) {
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(session.abort());
    }
}

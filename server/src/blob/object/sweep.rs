//! Walks over all objects: to remove those that nobody needs, to count them, to find those that are damaged.

use std::{
    collections::HashSet,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use object_store::ObjectMeta;
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;

use super::{
    super::{BlobError, Scrubbed, Swept, uses::Uses},
    Shared,
    reader::Pieces,
};
use crate::digest::Digest;

/// Objects of which the uses are asked for together.
const PAGE: usize = 500;

impl Shared {
    pub(super) async fn sweep(
        self: &Arc<Self>,
        grace: Duration,
        uses: &dyn Uses,
    ) -> Result<Swept, BlobError> {
        let began = self.published.load(Ordering::Relaxed);
        let comes_back = self.started.elapsed() < self.coming_back.min(grace);
        let mut swept = Swept::default();
        let (removed, removed_bytes) = self.kept.sweep(grace).await;
        // A page may end where the list does, and asks once more.
        let mut objects = self.objects.list(Some(&self.folder())).fuse();
        loop {
            let mut page = Vec::with_capacity(PAGE);
            while page.len() < PAGE
                && let Some(object) = objects.next().await
            {
                let object = object?;
                if let Some(digest) = digest_of(&object) {
                    swept.stays(object.size);
                    page.push((digest, object.size));
                }
            }
            if page.is_empty() {
                break;
            }
            let digests: Vec<_> = page.iter().map(|(digest, _)| *digest).collect();
            let unused: HashSet<_> = uses.unused(&digests, grace).await?.into_iter().collect();
            for (digest, size) in page {
                if comes_back || !unused.contains(&digest) {
                    continue;
                }
                let shared = Arc::clone(self);
                let removal = Box::pin(async move { shared.delete(digest).await });
                if uses.remove(digest, Some(grace), removal).await? {
                    swept.goes(size);
                }
            }
        }
        // Those of blobs that were asked for and never came; of others, it would only begin anew.
        let long = grace.saturating_mul(2).saturating_add(self.coming_back);
        uses.forget(long).await?;
        swept.removed += removed;
        swept.removed_bytes += removed_bytes;
        swept.bytes += self.kept.all_bytes() + self.published.load(Ordering::Relaxed) - began;
        Ok(swept)
    }

    /// Bytes of all blobs, and of the uploads that are kept here.
    pub(super) async fn count(&self) -> Result<u64, BlobError> {
        let began = self.published.load(Ordering::Relaxed);
        let mut objects = self.objects.list(Some(&self.folder()));
        let mut bytes = 0;
        while let Some(object) = objects.next().await {
            let object = object?;
            bytes += digest_of(&object).map_or(0, |_| object.size);
        }
        Ok(bytes + self.kept.all_bytes() + self.published.load(Ordering::Relaxed) - began)
    }

    pub(super) async fn scrub(
        self: &Arc<Self>,
        bytes_per_second: u64,
        stop: &CancellationToken,
    ) -> Result<Scrubbed, BlobError> {
        let mut scrubbed = Scrubbed::default();
        let mut objects = self.objects.list(Some(&self.folder()));
        while let Some(object) = objects.next().await {
            let Some(digest) = digest_of(&object?) else {
                continue;
            };
            match self.read_slowly(digest, bytes_per_second, stop).await {
                Ok(()) => scrubbed.blobs += 1,
                Err(BlobError::Damaged(_)) => scrubbed.damaged += 1,
                // Collected meanwhile.
                Err(BlobError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
            if stop.is_cancelled() {
                break;
            }
        }
        Ok(scrubbed)
    }

    async fn read_slowly(
        self: &Arc<Self>,
        digest: Digest,
        bytes_per_second: u64,
        stop: &CancellationToken,
    ) -> Result<(), BlobError> {
        let (mut pieces, _) = Pieces::open(self, digest, 0, None).await?;
        loop {
            let began = Instant::now();
            let read = pieces.next().await?.len();
            if read == 0 {
                return Ok(());
            }
            let due = Duration::from_secs_f64(read as f64 / bytes_per_second.max(1) as f64);
            let pause = tokio::time::sleep(due.saturating_sub(began.elapsed()));
            if stop.run_until_cancelled(pause).await.is_none() {
                return Ok(());
            }
        }
    }
}

/// The blob that an object is, if this server has made it.
fn digest_of(object: &ObjectMeta) -> Option<Digest> {
    Digest::from_hex(object.location.filename()?).ok()
}

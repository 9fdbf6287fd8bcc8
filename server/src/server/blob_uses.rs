//! The job store as what a place of blobs asks about their use.

use std::{io, sync::Arc, time::Duration};

use tonic::async_trait;

use crate::{
    blob::{Removal, Uses},
    clock::{Clock, Timestamp},
    digest::Digest,
    store::{Store, StoreError},
};

/// The uses of blobs by the jobs of a store.
pub(crate) struct StoreUses {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl StoreUses {
    fn ago(&self, time: Duration) -> Timestamp {
        let time = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Timestamp::from_millis(self.clock.now().as_millis().saturating_sub(time))
    }
}

#[async_trait]
impl Uses for StoreUses {
    async fn unreferenced(&self, blobs: &[Digest]) -> io::Result<Vec<Digest>> {
        let unreferenced = self.store.unreferenced(blobs).await;
        unreferenced.map_err(failed)
    }

    async fn note(&self, blobs: &[Digest]) -> io::Result<()> {
        let noted = self.store.note_blob_use(blobs, self.clock.now()).await;
        noted.map_err(failed)
    }

    async fn unused(&self, blobs: &[Digest], grace: Duration) -> io::Result<Vec<Digest>> {
        let (since, now) = (self.ago(grace), self.clock.now());
        let unused = self.store.unused_blobs(blobs, since, now).await;
        unused.map_err(failed)
    }

    async fn remove(
        &self,
        blob: Digest,
        grace: Option<Duration>,
        removal: Removal,
    ) -> io::Result<bool> {
        let since = grace.map(|grace| self.ago(grace));
        let removed = self.store.remove_blob(blob, since, removal).await;
        removed.map_err(failed)
    }

    async fn forget(&self, age: Duration) -> io::Result<()> {
        let forgotten = self.store.forget_blob_use(self.ago(age)).await;
        forgotten.map_err(failed)
    }
}

fn failed(error: StoreError) -> io::Error {
    io::Error::other(error)
}

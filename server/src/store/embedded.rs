//! [`Embedded`]: a store in this process as the rest of the server sees it. The verbs of a
//! [`RecordStore`] wait for a disk; here they do so on threads of the runtime that may.

use std::{sync::Arc, time::Duration};

use dual16_proto::v1;
use tonic::async_trait;

use super::{
    Changes, Claim, Claimed, Counts, Created, Engine, EventPage, JobPage, JobQuery, RecordStore,
    Retention, Store, StoreError, StoredJob,
};
use crate::{
    blob::Removal,
    clock::Timestamp,
    digest::Digest,
    job::{Completion, FailureReport, JobId, LeaseRef, NewJob},
    permits::kept,
    principal::Principal,
};

/// A [`Store`] over an engine of this process.
#[derive(Debug)]
pub struct Embedded<E> {
    records: Arc<RecordStore<E>>,
    /// Held alone while a blob is removed, together while uses are noted: there is no other server.
    removing: tokio::sync::RwLock<()>,
}

impl<E: Engine> Embedded<E> {
    /// The store to serve.
    pub fn new(records: RecordStore<E>) -> Self {
        Self {
            records: Arc::new(records),
            removing: tokio::sync::RwLock::default(),
        }
    }

    #[cfg(test)]
    pub(crate) fn records(&self) -> &RecordStore<E> {
        &self.records
    }

    /// Runs a verb where it may block. It ends even if nobody waits for it any more.
    async fn run<T: Send + 'static>(
        &self,
        verb: impl FnOnce(&RecordStore<E>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let records = Arc::clone(&self.records);
        let span = tracing::Span::current();
        let verb = move || span.in_scope(|| verb(&records));
        // The task fails only when the runtime stops or the verb panicked.
        let outcome = tokio::task::spawn_blocking(kept(verb)).await;
        outcome.map_err(|_| StoreError::Closed)?
    }
}

#[async_trait]
impl<E: Engine> Store for Embedded<E> {
    async fn create_job(
        &self,
        job: NewJob,
        spec: &v1::JobSpec,
        now: Timestamp,
    ) -> Result<Created, StoreError> {
        let spec = spec.clone();
        self.run(move |records| records.create_job(job, &spec, now))
            .await
    }

    async fn get_job(&self, id: JobId) -> Result<StoredJob, StoreError> {
        self.run(move |records| records.get_job(id)).await
    }

    async fn job_owner(&self, id: JobId) -> Result<Principal, StoreError> {
        self.run(move |records| records.job_owner(id)).await
    }

    async fn list_jobs(&self, query: &JobQuery) -> Result<JobPage, StoreError> {
        let query = query.clone();
        self.run(move |records| records.list_jobs(&query)).await
    }

    async fn claim(&self, claim: &Claim, now: Timestamp) -> Result<Claimed, StoreError> {
        let claim = claim.clone();
        self.run(move |records| records.claim(&claim, now)).await
    }

    async fn leased_spec(&self, lease: LeaseRef) -> Result<v1::JobSpec, StoreError> {
        self.run(move |records| records.leased_spec(lease)).await
    }

    async fn renew(
        &self,
        leases: &[LeaseRef],
        now: Timestamp,
        ttl: Duration,
    ) -> Result<Vec<LeaseRef>, StoreError> {
        let leases = leases.to_vec();
        self.run(move |records| records.renew(&leases, now, ttl))
            .await
    }

    async fn complete(
        &self,
        lease: LeaseRef,
        completion: Completion,
        now: Timestamp,
    ) -> Result<Changes, StoreError> {
        self.run(move |records| records.complete(lease, completion, now))
            .await
    }

    async fn fail(
        &self,
        lease: LeaseRef,
        report: FailureReport,
        now: Timestamp,
    ) -> Result<Changes, StoreError> {
        self.run(move |records| records.fail(lease, report, now))
            .await
    }

    async fn release(&self, leases: &[LeaseRef], now: Timestamp) -> Result<Changes, StoreError> {
        let leases = leases.to_vec();
        self.run(move |records| records.release(&leases, now)).await
    }

    async fn cancel(&self, id: JobId, now: Timestamp) -> Result<(StoredJob, Changes), StoreError> {
        self.run(move |records| records.cancel(id, now)).await
    }

    async fn retry(&self, id: JobId, now: Timestamp) -> Result<(StoredJob, Changes), StoreError> {
        self.run(move |records| records.retry(id, now)).await
    }

    async fn delete(&self, id: JobId) -> Result<Changes, StoreError> {
        self.run(move |records| records.delete(id)).await
    }

    async fn prune(&self, retention: Retention, now: Timestamp) -> Result<Changes, StoreError> {
        self.run(move |records| records.prune(retention, now)).await
    }

    async fn unreferenced(&self, blobs: &[Digest]) -> Result<Vec<Digest>, StoreError> {
        let blobs = blobs.to_vec();
        self.run(move |records| records.unreferenced(&blobs)).await
    }

    async fn note_blob_use(&self, blobs: &[Digest], now: Timestamp) -> Result<(), StoreError> {
        let _noting = self.removing.read().await;
        let blobs = blobs.to_vec();
        self.run(move |records| records.note_blob_use(&blobs, now))
            .await
    }

    async fn unused_blobs(
        &self,
        blobs: &[Digest],
        since: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<Digest>, StoreError> {
        let blobs = blobs.to_vec();
        self.run(move |records| records.unused_blobs(&blobs, since, now))
            .await
    }

    async fn remove_blob(
        &self,
        blob: Digest,
        since: Option<Timestamp>,
        removal: Removal,
    ) -> Result<bool, StoreError> {
        let _removing = self.removing.write().await;
        if let Some(since) = since
            && !self
                .run(move |records| records.is_unused(blob, since))
                .await?
        {
            return Ok(false);
        }
        if !removal.await {
            return Ok(false);
        }
        self.run(move |records| records.forget_use(blob)).await?;
        Ok(true)
    }

    async fn forget_blob_use(&self, before: Timestamp) -> Result<(), StoreError> {
        self.run(move |records| records.forget_blob_use(before))
            .await
    }

    async fn read_events(&self, id: JobId, after: u64) -> Result<EventPage, StoreError> {
        self.run(move |records| records.read_events(id, after))
            .await
    }

    async fn extend_leases(&self, deadline: Timestamp) -> Result<(), StoreError> {
        self.run(move |records| records.extend_leases(deadline))
            .await
    }

    async fn expire(&self, now: Timestamp) -> Result<Changes, StoreError> {
        self.run(move |records| records.expire(now)).await
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        self.run(RecordStore::counts).await
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.run(RecordStore::close).await
    }
}

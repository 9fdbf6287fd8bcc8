//! A store as the suite calls it: one verb after the other, each to its end.

use std::time::Duration;

use tokio::runtime::Runtime;

use super::*;

/// A store with a runtime of its own.
pub(super) struct Subject {
    store: Box<dyn Store>,
    runtime: Runtime,
}

impl Subject {
    pub(super) fn new(runtime: Runtime, store: impl Store) -> Self {
        let store = Box::new(store);
        Self { store, runtime }
    }
}

/// Each verb of [`Store`], waited for.
macro_rules! verbs {
    ($($verb:ident($($argument:ident: $kind:ty),*) -> $answer:ty;)+) => {
        impl Subject {
            $(
                pub(super) fn $verb(&self, $($argument: $kind),*) -> Result<$answer, StoreError> {
                    self.runtime.block_on(self.store.$verb($($argument),*))
                }
            )+
        }
    };
}

verbs! {
    create_job(job: NewJob, spec: &v1::JobSpec, now: Timestamp) -> Created;
    get_job(id: JobId) -> StoredJob;
    job_owner(id: JobId) -> Principal;
    list_jobs(query: &JobQuery) -> JobPage;
    claim(claim: &Claim, now: Timestamp) -> Claimed;
    renew(leases: &[LeaseRef], now: Timestamp, ttl: Duration) -> Vec<LeaseRef>;
    complete(lease: LeaseRef, completion: Completion, now: Timestamp) -> Changes;
    fail(lease: LeaseRef, report: FailureReport, now: Timestamp) -> Changes;
    release(leases: &[LeaseRef], now: Timestamp) -> Changes;
    cancel(id: JobId, now: Timestamp) -> (StoredJob, Changes);
    retry(id: JobId, now: Timestamp) -> (StoredJob, Changes);
    delete(id: JobId) -> Changes;
    prune(retention: Retention, now: Timestamp) -> Changes;
    unreferenced(blobs: &[Digest]) -> Vec<Digest>;
    note_blob_use(blobs: &[Digest], now: Timestamp) -> ();
    unused_blobs(blobs: &[Digest], since: Timestamp, now: Timestamp) -> Vec<Digest>;
    remove_blob(blob: Digest, since: Option<Timestamp>, removal: Removal) -> bool;
    forget_blob_use(before: Timestamp) -> ();
    read_events(id: JobId, after: u64) -> EventPage;
    extend_leases(deadline: Timestamp) -> ();
    expire(now: Timestamp) -> Changes;
    counts() -> Counts;
    close() -> ();
}

//! Durable state of the jobs, behind one trait of domain verbs.
//!
//! The verbs are what the service does (create, claim, complete …), not get and put, so that an
//! engine may implement each in its own best way: [`RecordStore`] runs them over any ordered
//! key-value [`Engine`] of one process (memory, sled); a shared database would claim with its own
//! locks. `conformance` is the suite that every implementation passes. Nothing here knows gRPC.

mod audit;
mod catalog;
mod commit;
mod commit_count;
mod embedded;
mod engine;
mod error;
mod granted;
mod index;
mod keys;
mod leases;
mod memory;
mod observed_time;
pub(crate) mod postgres;
mod ready;
mod records;
pub(crate) mod salvage;
mod sled;
mod staged;
mod transition;
mod turns;
mod verbs;
mod waiting;

#[cfg(test)]
mod conformance;
#[cfg(test)]
pub(crate) mod testing;

use std::time::Duration;

use dual16_proto::v1;
use prost::Message as _;
use tonic::async_trait;

pub(crate) use self::sled::LostCommits;
pub use self::{
    embedded::Embedded,
    engine::{Batch, Engine, MAX_RECORD_BYTES, Order, Record, Records},
    error::StoreError,
    memory::MemoryEngine,
    postgres::{InvalidUrl, PostgresStore, check as check_database},
    records::{RecordStore, StoreConfig},
    sled::SledEngine,
    transition::Transition,
};
use crate::{
    blob::Removal,
    clock::Timestamp,
    digest::Digest,
    job::{
        Completion, FailureReport, Grant, Job, JobId, LeaseRef, NewJob, State, TaskId, TaskName,
    },
    principal::Principal,
};

/// The state of all jobs.
///
/// Every verb is atomic, and **returns only once everything it read or wrote is durable**: what a
/// caller was told survives kill -9 and loss of power.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Queues a job. A second call of its owner with the same request id and spec digest returns the first
    /// one's job; [`StoreError::RequestIdReused`] if the digest differs, [`StoreError::QueueFull`]
    /// when no further job may be open.
    async fn create_job(
        &self,
        job: NewJob,
        spec: &v1::JobSpec,
        now: Timestamp,
    ) -> Result<Created, StoreError>;

    /// One job with its spec.
    async fn get_job(&self, id: JobId) -> Result<StoredJob, StoreError>;

    /// Whose job it is; that never changes.
    async fn job_owner(&self, id: JobId) -> Result<Principal, StoreError>;

    /// Jobs, newest first.
    async fn list_jobs(&self, query: &JobQuery) -> Result<JobPage, StoreError>;

    /// Leases queued tasks: by priority, lower ones now and then; within one, owners in turn; of each the
    /// oldest of the jobs that the worker has, else the oldest; within a job by stage and index.
    async fn claim(&self, claim: &Claim, now: Timestamp) -> Result<Claimed, StoreError>;

    /// The spec of the job of a task, for the one who holds the lease.
    async fn leased_spec(&self, lease: LeaseRef) -> Result<v1::JobSpec, StoreError>;

    /// Extends those of the leases that still hold until `now + ttl`, and returns the others.
    async fn renew(
        &self,
        leases: &[LeaseRef],
        now: Timestamp,
        ttl: Duration,
    ) -> Result<Vec<LeaseRef>, StoreError>;

    /// Hands in a result. Idempotent for the lease that completed the task.
    async fn complete(
        &self,
        lease: LeaseRef,
        completion: Completion,
        now: Timestamp,
    ) -> Result<Changes, StoreError>;

    /// Hands in an error.
    async fn fail(
        &self,
        lease: LeaseRef,
        report: FailureReport,
        now: Timestamp,
    ) -> Result<Changes, StoreError>;

    /// Gives tasks back; leases that no longer hold are passed over.
    async fn release(&self, leases: &[LeaseRef], now: Timestamp) -> Result<Changes, StoreError>;

    /// Stops a job; one that has ended stays as it is.
    async fn cancel(&self, id: JobId, now: Timestamp) -> Result<(StoredJob, Changes), StoreError>;

    /// Queues again what failed or was not done.
    async fn retry(&self, id: JobId, now: Timestamp) -> Result<(StoredJob, Changes), StoreError>;

    /// Removes a job that has ended, with everything of it but its blobs, which it keeps no longer.
    async fn delete(&self, id: JobId) -> Result<Changes, StoreError>;

    /// Removes some of the ended jobs that are not to be kept any longer, as [`Store::delete`] does.
    /// Call it again until nothing changes.
    async fn prune(&self, retention: Retention, now: Timestamp) -> Result<Changes, StoreError>;

    /// Those of `blobs` that no job keeps.
    async fn unreferenced(&self, blobs: &[Digest]) -> Result<Vec<Digest>, StoreError>;

    /// Notes that these blobs are used now, for blobs whose place keeps no such time. Waits while one of
    /// them is being removed.
    async fn note_blob_use(&self, blobs: &[Digest], now: Timestamp) -> Result<(), StoreError>;

    /// Those of `blobs` that no job keeps and nobody has used since `since`. One whose use was never noted
    /// counts as used `now`.
    async fn unused_blobs(
        &self,
        blobs: &[Digest],
        since: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<Digest>, StoreError>;

    /// Runs `removal` while nobody can note a use of the blob, if [`Store::unused_blobs`] still names it;
    /// without `since` whoever uses it. Whether the blob is gone, and its last use with it.
    async fn remove_blob(
        &self,
        blob: Digest,
        since: Option<Timestamp>,
        removal: Removal,
    ) -> Result<bool, StoreError>;

    /// Forgets uses before `before` of blobs that no job keeps.
    async fn forget_blob_use(&self, before: Timestamp) -> Result<(), StoreError>;

    /// Events of a job with a sequence greater than `after`, as many as fit a page.
    async fn read_events(&self, id: JobId, after: u64) -> Result<EventPage, StoreError>;

    /// Extends every lease to `deadline` at least: for a server that could not listen for a while, and
    /// so cannot tell who was silent.
    async fn extend_leases(&self, deadline: Timestamp) -> Result<(), StoreError>;

    /// Fails the attempts whose lease has run out, and queues the tasks whose backoff is over.
    async fn expire(&self, now: Timestamp) -> Result<Changes, StoreError>;

    /// How much is queued and leased.
    async fn counts(&self) -> Result<Counts, StoreError>;

    /// Whether this server does what one does for all that share the store: ending leases, removing what is
    /// not kept.
    async fn leads(&self) -> Result<bool, StoreError> {
        Ok(true)
    }

    /// What another server of the same store has changed, as soon as it is heard of. Where no other can be,
    /// never.
    async fn hint(&self) -> Hint {
        std::future::pending().await
    }

    /// Waits for the verbs under way, makes everything durable and lets go of the database; every
    /// later verb is [`StoreError::Closed`].
    async fn close(&self) -> Result<(), StoreError>;
}

/// A use is not noted anew so soon after one: what is asked for again and again costs no write. A small part of
/// the shortest grace.
const FRESH_USE: Duration = Duration::from_millis(100);

/// Answer to [`Store::create_job`].
#[derive(Clone, Debug)]
pub struct Created {
    /// The job, new or not.
    pub job: StoredJob,
    /// What the creation changed; nothing if the job was there already.
    pub changes: Changes,
}

/// A job with its spec.
#[derive(Clone, Debug)]
pub struct StoredJob {
    /// The header.
    pub job: Job,
    /// What was asked for.
    pub spec: v1::JobSpec,
}

/// Which jobs to list.
#[derive(Clone, Debug)]
pub struct JobQuery {
    /// Only jobs older than this one.
    pub before: Option<JobId>,
    /// Only this one's jobs.
    pub owner: Option<Principal>,
    /// Only jobs in one of these states; empty = all.
    pub states: Vec<State>,
    /// At most this many, from 1.
    pub limit: usize,
    /// The page ends early when its specs have more bytes than this.
    pub max_bytes: usize,
}

/// A page of jobs.
#[derive(Clone, Debug)]
pub struct JobPage {
    /// Newest first.
    pub jobs: Vec<StoredJob>,
    /// There are older ones.
    pub more: bool,
}

/// A worker's wish for tasks.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Who asks.
    pub worker: String,
    /// Jobs whose files it has, and which it had better go on with.
    pub jobs: Vec<JobId>,
    /// At most this many tasks.
    pub max_tasks: usize,
    /// At most this many bytes of payloads and inputs, but always one task.
    pub max_bytes: usize,
    /// How long the leases last.
    pub ttl: Duration,
}

/// Answer to [`Store::claim`].
#[derive(Clone, Debug, Default)]
pub struct Claimed {
    /// The leased tasks.
    pub tasks: Vec<LeasedTask>,
    /// Further tasks are queued.
    pub more: bool,
    /// Jobs that started with them.
    pub changes: Changes,
}

/// A task with all that its worker needs.
#[derive(Clone, Debug)]
pub struct LeasedTask {
    /// The job as of the claim, with the facts of its spec.
    pub job: Job,
    /// Which task.
    pub task: TaskId,
    /// The lease.
    pub grant: Grant,
    /// What to do.
    pub payload: v1::Payload,
    /// For a reduce: the results of the stage's maps, by index.
    pub inputs: Vec<v1::Payload>,
}

/// A page of events.
#[derive(Clone, Debug)]
pub struct EventPage {
    /// In order, without a gap.
    pub events: Vec<v1::JobEvent>,
    /// Sequence of the job's newest event.
    pub last_sequence: u64,
    /// The job has ended. With `events` up to `last_sequence`, nothing more will come.
    pub ended: bool,
}

impl EventPage {
    /// The page of what is stored of a job's events from `after` on.
    fn read(
        job: &Job,
        after: u64,
        stored: impl Iterator<Item = Vec<u8>>,
    ) -> Result<Self, StoreError> {
        let mut events = Vec::new();
        for (expected, event) in (after + 1..).zip(stored) {
            let event = v1::JobEvent::decode(event.as_slice()).ok();
            let event = event.filter(|event| event.sequence == expected);
            // A gap can only be a deletion under way.
            events.push(event.ok_or(StoreError::NotFound(job.id))?);
        }
        if events.is_empty() && after < job.last_sequence {
            return Err(StoreError::NotFound(job.id));
        }
        Ok(Self {
            events,
            last_sequence: job.last_sequence,
            ended: job.phase.ended().is_some(),
        })
    }
}

/// Whom a change concerns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Jobs with new events, or that are gone.
    pub jobs: Vec<JobId>,
    /// Tasks that can be leased now and could not before.
    pub queued: usize,
    /// Leases that ran out, with the worker that held them.
    pub lost: Vec<(String, TaskName)>,
    /// What happened, in order.
    pub transitions: Vec<Transition>,
}

impl Changes {
    /// Adds what happened after it.
    pub(crate) fn append(&mut self, later: Self) {
        let Self {
            jobs,
            queued,
            lost,
            transitions,
        } = later;
        self.jobs.extend(jobs);
        self.queued += queued;
        self.lost.extend(lost);
        self.transitions.extend(transitions);
    }
}

/// Where another server may have changed something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    /// Jobs have new events, or are gone, and so many tasks can be leased.
    Changed {
        /// The jobs.
        jobs: Vec<JobId>,
        /// How many tasks.
        queued: usize,
    },
    /// Anywhere: some changes were not heard of.
    Anything,
}

/// Totals over all jobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Jobs that have not ended.
    pub open_jobs: u64,
    /// Tasks waiting for a worker.
    pub queued_tasks: u64,
    /// Tasks that failed and wait for their next attempt.
    pub waiting_tasks: u64,
    /// Tasks a worker has.
    pub leased_tasks: u64,
    /// When the oldest of their leases was granted, or found in a store that was opened.
    pub oldest_lease: Option<Timestamp>,
}

/// What jobs use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Jobs in any state.
    pub jobs: u64,
    /// Jobs that have not ended.
    pub open_jobs: u64,
    /// Bytes of the blobs that they keep. A blob counts once for each job that keeps it.
    pub bytes: u64,
}

/// What the jobs of one owner may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Jobs that have not ended.
    pub open_jobs: u64,
    /// Bytes, as [`Usage::bytes`] counts them.
    pub bytes: u64,
}

impl Quota {
    /// Refuses a further open job with `asked` bytes of an owner whose jobs use `used`.
    fn admit(&self, owner: &Principal, used: Usage, asked: u64) -> Result<(), StoreError> {
        let exceeded = |what, limit, asked, used, max| StoreError::QuotaExceeded {
            owner: owner.clone(),
            what,
            limit,
            asked,
            used,
            max,
        };
        if used.open_jobs >= self.open_jobs {
            let (what, max) = ("pending and running jobs", self.open_jobs);
            return Err(exceeded(what, "owner_jobs", 1, used.open_jobs, max));
        }
        if used.bytes.saturating_add(asked) > self.bytes {
            let (what, max) = ("bytes of jobs", self.bytes);
            return Err(exceeded(what, "owner_bytes", asked, used.bytes, max));
        }
        Ok(())
    }
}

/// How long jobs that have ended are kept. Others always are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// From their end; `None` = for ever.
    pub keep_for: Option<Duration>,
    /// As long as there are no more jobs than this, the ones that have not ended included.
    pub max_jobs: Option<u64>,
}

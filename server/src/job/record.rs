//! The job itself: what is stored of it besides its tasks, events and spec.

use std::time::Duration;

use dual16_proto::v1::JobSpec;
use prost::Message as _;
use serde::{Deserialize, Serialize};

use super::{JobId, Priority, TaskName};
use crate::{clock::Timestamp, digest::Digest, principal::Principal};

/// What a new job starts from.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// A fresh id.
    pub id: JobId,
    /// Whose job it is.
    pub owner: Principal,
    /// How urgent it is.
    pub priority: Priority,
    /// What people call it.
    pub display_name: String,
    /// Digest of the encoded spec.
    pub spec_digest: Digest,
    /// Makes creation idempotent, among the owner's jobs.
    pub request_id: Option<String>,
    /// Blobs that its spec names.
    pub blobs: Vec<BlobRef>,
    /// W3C traceparent of the call that made it.
    pub trace: Option<String>,
}

/// A job's header. Small whatever the job's size: tasks, results and events are counted here and
/// stored elsewhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Which job.
    pub id: JobId,
    /// Whose job it is; never changes.
    #[serde(default)]
    pub owner: Principal,
    /// How urgent it is; never changes.
    #[serde(default)]
    pub priority: Priority,
    /// What people call it.
    pub display_name: String,
    /// Digest of the encoded spec.
    pub spec_digest: Digest,
    /// What every lease needs of the spec; `None` in what an older server wrote.
    #[serde(default)]
    pub spec: Option<SpecFacts>,
    /// The request that made it.
    pub request_id: Option<String>,
    /// W3C traceparent of the call that made it, for its tasks to continue.
    #[serde(default)]
    pub trace: Option<String>,
    /// When it was queued.
    pub created: Timestamp,
    /// When its first task was leased.
    pub started: Option<Timestamp>,
    /// When it was retried last.
    #[serde(default)]
    pub retried: Option<Timestamp>,
    /// In the order they started; the last one is the current one.
    pub stages: Vec<Stage>,
    /// Where it stands.
    pub phase: Phase,
    /// Bytes of the blobs it refers to, each counted once.
    #[serde(default)]
    pub bytes: u64,
    /// Sequence of the newest event; events count 1, 2, 3 … without a gap.
    pub last_sequence: u64,
}

impl Job {
    /// The task's name among all jobs.
    pub fn task_name(&self, task: super::TaskId) -> TaskName {
        TaskName { job: self.id, task }
    }

    /// When it ends by itself, whether or not a worker was there for it; `None` too once it has ended.
    pub fn deadline(&self) -> Option<Timestamp> {
        let seconds = self.spec?.deadline_seconds;
        let queued = self.retried.unwrap_or(self.created);
        let limited = seconds > 0 && self.phase.ended().is_none();
        limited.then(|| queued.after(Duration::from_secs(seconds)))
    }
}

/// What is known of a spec without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpecFacts {
    /// Bytes of the encoded spec.
    pub bytes: u64,
    /// The job's own deadline, from when it was queued or retried; 0 = none.
    pub deadline_seconds: u64,
}

impl From<&JobSpec> for SpecFacts {
    fn from(spec: &JobSpec) -> Self {
        Self {
            bytes: spec.encoded_len() as u64,
            deadline_seconds: spec.deadline_seconds,
        }
    }
}

/// Progress of one stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// Its name, chosen by the reduce before it.
    pub name: String,
    /// Number of map tasks.
    pub maps: u32,
    /// Maps that are done.
    pub maps_done: u32,
    /// The reduce is done, and so is the stage.
    pub reduce_done: bool,
    /// Tasks leased now.
    pub running: u32,
    /// What any of its tasks may take, in seconds on a slow core; 0 = nobody knows.
    #[serde(default)]
    pub seconds: u64,
}

impl Stage {
    /// The reduce can run.
    pub fn maps_are_done(&self) -> bool {
        self.maps_done == self.maps
    }

    /// Tasks done, the reduce included.
    pub fn done(&self) -> u32 {
        self.maps_done.saturating_add(u32::from(self.reduce_done))
    }

    /// Tasks in all, the reduce included.
    pub fn tasks(&self) -> u32 {
        self.maps.saturating_add(1)
    }
}

/// Where a job stands, with what only that phase has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Phase {
    /// Queued; no task was leased yet.
    Pending,
    /// Some task was leased.
    Running,
    /// Every stage is done.
    Succeeded {
        /// When.
        ended: Timestamp,
        /// What came out.
        artifacts: Vec<Artifact>,
    },
    /// A task failed for good.
    Failed {
        /// When.
        ended: Timestamp,
        /// Which task, and why.
        error: JobError,
    },
    /// Stopped on request.
    Cancelled {
        /// When.
        ended: Timestamp,
    },
}

/// The phase alone, to select jobs by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// [`Phase::Pending`]
    Pending,
    /// [`Phase::Running`]
    Running,
    /// [`Phase::Succeeded`]
    Succeeded,
    /// [`Phase::Failed`]
    Failed,
    /// [`Phase::Cancelled`]
    Cancelled,
}

impl State {
    /// As people read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl Phase {
    /// The phase without its details.
    pub fn state(&self) -> State {
        match self {
            Self::Pending => State::Pending,
            Self::Running => State::Running,
            Self::Succeeded { .. } => State::Succeeded,
            Self::Failed { .. } => State::Failed,
            Self::Cancelled { .. } => State::Cancelled,
        }
    }

    /// When the job ended; `None` while it is still to be worked on.
    pub fn ended(&self) -> Option<Timestamp> {
        match self {
            Self::Pending | Self::Running => None,
            Self::Succeeded { ended, .. }
            | Self::Failed { ended, .. }
            | Self::Cancelled { ended } => Some(*ended),
        }
    }
}

/// A blob that a job refers to, and so keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobRef {
    /// Which blob.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// A file that a job produced; the bytes are a blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// File name.
    pub name: String,
    /// Digest of the blob.
    pub digest: Digest,
    /// Size in bytes.
    pub size: u64,
}

/// Why a job failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobError {
    /// Upper snake case, stable.
    pub code: String,
    /// For people.
    pub message: String,
    /// Name of the task that failed.
    pub task: String,
    /// The error of each attempt, oldest first.
    pub attempts: Vec<Failure>,
}

/// One failed attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Number of the grant that failed.
    pub attempt: u32,
    /// Who held it.
    pub worker: String,
    /// What went wrong.
    pub message: String,
    /// When the server learned of it.
    pub time: Timestamp,
}

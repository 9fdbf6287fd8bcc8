//! One task: who holds it, how often it failed, how it ended.

use serde::{Deserialize, Serialize};

use super::{Failure, LeaseId, TaskId};
use crate::clock::Timestamp;

/// Tells the grants of one task apart. Every write of a worker carries it, so that one who lost
/// the task cannot touch it any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fence {
    /// The grant.
    pub lease: LeaseId,
    /// Number of the grant, from 1. It grows with every grant, also after a release that counts
    /// as no failure: a fence that could come back would not be one.
    pub attempt: u32,
}

/// A task in the hands of a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Proof of the grant.
    pub fence: Fence,
    /// The holder, for people to read.
    pub worker: String,
    /// When the lease ran out as granted. Renewals are not stored.
    pub deadline: Timestamp,
    /// Other tasks run in the worker, as far as is known: one that runs alone waits for their end.
    #[serde(default)]
    pub busy: bool,
}

/// Where a task stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaskState {
    /// Not done and nobody's. A map is then in the queue; a reduce is once its maps are done.
    Pending,
    /// It failed and is nobody's; it can be leased again from then on.
    Waiting {
        /// The end of its backoff.
        until: Timestamp,
    },
    /// A worker has it.
    Leased(Grant),
    /// Done, by this grant: the same worker may say so again.
    Done(Fence),
    /// Failed for good.
    Failed,
}

/// A task as it is stored. Its payload and its result are records of their own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Which task.
    pub id: TaskId,
    /// Number of the newest grant, 0 before the first.
    pub attempt: u32,
    /// Failed attempts since the job was created or retried, oldest first.
    pub failures: Vec<Failure>,
    /// Where it stands.
    pub state: TaskState,
}

impl Task {
    /// A task that nobody has tried yet.
    pub fn new(id: TaskId) -> Self {
        Self {
            id,
            attempt: 0,
            failures: Vec::new(),
            state: TaskState::Pending,
        }
    }

    /// The task must have a worker to itself. It was lost with a worker once, and nobody knows
    /// whether it took the worker down or was there when another task did: with nothing beside it, it
    /// harms no other and fails by its own doing only.
    pub fn runs_alone(&self) -> bool {
        self.failures.iter().any(|failure| failure.lost)
    }

    /// A worker has the task and has not begun it: it runs alone, and others have to end first. The
    /// worker says when it begins; before that it is no attempt.
    pub fn waits_for_others(&self) -> bool {
        self.runs_alone() && self.grant().is_some_and(|grant| grant.busy)
    }

    /// The task was completed.
    pub fn is_done(&self) -> bool {
        matches!(self.state, TaskState::Done(_))
    }

    /// The task is nobody's, and no backoff keeps it from being leased at `now`.
    pub fn is_due(&self, now: Timestamp) -> bool {
        match self.state {
            TaskState::Pending => true,
            TaskState::Waiting { until } => until <= now,
            TaskState::Leased(_) | TaskState::Done(_) | TaskState::Failed => false,
        }
    }

    /// The grant that holds the task now.
    pub fn grant(&self) -> Option<&Grant> {
        match &self.state {
            TaskState::Leased(grant) => Some(grant),
            TaskState::Pending
            | TaskState::Waiting { .. }
            | TaskState::Done(_)
            | TaskState::Failed => None,
        }
    }
}

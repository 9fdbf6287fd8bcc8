//! What can happen to a job or to one of its tasks. Payloads and event details are opaque.

use dual16_proto::v1;

use super::{Artifact, BlobRef, Fence, Grant};

/// Something happened to one task.
#[derive(Clone, Debug)]
pub enum TaskEvent {
    /// A worker takes the task.
    Claim(Grant),
    /// The worker hands in the result.
    Complete(Fence, Completion),
    /// The worker hands in an error.
    Fail(Fence, FailureReport),
    /// The lease ran out.
    Expire(Fence),
    /// The worker gives the task back untouched.
    Release(Fence),
}

/// Something was asked of a whole job, or time has passed for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobEvent {
    /// Stop it.
    Cancel,
    /// Queue again what failed or was not done.
    Retry,
    /// End it if its deadline has passed.
    Expire,
}

/// The result of a task.
#[derive(Clone, Debug)]
pub struct Completion {
    /// What the reduce of the stage will see of this task.
    pub result: v1::Payload,
    /// Blobs it names or left for later tasks: the job keeps them.
    pub blobs: Vec<BlobRef>,
    /// Events to append to the job's own.
    pub details: Vec<v1::EventDetail>,
    /// What follows: required of a reduce, forbidden to a map.
    pub next: Option<Next>,
}

/// What a reduce decided.
#[derive(Clone, Debug)]
pub enum Next {
    /// Go on with this stage.
    Stage(PlannedStage),
    /// The job has succeeded with these artifacts.
    Finish(Vec<Artifact>),
}

/// A stage to start: maps in parallel, then the reduce.
#[derive(Clone, Debug)]
pub struct PlannedStage {
    /// Its name.
    pub name: String,
    /// Payload of each map, by index. None = the reduce runs at once.
    pub maps: Vec<v1::Payload>,
    /// Payload of the reduce.
    pub reduce: v1::Payload,
    /// What any task of it may take, in seconds on a slow core; 0 = nobody knows.
    pub seconds: u64,
}

impl PlannedStage {
    /// The stage every job starts with: one reduce without payload, which plans the rest.
    pub fn plan() -> Self {
        let empty = v1::Payload {
            kind: Some(v1::payload::Kind::Inline(Vec::new())),
        };
        Self {
            name: "plan".into(),
            maps: Vec::new(),
            reduce: empty,
            seconds: 0,
        }
    }
}

/// The error of one attempt, as a worker reports it.
#[derive(Clone, Debug)]
pub struct FailureReport {
    /// Upper snake case, stable.
    pub code: String,
    /// For people.
    pub message: String,
    /// Another attempt cannot succeed.
    pub permanent: bool,
}

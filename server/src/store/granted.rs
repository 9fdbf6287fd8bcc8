//! What a claim grants, whichever store it is granted in.

use super::MAX_RECORD_BYTES;
use crate::job::{Grant, Job, LeaseRef, Slot, TaskId};

/// A task that is a worker's, with what the grant itself read.
pub(super) struct Granted {
    pub(super) job: Job,
    pub(super) task: TaskId,
    pub(super) grant: Grant,
}

impl Granted {
    pub(super) fn lease(&self) -> LeaseRef {
        LeaseRef {
            name: self.job.task_name(self.task),
            fence: self.grant.fence,
        }
    }
}

/// What the records of a task can have at most: nobody knows before they are read.
pub(super) fn most_bytes(job: &Job, task: TaskId) -> usize {
    let stage = job.stages.get(task.stage as usize);
    let inputs = match task.slot {
        Slot::Map(_) => 0,
        Slot::Reduce => stage.map_or(0, |stage| stage.maps as usize),
    };
    inputs.saturating_add(1).saturating_mul(MAX_RECORD_BYTES)
}

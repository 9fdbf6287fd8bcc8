//! The tasks that wait out a backoff, by the time it ends. A copy in memory of what the engine has:
//! only tasks that failed are here, so it is small.

use std::collections::BTreeSet;

use crate::{
    clock::Timestamp,
    job::{JobId, TaskName},
};

#[derive(Debug, Default)]
pub(super) struct Waiting {
    by_time: BTreeSet<(Timestamp, TaskName)>,
}

impl Waiting {
    pub(super) fn len(&self) -> usize {
        self.by_time.len()
    }

    pub(super) fn insert(&mut self, task: TaskName, until: Timestamp) {
        self.by_time.insert((until, task));
    }

    pub(super) fn remove_job(&mut self, job: JobId) {
        self.by_time.retain(|(_, task)| task.job != job);
    }

    /// Takes out the tasks whose time has come.
    pub(super) fn take_due(&mut self, now: Timestamp) -> Vec<TaskName> {
        let due = self.by_time.iter().take_while(|(until, _)| *until <= now);
        let due: Vec<_> = due.map(|(_, task)| *task).collect();
        for _ in &due {
            self.by_time.pop_first();
        }
        due
    }
}

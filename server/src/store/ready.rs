//! How many tasks of each job are queued. The engine has the queue itself; this says where its head
//! is, so that a claim does not search through what the tasks before it left behind.

use std::collections::BTreeMap;

use crate::job::JobId;

#[derive(Debug, Default)]
pub(super) struct Ready {
    jobs: BTreeMap<JobId, u64>,
    total: u64,
}

impl Ready {
    /// Queued tasks of all jobs.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// The oldest job that has a queued task.
    pub(super) fn head(&self) -> Option<JobId> {
        self.jobs.first_key_value().map(|(job, _)| *job)
    }

    pub(super) fn add(&mut self, job: JobId) {
        *self.jobs.entry(job).or_default() += 1;
        self.total += 1;
    }

    pub(super) fn take(&mut self, job: JobId) {
        let Some(queued) = self.jobs.get_mut(&job) else {
            return;
        };
        *queued -= 1;
        self.total -= 1;
        if *queued == 0 {
            self.jobs.remove(&job);
        }
    }

    pub(super) fn clear(&mut self, job: JobId) {
        self.total -= self.jobs.remove(&job).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_is_the_oldest_job_with_a_queued_task() {
        let [a, b] = [1, 2].map(|byte| JobId::from_bytes([byte; 16]));
        let mut ready = Ready::default();
        assert_eq!((ready.head(), ready.total()), (None, 0));
        for job in [b, a, a] {
            ready.add(job);
        }
        assert_eq!((ready.head(), ready.total()), (Some(a), 3));
        ready.take(a);
        assert_eq!(ready.head(), Some(a));
        ready.take(a);
        ready.take(a);
        assert_eq!((ready.head(), ready.total()), (Some(b), 1));
        ready.clear(b);
        assert_eq!((ready.head(), ready.total()), (None, 0));
    }
}

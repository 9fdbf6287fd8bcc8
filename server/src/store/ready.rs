//! How many tasks of each job are queued. The engine has the queue itself; this says where its head
//! is, so that a claim does not search through what the tasks before it left behind.

use std::collections::{BTreeMap, BTreeSet};

use crate::job::JobId;

#[derive(Debug, Default)]
pub(super) struct Ready {
    jobs: BTreeMap<JobId, u64>,
    total: u64,
    /// Jobs whose tasks cannot be leased.
    aside: BTreeSet<JobId>,
}

impl Ready {
    /// Queued tasks of all jobs but those set aside.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// The oldest job that has a queued task.
    pub(super) fn head(&self) -> Option<JobId> {
        self.jobs.first_key_value().map(|(job, _)| *job)
    }

    /// Looks at the tasks of a job no more, until it is cleared.
    pub(super) fn set_aside(&mut self, job: JobId) {
        self.total -= self.jobs.remove(&job).unwrap_or_default();
        self.aside.insert(job);
    }

    pub(super) fn add(&mut self, job: JobId) {
        if self.aside.contains(&job) {
            return;
        }
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
        self.aside.remove(&job);
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

    #[test]
    fn a_job_set_aside_is_passed_over_until_it_is_cleared() {
        let [a, b] = [1, 2].map(|byte| JobId::from_bytes([byte; 16]));
        let mut ready = Ready::default();
        for job in [a, a, b] {
            ready.add(job);
        }
        ready.set_aside(a);
        ready.add(a);
        assert_eq!((ready.head(), ready.total()), (Some(b), 1));
        ready.clear(a);
        ready.add(a);
        assert_eq!((ready.head(), ready.total()), (Some(a), 2));
    }
}

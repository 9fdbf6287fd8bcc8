//! How many tasks of each job are queued. The engine has the queue itself; this says where its head
//! is, so that a claim does not search through what the tasks before it left behind.
//!
//! Owners have turns: each task that is leased sends its owner to the end of the line, so whoever queues
//! a thousand jobs keeps nobody else waiting. An owner's own jobs go first come, first served.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Bound,
};

use crate::{job::JobId, principal::Principal};

#[derive(Debug, Default)]
pub(super) struct Ready {
    jobs: HashMap<JobId, Queued>,
    /// The jobs of each owner that have a queued task.
    owners: BTreeMap<Principal, BTreeSet<JobId>>,
    /// Whose task was leased last.
    served: Option<Principal>,
    total: u64,
    /// Jobs whose tasks cannot be leased.
    aside: BTreeSet<JobId>,
}

#[derive(Debug)]
struct Queued {
    owner: Principal,
    tasks: u64,
}

impl Ready {
    /// Queued tasks of all jobs but those set aside.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// The oldest job that has a queued task, of the owner whose turn it is: the next by name after the
    /// one served last.
    pub(super) fn head(&self) -> Option<JobId> {
        let after = self.served.as_ref().and_then(|served| {
            let others = (Bound::Excluded(served), Bound::Unbounded);
            self.owners.range::<Principal, _>(others).next()
        });
        let (_, jobs) = after.or_else(|| self.owners.first_key_value())?;
        jobs.first().copied()
    }

    /// Looks at the tasks of a job no more, until it is cleared.
    pub(super) fn set_aside(&mut self, job: JobId) {
        self.remove(job);
        self.aside.insert(job);
    }

    pub(super) fn add(&mut self, job: JobId, owner: &Principal) {
        if self.aside.contains(&job) {
            return;
        }
        let queued = self.jobs.entry(job).or_insert_with(|| Queued {
            owner: owner.clone(),
            tasks: 0,
        });
        queued.tasks += 1;
        self.total += 1;
        if queued.tasks == 1 {
            self.owners.entry(owner.clone()).or_default().insert(job);
        }
    }

    /// A task of the job is leased.
    pub(super) fn take(&mut self, job: JobId) {
        let Some(queued) = self.jobs.get_mut(&job) else {
            return;
        };
        queued.tasks -= 1;
        self.total -= 1;
        self.served = Some(queued.owner.clone());
        if queued.tasks == 0 {
            self.remove(job);
        }
    }

    pub(super) fn clear(&mut self, job: JobId) {
        self.remove(job);
        self.aside.remove(&job);
    }

    fn remove(&mut self, job: JobId) {
        let Some(queued) = self.jobs.remove(&job) else {
            return;
        };
        self.total -= queued.tasks;
        if let Some(jobs) = self.owners.get_mut(&queued.owner) {
            jobs.remove(&job);
            if jobs.is_empty() {
                self.owners.remove(&queued.owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(name: &str) -> Principal {
        name.parse().unwrap()
    }

    #[test]
    fn the_head_is_the_oldest_job_with_a_queued_task() {
        let [a, b] = [1, 2].map(|byte| JobId::from_bytes([byte; 16]));
        let mut ready = Ready::default();
        assert_eq!((ready.head(), ready.total()), (None, 0));
        for job in [b, a, a] {
            ready.add(job, &owner("ana"));
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
            ready.add(job, &owner("ana"));
        }
        ready.set_aside(a);
        ready.add(a, &owner("ana"));
        assert_eq!((ready.head(), ready.total()), (Some(b), 1));
        ready.clear(a);
        ready.add(a, &owner("ana"));
        assert_eq!((ready.head(), ready.total()), (Some(a), 2));
    }

    #[test]
    fn owners_have_turns_whatever_each_has_queued() {
        let [first, second, late] = [1, 2, 3].map(|byte| JobId::from_bytes([byte; 16]));
        let mut ready = Ready::default();
        for _ in 0..3 {
            ready.add(first, &owner("ana"));
            ready.add(second, &owner("ana"));
        }
        ready.add(late, &owner("ben"));
        ready.add(late, &owner("ben"));
        let mut order = Vec::new();
        while let Some(job) = ready.head() {
            ready.take(job);
            order.push(job);
        }
        let turns = [first, late, first, late, first, second, second, second];
        assert_eq!(order, turns);
    }
}

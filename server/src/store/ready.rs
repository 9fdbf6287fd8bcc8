//! How many tasks of each job are queued. The engine has the queue itself; this says where its head
//! is, so that a claim does not search through what the tasks before it left behind.
//!
//! Priorities and owners have turns ([`Turns`]). An owner's own jobs go first come, first served, but for
//! those that the worker has the files of: they go first, so that another worker need not fetch them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Bound,
};

use super::turns::Turns;
use crate::{
    job::{JobId, Priority},
    principal::Principal,
};

#[derive(Debug, Default)]
pub(super) struct Ready {
    jobs: HashMap<JobId, Queued>,
    /// By priority and owner, the jobs that have a queued task.
    lines: BTreeMap<Priority, BTreeMap<Principal, BTreeSet<JobId>>>,
    turns: Turns,
    total: u64,
    /// Jobs whose tasks cannot be leased.
    aside: BTreeSet<JobId>,
}

#[derive(Debug)]
struct Queued {
    priority: Priority,
    owner: Principal,
    tasks: u64,
}

impl Ready {
    /// Queued tasks of all jobs but those set aside.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// The job whose task is next, for a worker that has the files of the jobs `held`: of the priority and
    /// the owner whose turn it is the oldest of those held that has a queued task, else the oldest.
    pub(super) fn head(&self, held: &[JobId]) -> Option<JobId> {
        let mut order = self.turns.order().into_iter();
        let (priority, owners) = order.find_map(|next| self.lines.get_key_value(&next))?;
        let after = self.turns.served(*priority).and_then(|served| {
            let others = (Bound::Excluded(served), Bound::Unbounded);
            owners.range::<Principal, _>(others).next()
        });
        let (_, jobs) = after.or_else(|| owners.first_key_value())?;
        let held = held.iter().filter(|job| jobs.contains(job)).min();
        held.or_else(|| jobs.first()).copied()
    }

    /// Looks at the tasks of a job no more, until it is cleared.
    pub(super) fn set_aside(&mut self, job: JobId) {
        self.remove(job);
        self.aside.insert(job);
    }

    pub(super) fn add(&mut self, job: JobId, priority: Priority, owner: &Principal) {
        if self.aside.contains(&job) {
            return;
        }
        let queued = self.jobs.entry(job).or_insert_with(|| Queued {
            priority,
            owner: owner.clone(),
            tasks: 0,
        });
        queued.tasks += 1;
        self.total += 1;
        if queued.tasks == 1 {
            let owners = self.lines.entry(priority).or_default();
            owners.entry(owner.clone()).or_default().insert(job);
        }
    }

    /// A task of the job is leased.
    pub(super) fn take(&mut self, job: JobId) {
        let Some(queued) = self.jobs.get_mut(&job) else {
            return;
        };
        queued.tasks -= 1;
        self.total -= 1;
        let waits = |other| self.lines.contains_key(&other);
        self.turns.leased(queued.priority, &queued.owner, waits);
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
        let Some(owners) = self.lines.get_mut(&queued.priority) else {
            return;
        };
        if let Some(jobs) = owners.get_mut(&queued.owner) {
            jobs.remove(&job);
            if jobs.is_empty() {
                owners.remove(&queued.owner);
            }
        }
        if owners.is_empty() {
            self.lines.remove(&queued.priority);
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
        assert_eq!((ready.head(&[]), ready.total()), (None, 0));
        for job in [b, a, a] {
            ready.add(job, Priority::Normal, &owner("ana"));
        }
        assert_eq!((ready.head(&[]), ready.total()), (Some(a), 3));
        ready.take(a);
        assert_eq!(ready.head(&[]), Some(a));
        ready.take(a);
        ready.take(a);
        assert_eq!((ready.head(&[]), ready.total()), (Some(b), 1));
        ready.clear(b);
        assert_eq!((ready.head(&[]), ready.total()), (None, 0));
    }

    #[test]
    fn a_job_set_aside_is_passed_over_until_it_is_cleared() {
        let [a, b] = [1, 2].map(|byte| JobId::from_bytes([byte; 16]));
        let mut ready = Ready::default();
        for job in [a, a, b] {
            ready.add(job, Priority::Normal, &owner("ana"));
        }
        ready.set_aside(a);
        ready.add(a, Priority::Normal, &owner("ana"));
        assert_eq!((ready.head(&[]), ready.total()), (Some(b), 1));
        ready.clear(a);
        ready.add(a, Priority::Normal, &owner("ana"));
        assert_eq!((ready.head(&[]), ready.total()), (Some(a), 2));
    }

    #[test]
    fn owners_have_turns_whatever_each_has_queued() {
        let [first, second, late] = [1, 2, 3].map(|byte| JobId::from_bytes([byte; 16]));
        let mut ready = Ready::default();
        for _ in 0..3 {
            ready.add(first, Priority::Normal, &owner("ana"));
            ready.add(second, Priority::Normal, &owner("ana"));
        }
        ready.add(late, Priority::Normal, &owner("ben"));
        ready.add(late, Priority::Normal, &owner("ben"));
        let mut order = Vec::new();
        while let Some(job) = ready.head(&[]) {
            ready.take(job);
            order.push(job);
        }
        let turns = [first, late, first, late, first, second, second, second];
        assert_eq!(order, turns);
    }

    #[test]
    fn a_worker_goes_on_with_a_job_that_it_has_when_its_owner_has_the_turn() {
        let [first, second, other] = [1, 2, 3].map(|byte| JobId::from_bytes([byte; 16]));
        let mut ready = Ready::default();
        for (job, of) in [(first, "ana"), (second, "ana"), (other, "ben")] {
            ready.add(job, Priority::Normal, &owner(of));
            ready.add(job, Priority::Normal, &owner(of));
        }
        let mut order = Vec::new();
        while let Some(job) = ready.head(&[second]) {
            ready.take(job);
            order.push(job);
        }
        assert_eq!(order, [second, other, second, other, first, first]);
    }

    #[test]
    fn what_a_worker_has_goes_before_nothing_more_urgent() {
        let [low, high] = [1, 2].map(|byte| JobId::from_bytes([byte; 16]));
        let mut ready = Ready::default();
        ready.add(low, Priority::Low, &owner("ana"));
        ready.add(high, Priority::High, &owner("ana"));
        assert_eq!(ready.head(&[low]), Some(high));
        ready.take(high);
        assert_eq!(ready.head(&[high]), Some(low));
    }
}

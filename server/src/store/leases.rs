//! The leases in force. Kept in memory: grants are stored with their tasks, renewals are not, for
//! they come by the thousand and a restarted server gives every lease a full term anyway.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{
    clock::Timestamp,
    job::{Fence, JobId, LeaseRef, TaskName},
};

#[derive(Debug, Default)]
pub(super) struct Leases {
    held: BTreeMap<TaskName, Held>,
    by_deadline: BTreeSet<(Timestamp, TaskName)>,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    fence: Fence,
    /// When it was granted, or when the store was opened with it.
    granted: Timestamp,
    deadline: Timestamp,
}

impl Leases {
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    pub(super) fn insert(&mut self, lease: LeaseRef, granted: Timestamp, deadline: Timestamp) {
        self.remove(lease.name);
        let held = Held {
            fence: lease.fence,
            granted,
            deadline,
        };
        self.held.insert(lease.name, held);
        self.by_deadline.insert((deadline, lease.name));
    }

    pub(super) fn remove(&mut self, name: TaskName) {
        if let Some(held) = self.held.remove(&name) {
            self.by_deadline.remove(&(held.deadline, name));
        }
    }

    pub(super) fn remove_job(&mut self, job: JobId) {
        let of_job = self.held.range(TaskName::first(job)..);
        let of_job = of_job.map(|(name, _)| *name);
        let of_job: Vec<_> = of_job.take_while(|name| name.job == job).collect();
        of_job.into_iter().for_each(|name| self.remove(name));
    }

    /// Whether a task of the job is leased.
    pub(super) fn holds(&self, job: JobId) -> bool {
        let of_job = self.held.range(TaskName::first(job)..).next();
        of_job.is_some_and(|(name, _)| name.job == job)
    }

    /// When the lease of a task was granted, if it is in force.
    pub(super) fn granted(&self, name: TaskName) -> Option<Timestamp> {
        self.held.get(&name).map(|held| held.granted)
    }

    /// When the oldest lease in force was granted.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        self.held.values().map(|held| held.granted).min()
    }

    /// Extends the lease, and never shortens it; false if it is not in force.
    pub(super) fn renew(&mut self, lease: LeaseRef, now: Timestamp, ttl: Duration) -> bool {
        let held = self.held.get(&lease.name);
        if held.is_none_or(|held| held.fence != lease.fence) {
            return false;
        }
        self.put_off(lease.name, now.after(ttl));
        true
    }

    /// Extends a lease to `deadline` at least, if it is in force.
    pub(super) fn put_off(&mut self, name: TaskName, deadline: Timestamp) {
        if let Some(held) = self.held.get(&name).copied() {
            let fence = held.fence;
            let deadline = deadline.max(held.deadline);
            self.insert(LeaseRef { name, fence }, held.granted, deadline);
        }
    }

    /// Extends every lease to `deadline` at least.
    pub(super) fn extend(&mut self, deadline: Timestamp) {
        let early = self.by_deadline.iter();
        let early = early.take_while(|(ends, _)| *ends < deadline);
        let early: Vec<_> = early.map(|(_, name)| *name).collect();
        for name in early {
            self.put_off(name, deadline);
        }
    }

    /// Leases whose deadline has passed, the oldest first.
    pub(super) fn expired(&self, now: Timestamp) -> Vec<LeaseRef> {
        let due = self
            .by_deadline
            .iter()
            .take_while(|(deadline, _)| *deadline <= now);
        due.filter_map(|(_, name)| {
            self.held.get(name).map(|held| LeaseRef {
                name: *name,
                fence: held.fence,
            })
        })
        .collect()
    }
}

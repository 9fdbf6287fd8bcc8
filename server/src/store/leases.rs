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
    held: BTreeMap<TaskName, (Fence, Timestamp)>,
    by_deadline: BTreeSet<(Timestamp, TaskName)>,
}

impl Leases {
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    pub(super) fn insert(&mut self, lease: LeaseRef, deadline: Timestamp) {
        self.remove(lease.name);
        self.held.insert(lease.name, (lease.fence, deadline));
        self.by_deadline.insert((deadline, lease.name));
    }

    pub(super) fn remove(&mut self, name: TaskName) {
        if let Some((_, deadline)) = self.held.remove(&name) {
            self.by_deadline.remove(&(deadline, name));
        }
    }

    pub(super) fn remove_job(&mut self, job: JobId) {
        let of_job = self.held.range(TaskName::first(job)..);
        let of_job = of_job.map(|(name, _)| *name);
        let of_job: Vec<_> = of_job.take_while(|name| name.job == job).collect();
        of_job.into_iter().for_each(|name| self.remove(name));
    }

    /// Extends the lease; false if it is not in force.
    pub(super) fn renew(&mut self, lease: LeaseRef, now: Timestamp, ttl: Duration) -> bool {
        let held = self.held.get(&lease.name);
        let Some((_, deadline)) = held.filter(|(fence, _)| *fence == lease.fence) else {
            return false;
        };
        let deadline = now.after(ttl).max(*deadline);
        self.insert(lease, deadline);
        true
    }

    /// Extends every lease to `deadline` at least.
    pub(super) fn extend(&mut self, deadline: Timestamp) {
        let early = self.by_deadline.iter();
        let early = early.take_while(|(ends, _)| *ends < deadline);
        let early: Vec<_> = early.map(|(_, name)| *name).collect();
        for name in early {
            if let Some((fence, _)) = self.held.get(&name) {
                let lease = LeaseRef {
                    name,
                    fence: *fence,
                };
                self.insert(lease, deadline);
            }
        }
    }

    /// Leases whose deadline has passed, the oldest first.
    pub(super) fn expired(&self, now: Timestamp) -> Vec<LeaseRef> {
        let due = self
            .by_deadline
            .iter()
            .take_while(|(deadline, _)| *deadline <= now);
        due.filter_map(|(_, name)| {
            self.held.get(name).map(|(fence, _)| LeaseRef {
                name: *name,
                fence: *fence,
            })
        })
        .collect()
    }
}

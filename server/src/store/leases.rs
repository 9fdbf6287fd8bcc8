//! The leases in force. Kept in memory: grants are stored with their tasks, renewals are not, for
//! they come by the thousand and a restarted server gives every lease a full term anyway.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use crate::{
    clock::Timestamp,
    job::{Fence, JobId, LeaseRef, TaskName},
};

#[derive(Debug, Default)]
pub(super) struct Leases {
    held: HashMap<TaskName, (Fence, Timestamp)>,
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
        let of_job: Vec<_> = self
            .held
            .keys()
            .filter(|name| name.job == job)
            .copied()
            .collect();
        of_job.into_iter().for_each(|name| self.remove(name));
    }

    /// Extends the lease; false if it is not in force.
    pub(super) fn renew(&mut self, lease: LeaseRef, now: Timestamp, ttl: Duration) -> bool {
        let in_force = self
            .held
            .get(&lease.name)
            .is_some_and(|(fence, _)| *fence == lease.fence);
        if in_force {
            self.insert(lease, now.after(ttl));
        }
        in_force
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

//! What is kept in memory of every job: whose it is, where it stands, when it ended, how much it
//! holds. Lists, quotas and retention ask here, so that none of them reads all jobs. Rebuilt from
//! the headers when the store is opened; a few hundred bytes a job.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::Usage;
use crate::{
    clock::Timestamp,
    job::{Job, JobId, Priority, State},
    principal::Principal,
};

#[derive(Debug, Default)]
pub(super) struct Catalog {
    jobs: HashMap<JobId, Entry>,
    /// Jobs by owner and state, in the order of their ids.
    listed: BTreeMap<Principal, Owned>,
    ended: BTreeSet<(Timestamp, JobId)>,
    /// The deadlines of those that have not ended.
    deadlines: BTreeSet<(Timestamp, JobId)>,
    total: Usage,
}

#[derive(Debug)]
struct Entry {
    owner: Principal,
    priority: Priority,
    state: State,
    ended: Option<Timestamp>,
    deadline: Option<Timestamp>,
    bytes: u64,
}

#[derive(Debug, Default)]
struct Owned {
    by_state: HashMap<State, BTreeSet<JobId>>,
    usage: Usage,
}

impl Catalog {
    /// What all jobs use.
    pub(super) fn total(&self) -> Usage {
        self.total
    }

    /// What the jobs of one owner use.
    pub(super) fn usage(&self, owner: &Principal) -> Usage {
        self.listed
            .get(owner)
            .map_or_else(Usage::default, |owned| owned.usage)
    }

    /// How urgent a job is, and whose.
    pub(super) fn rank(&self, job: JobId) -> Option<(Priority, &Principal)> {
        let entry = self.jobs.get(&job)?;
        Some((entry.priority, &entry.owner))
    }

    /// Notes a job, or what has become of it.
    pub(super) fn put(&mut self, job: &Job) {
        let same = |entry: &Entry| entry.state == job.phase.state() && entry.bytes == job.bytes;
        if self.jobs.get(&job.id).is_some_and(same) && job.phase.ended().is_none() {
            return;
        }
        self.remove(job.id);
        let entry = Entry {
            owner: job.owner.clone(),
            priority: job.priority,
            state: job.phase.state(),
            ended: job.phase.ended(),
            deadline: job.deadline(),
            bytes: job.bytes,
        };
        if let Some(ended) = entry.ended {
            self.ended.insert((ended, job.id));
        }
        if let Some(deadline) = entry.deadline {
            self.deadlines.insert((deadline, job.id));
        }
        let owned = self.listed.entry(entry.owner.clone()).or_default();
        owned
            .by_state
            .entry(entry.state)
            .or_default()
            .insert(job.id);
        owned.usage.add(&entry);
        self.total.add(&entry);
        self.jobs.insert(job.id, entry);
    }

    /// Forgets a job.
    pub(super) fn remove(&mut self, id: JobId) {
        let Some(entry) = self.jobs.remove(&id) else {
            return;
        };
        if let Some(ended) = entry.ended {
            self.ended.remove(&(ended, id));
        }
        if let Some(deadline) = entry.deadline {
            self.deadlines.remove(&(deadline, id));
        }
        self.total.subtract(&entry);
        let Some(owned) = self.listed.get_mut(&entry.owner) else {
            return;
        };
        owned.usage.subtract(&entry);
        if let Some(jobs) = owned.by_state.get_mut(&entry.state) {
            jobs.remove(&id);
        }
        if owned.usage.jobs == 0 {
            self.listed.remove(&entry.owner);
        }
    }

    /// The newest jobs, newest first: of one owner or of all, in one of `states` or in any, older
    /// than `before`.
    pub(super) fn newest(
        &self,
        owner: Option<&Principal>,
        states: &[State],
        before: Option<JobId>,
        limit: usize,
    ) -> Vec<JobId> {
        let owners = self.listed.iter();
        let owners = owners.filter(|(name, _)| owner.is_none_or(|owner| owner == *name));
        let sets = owners.flat_map(|(_, owned)| &owned.by_state);
        let sets = sets.filter(|(state, _)| states.is_empty() || states.contains(state));
        let mut found: Vec<JobId> = Vec::new();
        for (_, jobs) in sets {
            match before {
                Some(before) => found.extend(jobs.range(..before).rev().take(limit)),
                None => found.extend(jobs.iter().rev().take(limit)),
            }
        }
        found.sort_unstable_by(|a, b| b.cmp(a));
        found.truncate(limit);
        found
    }

    /// When the job ended that did so first.
    pub(super) fn oldest_end(&self) -> Option<Timestamp> {
        self.ended.first().map(|(ended, _)| *ended)
    }

    /// The jobs that have not ended at their deadlines, the oldest deadline first.
    pub(super) fn overdue(&self, now: Timestamp) -> Vec<(Timestamp, JobId)> {
        let overdue = self.deadlines.iter();
        let overdue = overdue.take_while(|(deadline, _)| *deadline <= now);
        overdue.copied().collect()
    }

    /// Looks at the deadline of a job no more, until the job is noted anew.
    pub(super) fn forget_deadline(&mut self, id: JobId) {
        let entry = self.jobs.get_mut(&id);
        if let Some(deadline) = entry.and_then(|entry| entry.deadline.take()) {
            self.deadlines.remove(&(deadline, id));
        }
    }

    /// The ended jobs that are to go, oldest end first, at most `limit`: those beyond `max_jobs`, and those
    /// that had ended at `old`.
    pub(super) fn expired(
        &self,
        max_jobs: Option<u64>,
        old: Option<Timestamp>,
        limit: usize,
    ) -> Vec<JobId> {
        let surplus = max_jobs.map_or(0, |max| self.total.jobs.saturating_sub(max));
        let surplus = usize::try_from(surplus).unwrap_or(usize::MAX);
        let expired = self.ended.iter().enumerate();
        let expired = expired
            .take_while(|(i, (ended, _))| *i < surplus || old.is_some_and(|old| *ended <= old))
            .take(limit);
        expired.map(|(_, (_, id))| *id).collect()
    }
}

impl Usage {
    fn add(&mut self, entry: &Entry) {
        self.jobs += 1;
        self.open_jobs += u64::from(entry.ended.is_none());
        self.bytes = self.bytes.saturating_add(entry.bytes);
    }

    fn subtract(&mut self, entry: &Entry) {
        self.jobs -= 1;
        self.open_jobs -= u64::from(entry.ended.is_none());
        self.bytes = self.bytes.saturating_sub(entry.bytes);
    }
}

#[cfg(test)]
mod tests;

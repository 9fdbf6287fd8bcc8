//! What is kept in memory beside the engine: the leases in force, who waits, what is queued, and
//! the catalog of jobs. All of it can be rebuilt from the records, and is when a store is opened.

use super::{
    Changes, Records, StoreError, audit,
    catalog::Catalog,
    keys::{self, Table},
    leases::Leases,
    observed_time::ObservedTime,
    ready::Ready,
    records::reader::{self, Reader},
    transition,
    waiting::Waiting,
};
use crate::{
    clock::Timestamp,
    job::{Effect, Job, JobId, LeaseRef, Priority, State},
    principal::Principal,
};

#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) leases: Leases,
    pub(super) waiting: Waiting,
    pub(super) ready: Ready,
    pub(super) catalog: Catalog,
    pub(super) observed: ObservedTime,
    /// The latest time that a verb was called with.
    now: Timestamp,
}

impl Index {
    /// Reads it from the records, at `now`. Every lease is in force until `deadline`; no task waits
    /// beyond `longest_wait`, also if the clock was set back since it failed.
    pub(super) fn rebuild<R: Records>(
        reader: &Reader<'_, R>,
        now: Timestamp,
        deadline: Timestamp,
        longest_wait: Timestamp,
    ) -> Result<Self, StoreError> {
        let mut index = Self {
            now,
            ..Self::default()
        };
        if let Some(kept) = reader.records.get(&keys::observed_time())? {
            let kept: ObservedTime = reader::decode_json("observed time", &kept)?;
            index.observed = kept.opened(now);
        }
        reader.for_each(keys::jobs(None), |_, value| {
            let job: Job = reader::decode_json("job", &value)?;
            index.catalog.put(&job);
            Ok(())
        })?;
        reader.for_each(Table::Queue.range(), |key, _| {
            let name = keys::parse_task(&key).ok_or_else(|| reader::corrupt("queue key"))?;
            index.queue(name.job);
            Ok(())
        })?;
        reader.for_each(Table::Waiting.range(), |key, until| {
            let name = keys::parse_task(&key).ok_or_else(|| reader::corrupt("waiting key"))?;
            let until = reader::decode_time(&until).ok_or_else(|| reader::corrupt(name))?;
            index.waiting.insert(name, until.min(longest_wait));
            Ok(())
        })?;
        reader.for_each(Table::Lease.range(), |key, _| {
            let name = keys::parse_task(&key).ok_or_else(|| reader::corrupt("lease key"))?;
            let task = reader.task(name)?.ok_or_else(|| reader::corrupt(name))?;
            let fence = task.grant().ok_or_else(|| reader::corrupt(name))?.fence;
            index.leases.insert(LeaseRef { name, fence }, now, deadline);
            Ok(())
        })?;
        Ok(index)
    }

    /// A task of a job is queued. A job that is missing is found out when the task is to be leased.
    pub(super) fn queue(&mut self, job: JobId) {
        match self.catalog.rank(job) {
            Some((priority, owner)) => self.ready.add(job, priority, owner),
            None => (self.ready).add(job, Priority::default(), &Principal::default()),
        }
    }

    /// Time as the verbs see it, one after the other: it does not go back.
    pub(super) fn advance(&mut self, now: Timestamp) -> Timestamp {
        self.now = self.now.max(now);
        self.now
    }

    /// The jobs that are still to be worked on.
    pub(super) fn open_jobs(&self) -> Vec<JobId> {
        let open = [State::Pending, State::Running];
        self.catalog.newest(None, &open, None, usize::MAX)
    }

    /// Refuses a store in which a job that is still to be worked on has lost something. Others are
    /// looked at when somebody asks for them.
    pub(super) fn audit<R: Records>(&self, reader: &Reader<'_, R>) -> Result<(), StoreError> {
        for job in self.open_jobs() {
            if let Some(first) = audit::job(reader, job)?.into_iter().next() {
                return Err(StoreError::Corrupt(format!("{job}: {first}")));
            }
        }
        Ok(())
    }

    /// Follows a step that was committed, and notes in `changes` whom it concerns.
    pub(super) fn follow(&mut self, job: &Job, effects: &[Effect], changes: &mut Changes) {
        let held_for = |task| self.now.since(self.leases.granted(task)?);
        changes
            .transitions
            .extend(transition::of(job, effects, held_for));
        for effect in effects {
            match effect {
                Effect::Emit(_)
                | Effect::SavePayload(..)
                | Effect::SaveResult(..)
                | Effect::Refer(_) => {}
                Effect::Enqueue(_) => {
                    self.ready.add(job.id, job.priority, &job.owner);
                    changes.queued += 1;
                }
                Effect::EnqueueAt(task, until) => {
                    self.waiting.insert(job.task_name(*task), *until);
                }
                Effect::Lease(task, grant) => {
                    self.ready.take(job.id);
                    let lease = LeaseRef {
                        name: job.task_name(*task),
                        fence: grant.fence,
                    };
                    self.leases.insert(lease, self.now, grant.deadline);
                }
                Effect::Unlease(task, _) => self.leases.remove(job.task_name(*task)),
                Effect::ClearJob => {
                    self.ready.clear(job.id);
                    self.leases.remove_job(job.id);
                    self.waiting.remove_job(job.id);
                }
            }
        }
        self.catalog.put(job);
        let emitted = effects
            .iter()
            .any(|effect| matches!(effect, Effect::Emit(_)));
        if emitted && changes.jobs.last() != Some(&job.id) {
            changes.jobs.push(job.id);
        }
    }
}

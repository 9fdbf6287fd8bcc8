//! [`RecordStore`]: the state machine over an ordered engine of one process. Here: opening,
//! locking, and turning a [`Step`] into one atomic batch. The verbs are in `verbs`, the reading and
//! encoding of records in `reader`.

pub(super) mod reader;

use std::{
    sync::{Mutex, PoisonError, RwLock},
    time::Duration,
};

use prost::Message as _;

use self::reader::Reader;
use super::{
    Batch, Changes, Engine, StoreError,
    commit::GroupCommit,
    fact,
    keys::{self, Table},
    leases::Leases,
};
use crate::{
    clock::Timestamp,
    job::{Effect, Job, LeaseRef, Machine, Step},
};

const FORMAT: &str = "1";

/// What a store enforces.
#[derive(Clone, Copy, Debug)]
pub struct StoreConfig {
    /// The state machine's rules.
    pub machine: Machine,
    /// Most jobs that may be pending or running.
    pub max_open_jobs: u64,
}

/// A [`super::Store`] over an [`Engine`] that only this process uses.
#[derive(Debug)]
pub struct RecordStore<E> {
    /// Gone once closed. Verbs hold it shared, so closing waits for them.
    engine: RwLock<Option<E>>,
    /// Held by every verb that changes something, from its first read to its commit.
    live: Mutex<Live>,
    commit: GroupCommit,
    config: StoreConfig,
}

/// What is kept in memory beside the engine; all of it can be rebuilt.
#[derive(Debug, Default)]
pub(super) struct Live {
    pub(super) leases: Leases,
    pub(super) open_jobs: u64,
    pub(super) queued_tasks: u64,
}

impl<E: Engine> RecordStore<E> {
    /// Opens the store. Leases of an earlier process stay in force for a further `grace`: their
    /// renewals were not stored, and their workers may still be at work.
    pub fn open(
        engine: E,
        config: StoreConfig,
        now: Timestamp,
        grace: Duration,
    ) -> Result<Self, StoreError> {
        match engine.get(&keys::format())? {
            Some(format) if format == FORMAT.as_bytes() => {}
            Some(format) => {
                let found = String::from_utf8_lossy(&format).into_owned();
                return Err(StoreError::Format {
                    found,
                    expected: FORMAT,
                });
            }
            None => {
                let mut batch = Batch::default();
                batch.put("format", keys::format(), FORMAT.into())?;
                engine.commit(batch)?;
                engine.sync()?;
            }
        }
        let live = Live::rebuild(&Reader::new(&engine), now.after(grace))?;
        Ok(Self {
            engine: RwLock::new(Some(engine)),
            live: Mutex::new(live),
            commit: GroupCommit::default(),
            config,
        })
    }

    /// Runs a verb that only reads.
    pub(super) fn read<T>(
        &self,
        verb: impl FnOnce(&Reader<'_, E>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let engine = self.engine.read().unwrap_or_else(PoisonError::into_inner);
        let engine = engine.as_ref().ok_or(StoreError::Closed)?;
        self.commit.check()?;
        let outcome = verb(&Reader::new(engine));
        // A refusal, too, tells the caller something that must not be undone by a crash.
        self.commit.settle(|| engine.sync())?;
        outcome
    }

    /// Runs a verb that changes something.
    pub(super) fn write<T>(
        &self,
        verb: impl FnOnce(&mut Writer<'_, E>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let engine = self.engine.read().unwrap_or_else(PoisonError::into_inner);
        let engine = engine.as_ref().ok_or(StoreError::Closed)?;
        let outcome = {
            // A verb that panicked may have left memory and engine apart: only a restart helps.
            let mut live = self.live.lock().map_err(|_| StoreError::Closed)?;
            self.commit.check()?;
            verb(&mut Writer {
                reader: Reader::new(engine),
                live: &mut live,
                config: &self.config,
                commit: &self.commit,
                changes: Changes::default(),
            })
        };
        self.commit.settle(|| engine.sync())?;
        outcome
    }

    /// Takes the engine away once no verb uses it.
    pub(super) fn shut(&self) -> Result<(), StoreError> {
        let mut engine = self.engine.write().unwrap_or_else(PoisonError::into_inner);
        match engine.take() {
            Some(engine) => engine.sync(),
            None => Ok(()),
        }
    }
}

impl Live {
    fn rebuild<E: Engine>(reader: &Reader<'_, E>, deadline: Timestamp) -> Result<Self, StoreError> {
        let mut live = Self::default();
        reader.for_each(keys::jobs(None), |_, value| {
            let job: Job = reader::decode_json("job", &value)?;
            live.open_jobs += u64::from(job.phase.ended().is_none());
            Ok(())
        })?;
        reader.for_each(Table::Queue.range(), |_, _| {
            live.queued_tasks += 1;
            Ok(())
        })?;
        reader.for_each(Table::Lease.range(), |key, _| {
            let name = keys::parse_task(&key).ok_or_else(|| reader::corrupt("lease key"))?;
            let task = reader.task(name)?.ok_or_else(|| reader::corrupt(name))?;
            let grant = task.grant().ok_or_else(|| reader::corrupt(name))?;
            live.leases.insert(
                LeaseRef {
                    name,
                    fence: grant.fence,
                },
                deadline,
            );
            Ok(())
        })?;
        Ok(live)
    }
}

/// A verb at work: reads, steps of the state machine, and what they changed so far.
pub(super) struct Writer<'a, E> {
    pub(super) reader: Reader<'a, E>,
    pub(super) live: &'a mut Live,
    pub(super) config: &'a StoreConfig,
    pub(super) changes: Changes,
    commit: &'a GroupCommit,
}

impl<E: Engine> Writer<'_, E> {
    /// Commits one step of a job, with what the caller adds to its batch.
    pub(super) fn apply(
        &mut self,
        step: Step,
        was_open: bool,
        mut batch: Batch,
    ) -> Result<Job, StoreError> {
        if step.is_empty() {
            return Ok(step.job);
        }
        let Step {
            job,
            tasks,
            effects,
            ..
        } = step;
        batch.put("job", keys::job(job.id), reader::encode_json(&job)?)?;
        for task in &tasks {
            let key = Table::Task.task(job.task_name(task.id));
            batch.put("task", key, reader::encode_json(task)?)?;
        }
        let mut cleared = 0;
        for effect in &effects {
            match effect {
                Effect::Emit(event) => {
                    let key = Table::Event.numbered(job.id, event.sequence);
                    batch.put("event", key, event.encode_to_vec())?;
                }
                Effect::SavePayload(task, payload) => {
                    let key = Table::Payload.task(job.task_name(*task));
                    batch.put("payload", key, payload.encode_to_vec())?;
                }
                Effect::SaveResult(task, result) => {
                    let key = Table::Result.task(job.task_name(*task));
                    batch.put("result", key, result.encode_to_vec())?;
                }
                Effect::Enqueue(task) => {
                    batch.put("queue", Table::Queue.task(job.task_name(*task)), Vec::new())?;
                }
                Effect::Lease(task, _) => {
                    let name = job.task_name(*task);
                    batch.remove(Table::Queue.task(name));
                    batch.put("lease", Table::Lease.task(name), Vec::new())?;
                }
                Effect::Unlease(task, _) => {
                    batch.remove(Table::Lease.task(job.task_name(*task)));
                }
                Effect::ClearJob => {
                    cleared = self
                        .reader
                        .remove_all(Table::Queue.of_job(job.id), &mut batch)?;
                    self.reader
                        .remove_all(Table::Lease.of_job(job.id), &mut batch)?;
                }
            }
        }
        self.commit(batch)?;
        self.live.queued_tasks = self.live.queued_tasks.saturating_sub(cleared);
        self.follow(&job, was_open, &effects);
        Ok(job)
    }

    /// Commits a batch; if the engine fails half-way the store accepts nothing more.
    pub(super) fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        let committed = self.reader.engine.commit(batch);
        match &committed {
            Ok(()) => self.commit.wrote(),
            Err(error) => self.commit.poison(error),
        }
        committed
    }

    /// Brings what is kept in memory after the commit.
    fn follow(&mut self, job: &Job, was_open: bool, effects: &[Effect]) {
        self.changes.facts.extend(fact::of(job, effects));
        for effect in effects {
            match effect {
                Effect::Emit(_) | Effect::SavePayload(..) | Effect::SaveResult(..) => {}
                Effect::Enqueue(_) => {
                    self.live.queued_tasks += 1;
                    self.changes.queued += 1;
                }
                Effect::Lease(task, grant) => {
                    self.live.queued_tasks = self.live.queued_tasks.saturating_sub(1);
                    let lease = LeaseRef {
                        name: job.task_name(*task),
                        fence: grant.fence,
                    };
                    self.live.leases.insert(lease, grant.deadline);
                }
                Effect::Unlease(task, _) => self.live.leases.remove(job.task_name(*task)),
                Effect::ClearJob => self.live.leases.remove_job(job.id),
            }
        }
        match (was_open, job.phase.ended().is_none()) {
            (false, true) => self.live.open_jobs += 1,
            (true, false) => self.live.open_jobs = self.live.open_jobs.saturating_sub(1),
            _ => {}
        }
        let emitted = effects
            .iter()
            .any(|effect| matches!(effect, Effect::Emit(_)));
        if emitted && self.changes.jobs.last() != Some(&job.id) {
            self.changes.jobs.push(job.id);
        }
    }
}

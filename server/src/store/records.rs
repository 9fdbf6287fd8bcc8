//! [`RecordStore`]: the state machine over an ordered engine of one process. Here: opening,
//! locking, and turning a [`Step`] into one atomic batch. The verbs are in `verbs`, the reading and
//! encoding of records in `reader`.

pub(super) mod reader;

use std::{
    collections::{HashMap, HashSet},
    io,
    sync::{Mutex, MutexGuard, PoisonError, RwLock},
    time::Duration,
};

use prost::Message as _;

use self::reader::Reader;
use super::{
    Batch, Changes, Engine, MAX_RECORD_BYTES, Quota, Records as _, StoreError, Usage,
    commit::GroupCommit,
    index::Index,
    keys::{self, Table},
    staged::Staged,
};
use crate::{
    clock::Timestamp,
    digest::Digest,
    job::{BlobRef, Effect, FAILURES_BYTES, Job, JobId, Machine, Step},
    principal::Principal,
};

pub(super) const FORMAT: &str = "2";

/// Most bytes of the header of a job to which a stage is added: one that must end always has room left
/// for its error, which holds the failures of a task. Between two stages only counters grow; to refuse
/// them room would stop a job that was let in.
pub(super) const OPEN_HEADER_BYTES: usize = MAX_RECORD_BYTES - FAILURES_BYTES - 4 * 1024;

/// Refuses a header of so many bytes, where the effects beside it add a stage.
pub(super) fn check_header(bytes: usize, effects: &[Effect]) -> Result<(), StoreError> {
    let adds_a_stage = |effect: &Effect| matches!(effect, Effect::SavePayload(..));
    match effects.iter().any(adds_a_stage) && bytes > OPEN_HEADER_BYTES {
        true => Err(StoreError::RecordTooLarge {
            what: "job",
            bytes,
            max: OPEN_HEADER_BYTES,
        }),
        false => Ok(()),
    }
}

/// What a store enforces.
#[derive(Clone, Copy, Debug)]
pub struct StoreConfig {
    /// The state machine's rules.
    pub machine: Machine,
    /// Most jobs that may be pending or running.
    pub max_open_jobs: u64,
    /// What the jobs of one owner may use.
    pub quota: Quota,
}

impl StoreConfig {
    /// Refuses a further open job that keeps `blobs`, beyond what the server or its owner may have; so many
    /// are `open`, and the owner's have `used` that.
    pub(super) fn admit(
        &self,
        owner: &Principal,
        blobs: &[BlobRef],
        open: u64,
        used: Usage,
    ) -> Result<(), StoreError> {
        let max = self.max_open_jobs;
        if open >= max {
            return Err(StoreError::QueueFull { max });
        }
        let sizes: HashMap<_, _> = blobs.iter().map(|blob| (blob.digest, blob.size)).collect();
        let asked = sizes.into_values().fold(0, u64::saturating_add);
        self.quota.admit(owner, used, asked)
    }
}

/// A [`super::Store`] over an [`Engine`] that only this process uses.
#[derive(Debug)]
pub struct RecordStore<E> {
    /// Gone once closed. Verbs hold it shared, so closing waits for them.
    engine: RwLock<Option<Staged<E>>>,
    /// Held by every verb that changes something, from its first read to its commit.
    index: Mutex<Index>,
    commit: GroupCommit,
    config: StoreConfig,
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
                engine.commit(&batch)?;
                engine.sync()?;
            }
        }
        let longest_wait = now.after(config.machine.backoff.cap);
        let index = Index::rebuild(&Reader::new(&engine), now, now.after(grace), longest_wait)?;
        index.audit(&Reader::new(&engine))?;
        Ok(Self {
            engine: RwLock::new(Some(Staged::new(engine))),
            index: Mutex::new(index),
            commit: GroupCommit::default(),
            config,
        })
    }

    /// A blob that a job still to be worked on keeps, and that `size` does not find as it should be.
    pub fn missing_blob(
        &self,
        size: impl Fn(Digest) -> io::Result<Option<u64>>,
    ) -> Result<Option<(JobId, Digest)>, StoreError> {
        let open = self.index()?.open_jobs();
        self.read(|reader| {
            let mut seen = HashSet::new();
            for job in open {
                for (digest, expected) in reader.blobs(job)? {
                    if !seen.insert(digest) {
                        continue;
                    }
                    let found =
                        size(digest).map_err(|error| StoreError::Failed(error.to_string()))?;
                    if found != Some(expected) {
                        return Ok(Some((job, digest)));
                    }
                }
            }
            Ok(None)
        })
    }

    /// Runs a verb that only reads.
    pub(super) fn read<T>(
        &self,
        verb: impl FnOnce(&Reader<'_, Staged<E>>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let engine = self.engine.read().unwrap_or_else(PoisonError::into_inner);
        let engine = engine.as_ref().ok_or(StoreError::Closed)?;
        self.commit.check()?;
        let outcome = verb(&Reader::new(engine));
        // A refusal, too, tells the caller something that must not be undone by a crash.
        self.commit.settle(|| engine.sync())?;
        outcome
    }

    /// What is kept in memory. A verb that panicked may have left it and the engine apart, so that
    /// only a restart helps.
    pub(super) fn index(&self) -> Result<MutexGuard<'_, Index>, StoreError> {
        self.index.lock().map_err(|_| StoreError::Closed)
    }

    /// As [`RecordStore::write`], for a verb that needs the time. The caller took `now` before it had
    /// the lock; here it is never earlier than for the verb before.
    pub(super) fn write_at<T>(
        &self,
        now: Timestamp,
        verb: impl FnOnce(&mut Writer<'_, E>, Timestamp) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.write(|writer| {
            let now = writer.index.advance(now);
            verb(writer, now)
        })
    }

    /// Runs a verb that changes something.
    pub(super) fn write<T>(
        &self,
        verb: impl FnOnce(&mut Writer<'_, E>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.write_then(verb, |_, outcome| outcome)
    }

    /// As [`RecordStore::write`], and reads on without the lock before it waits for the disk.
    pub(super) fn write_then<T, U>(
        &self,
        verb: impl FnOnce(&mut Writer<'_, E>) -> Result<T, StoreError>,
        then: impl FnOnce(&Reader<'_, Staged<E>>, T) -> U,
    ) -> Result<U, StoreError> {
        let engine = self.engine.read().unwrap_or_else(PoisonError::into_inner);
        let engine = engine.as_ref().ok_or(StoreError::Closed)?;
        let outcome = {
            let mut index = self.index()?;
            self.commit.check()?;
            verb(&mut Writer {
                reader: Reader::new(engine),
                index: &mut index,
                config: &self.config,
                commit: &self.commit,
                changes: Changes::default(),
            })
        };
        let outcome = outcome.map(|outcome| then(&Reader::new(engine), outcome));
        self.commit.settle(|| engine.sync())?;
        outcome
    }

    /// Takes the engine away once no verb uses it.
    pub(super) fn shut(&self) -> Result<(), StoreError> {
        let mut engine = self.engine.write().unwrap_or_else(PoisonError::into_inner);
        match engine.take() {
            // After a failed sync another one may succeed and prove nothing: the kernel has dropped
            // what it could not write.
            Some(engine) => self.commit.check().and_then(|()| engine.sync()),
            None => Ok(()),
        }
    }
}

/// A verb at work: reads, steps of the state machine, and what they changed so far.
pub(super) struct Writer<'a, E> {
    pub(super) reader: Reader<'a, Staged<E>>,
    pub(super) index: &'a mut Index,
    pub(super) config: &'a StoreConfig,
    pub(super) changes: Changes,
    commit: &'a GroupCommit,
}

impl<E: Engine> Writer<'_, E> {
    /// Commits one step of a job, with what the caller adds to its batch.
    pub(super) fn apply(&mut self, step: Step, mut batch: Batch) -> Result<Job, StoreError> {
        if step.is_empty() {
            return Ok(step.job);
        }
        let Step {
            mut job,
            tasks,
            effects,
            ..
        } = step;
        for effect in &effects {
            if let Effect::Refer(blobs) = effect {
                self.refer(&mut job, blobs, &mut batch)?;
            }
        }
        let header = reader::encode_json(&job)?;
        check_header(header.len(), &effects)?;
        batch.put("job", keys::job(job.id), header)?;
        for task in &tasks {
            let key = Table::Task.task(job.task_name(task.id));
            batch.put("task", key, reader::encode_json(task)?)?;
        }
        for effect in &effects {
            match effect {
                Effect::Refer(_) => {}
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
                Effect::EnqueueAt(task, until) => {
                    let key = Table::Waiting.task(job.task_name(*task));
                    batch.put("waiting", key, reader::encode_time(*until))?;
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
                    for table in [Table::Queue, Table::Lease, Table::Waiting] {
                        self.reader.remove_all(table.of_job(job.id), &mut batch)?;
                    }
                }
            }
        }
        self.commit(batch);
        self.index.follow(&job, &effects, &mut self.changes);
        Ok(job)
    }

    /// Notes that the job keeps these blobs, unless it does already.
    fn refer(&self, job: &mut Job, blobs: &[BlobRef], batch: &mut Batch) -> Result<(), StoreError> {
        let mut seen = HashSet::new();
        for blob in blobs {
            let key = Table::Blob.blob(job.id, blob.digest);
            if !seen.insert(blob.digest) || self.reader.records.get(&key)?.is_some() {
                continue;
            }
            batch.put("blob", key, blob.size.to_be_bytes().to_vec())?;
            batch.put("blob", keys::keeper(blob.digest, job.id), Vec::new())?;
            job.bytes = job.bytes.saturating_add(blob.size);
        }
        Ok(())
    }

    /// Queues the tasks whose backoff is over.
    pub(super) fn queue_due(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let due = self.index.waiting.take_due(now);
        if due.is_empty() {
            return Ok(());
        }
        let mut batch = Batch::default();
        for task in &due {
            batch.remove(Table::Waiting.task(*task));
            batch.put("queue", Table::Queue.task(*task), Vec::new())?;
        }
        self.commit(batch);
        due.iter().for_each(|task| self.index.queue(task.job));
        self.changes.queued += due.len();
        Ok(())
    }

    /// Keeps that the time was observed, now and then.
    pub(super) fn note_time(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let oldest = self.index.catalog.oldest_end();
        if self.index.observed.note(now, oldest) {
            let mut batch = Batch::default();
            let kept = reader::encode_json(&self.index.observed)?;
            batch.put("observed time", keys::observed_time(), kept)?;
            self.commit(batch);
        }
        Ok(())
    }

    /// Commits a batch: seen by all verbs from now on, durable with the next sync.
    pub(super) fn commit(&self, batch: Batch) {
        self.commit.write(|| self.reader.records.commit(batch));
    }
}

#[cfg(test)]
mod tests;

//! One step of the machine, as rows.

use std::collections::HashMap;

use dual16_proto::v1;
use prost::Message as _;
use serde::Serialize;

use super::{Writing, column, number, place, sql};
use crate::{
    clock::Timestamp,
    job::{BlobRef, Effect, Grant, Job, Step, Task, TaskId, TaskName},
    store::{MAX_RECORD_BYTES, StoreError, records::check_header, transition},
};

/// The rows of a step, gathered from its effects. What comes before the end of a job is not queued.
#[derive(Default)]
struct Rows<'a> {
    events: Vec<&'a v1::JobEvent>,
    payloads: HashMap<TaskId, &'a v1::Payload>,
    results: HashMap<TaskId, &'a v1::Payload>,
    blobs: HashMap<[u8; 32], &'a BlobRef>,
    queued: Vec<TaskId>,
    waiting: Vec<(TaskId, Timestamp)>,
    leased: Vec<(TaskId, &'a Grant)>,
    unleased: Vec<TaskId>,
    cleared: bool,
}

impl<'a> Rows<'a> {
    fn of(effects: &'a [Effect]) -> Self {
        let mut rows = Self::default();
        for effect in effects {
            match effect {
                Effect::Emit(event) => rows.events.push(event),
                Effect::SavePayload(task, payload) => {
                    rows.payloads.insert(*task, payload);
                }
                Effect::SaveResult(task, result) => {
                    rows.results.insert(*task, result);
                }
                Effect::Refer(blobs) => {
                    let blobs = blobs.iter();
                    rows.blobs
                        .extend(blobs.map(|blob| (*blob.digest.as_bytes(), blob)));
                }
                Effect::Enqueue(task) => rows.queued.push(*task),
                Effect::EnqueueAt(task, until) => rows.waiting.push((*task, *until)),
                Effect::Lease(task, grant) => rows.leased.push((*task, grant)),
                Effect::Unlease(task, _) => rows.unleased.push(*task),
                Effect::ClearJob => {
                    rows.queued.clear();
                    rows.waiting.clear();
                    rows.leased.clear();
                    rows.cleared = true;
                }
            }
        }
        rows
    }
}

impl Writing<'_> {
    /// Writes one step of a job whose row is locked; `before` is the job as it was, if it was.
    pub(super) async fn apply(
        &mut self,
        before: Option<&Job>,
        step: Step,
    ) -> Result<Job, StoreError> {
        if step.is_empty() {
            return Ok(step.job);
        }
        let Step {
            mut job,
            tasks,
            effects,
            ..
        } = step;
        let rows = Rows::of(&effects);
        self.keep_blobs(&mut job, &rows).await?;
        let header = json("job", &job)?;
        check_header(header.len(), &effects)?;
        let granted = self.end_leases(&job, &rows).await?;
        self.write_tasks(&job, &tasks, &rows).await?;
        self.write_events(&job, &rows).await?;
        self.queue(&job, &rows).await?;
        sqlx::query(sql::UPDATE_JOB)
            .bind(&job.id.as_bytes()[..])
            .bind(header)
            .bind(job.phase.state() as i16)
            .bind(job.phase.ended().map(|ended| column(ended.as_millis())))
            .bind(rows.cleared)
            .bind(deadline(&job))
            .execute(&mut *self.transaction)
            .await?;
        self.count(before, Some(&job)).await?;
        let (queued, emitted) = (rows.queued.len(), !rows.events.is_empty());
        let held_for = |task: TaskName| self.now.since(*granted.get(&task.task)?);
        let transitions = transition::of(&job, &effects, held_for);
        self.changes.transitions.extend(transitions);
        self.changes.queued += queued;
        if emitted && self.changes.jobs.last() != Some(&job.id) {
            self.changes.jobs.push(job.id);
        }
        Ok(job)
    }

    /// Notes that the job keeps these blobs, unless it does already.
    async fn keep_blobs(&mut self, job: &mut Job, rows: &Rows<'_>) -> Result<(), StoreError> {
        if rows.blobs.is_empty() {
            return Ok(());
        }
        let (digests, sizes): (Vec<_>, Vec<_>) = rows
            .blobs
            .iter()
            .map(|(digest, blob)| (digest.to_vec(), column(blob.size)))
            .unzip();
        let kept = sqlx::query_scalar(sql::KEEP_BLOBS)
            .bind(&job.id.as_bytes()[..])
            .bind(digests)
            .bind(sizes);
        let kept: Vec<i64> = kept.fetch_all(&mut *self.transaction).await?;
        for size in kept {
            job.bytes = job.bytes.saturating_add(number(size));
        }
        Ok(())
    }

    /// Ends leases, and says when they were granted.
    async fn end_leases(
        &mut self,
        job: &Job,
        rows: &Rows<'_>,
    ) -> Result<HashMap<TaskId, Timestamp>, StoreError> {
        let id = &job.id.as_bytes()[..];
        let mut granted = HashMap::new();
        for task in &rows.unleased {
            let (stage, slot) = place(*task);
            let ended = sqlx::query_scalar(sql::UNLEASE)
                .bind(id)
                .bind(stage)
                .bind(slot);
            let ended: Option<i64> = ended.fetch_optional(&mut *self.transaction).await?;
            granted.extend(ended.map(|time| (*task, Timestamp::from_millis(number(time)))));
        }
        if rows.cleared {
            for clear in [sql::CLEAR_QUEUE, sql::CLEAR_LEASES, sql::CLEAR_WAITING] {
                let cleared = sqlx::query(clear).bind(id);
                cleared.execute(&mut *self.transaction).await?;
            }
        }
        Ok(granted)
    }

    async fn write_tasks(
        &mut self,
        job: &Job,
        tasks: &[Task],
        rows: &Rows<'_>,
    ) -> Result<(), StoreError> {
        let (new, changed): (Vec<_>, Vec<_>) = tasks
            .iter()
            .partition(|task| rows.payloads.contains_key(&task.id));
        for (statement, tasks, values, what) in [
            (sql::INSERT_TASKS, new, &rows.payloads, "payload"),
            (sql::UPDATE_TASKS, changed, &rows.results, "result"),
        ] {
            if tasks.is_empty() {
                continue;
            }
            let (mut stages, mut slots) = (Vec::new(), Vec::new());
            let (mut records, mut bytes) = (Vec::new(), Vec::new());
            for task in tasks {
                let (stage, slot) = place(task.id);
                stages.push(stage);
                slots.push(slot);
                records.push(json("task", task)?);
                let value = values.get(&task.id).map(|value| value.encode_to_vec());
                bytes.push(value.map(|value| limited(what, value)).transpose()?);
            }
            sqlx::query(statement)
                .bind(&job.id.as_bytes()[..])
                .bind(stages)
                .bind(slots)
                .bind(records)
                .bind(bytes)
                .execute(&mut *self.transaction)
                .await?;
        }
        Ok(())
    }

    async fn write_events(&mut self, job: &Job, rows: &Rows<'_>) -> Result<(), StoreError> {
        if rows.events.is_empty() {
            return Ok(());
        }
        let sequences: Vec<_> = rows
            .events
            .iter()
            .map(|event| column(event.sequence))
            .collect();
        let events = rows.events.iter();
        let events = events.map(|event| limited("event", event.encode_to_vec()));
        sqlx::query(sql::INSERT_EVENTS)
            .bind(&job.id.as_bytes()[..])
            .bind(sequences)
            .bind(events.collect::<Result<Vec<_>, _>>()?)
            .execute(&mut *self.transaction)
            .await?;
        Ok(())
    }

    async fn queue(&mut self, job: &Job, rows: &Rows<'_>) -> Result<(), StoreError> {
        let id = &job.id.as_bytes()[..];
        if !rows.queued.is_empty() {
            let (stages, slots): (Vec<_>, Vec<_>) = rows.queued.iter().copied().map(place).unzip();
            let queued = sqlx::query(sql::ENQUEUE).bind(id).bind(stages).bind(slots);
            queued.execute(&mut *self.transaction).await?;
        }
        for (task, until) in &rows.waiting {
            let (stage, slot) = place(*task);
            let waits = sqlx::query(sql::PUT_OFF).bind(id).bind(stage).bind(slot);
            let waits = waits.bind(column(until.as_millis()));
            waits.execute(&mut *self.transaction).await?;
        }
        for (task, grant) in &rows.leased {
            let (stage, slot) = place(*task);
            let left = sqlx::query(sql::DEQUEUE).bind(id).bind(stage).bind(slot);
            left.execute(&mut *self.transaction).await?;
            let leased = sqlx::query(sql::LEASE).bind(id).bind(stage).bind(slot);
            let leased = leased
                .bind(grant.fence.lease.as_bytes().to_vec())
                .bind(i64::from(grant.fence.attempt))
                .bind(column(self.now.as_millis()))
                .bind(column(grant.deadline.as_millis()));
            leased.execute(&mut *self.transaction).await?;
        }
        Ok(())
    }

    /// Counts what a change adds to what its owner uses. The last of a transaction: others wait for it.
    pub(super) async fn count(
        &mut self,
        before: Option<&Job>,
        after: Option<&Job>,
    ) -> Result<(), StoreError> {
        let used = |job: Option<&Job>| {
            let open = job.is_some_and(|job| job.phase.ended().is_none());
            let bytes = job.map_or(0, |job| column(job.bytes));
            (i64::from(job.is_some()), i64::from(open), bytes)
        };
        let ((jobs, open, bytes), was) = (used(after), used(before));
        let added = (jobs - was.0, open - was.1, bytes - was.2);
        let Some(owner) = before.or(after).map(|job| &job.owner) else {
            return Ok(());
        };
        if added == (0, 0, 0) {
            return Ok(());
        }
        sqlx::query(sql::ADD_USAGE)
            .bind(owner.as_str())
            .bind(added.0)
            .bind(added.1)
            .bind(added.2)
            .execute(&mut *self.transaction)
            .await?;
        Ok(())
    }
}

/// When a job that has not ended ends by itself.
pub(super) fn deadline(job: &Job) -> Option<i64> {
    job.deadline().map(|deadline| column(deadline.as_millis()))
}

/// A record as JSON, no larger than any store keeps.
fn json(what: &'static str, record: &impl Serialize) -> Result<String, StoreError> {
    let json = serde_json::to_string(record);
    let json = json.map_err(|error| StoreError::Failed(error.to_string()))?;
    limited(what, json)
}

/// A value no larger than any store keeps: one that could not move to another store would stay for ever.
fn limited<V: AsRef<[u8]>>(what: &'static str, value: V) -> Result<V, StoreError> {
    let bytes = value.as_ref().len();
    match bytes > MAX_RECORD_BYTES {
        true => Err(StoreError::RecordTooLarge {
            what,
            bytes,
            max: MAX_RECORD_BYTES,
        }),
        false => Ok(value),
    }
}

//! Reading what can be read of a damaged database into a sound one.
//!
//! A page that cannot be read hides all of its records, so every range is read from both of its ends
//! up to the damage, job by job. Jobs that have lost something are failed by name and set back to
//! their beginning, so that a retry does them anew.

use std::{collections::BTreeSet, ops::Range};

use dual16_proto::v1::{self, event_detail::Detail};
use prost::Message as _;

use super::{
    Batch, Engine, Order, Record, StoreError, audit,
    keys::{self, Table},
    records::{
        FORMAT,
        reader::{Reader, decode_json, encode_json, put_spec},
    },
};
use crate::{
    clock::Timestamp,
    digest::Digest,
    job::{Effect, Job, JobError, JobId, Machine, NewJob, Phase},
};

/// Code of the error of a job that lost records or blobs.
pub(crate) const DAMAGED: &str = "STORE_DAMAGED";
const BATCH: usize = 256;

/// Refuses a store of another format; one whose format is lost is taken for ours.
pub(crate) fn require_format<E: Engine>(engine: &E) -> Result<(), StoreError> {
    match engine.get(&keys::format()) {
        Ok(Some(found)) if found != FORMAT.as_bytes() => Err(StoreError::Format {
            found: String::from_utf8_lossy(&found).into_owned(),
            expected: FORMAT,
        }),
        _ => Ok(()),
    }
}

/// Every record that can be read, in the order of their keys; `damage` is told each error on the way.
pub(crate) fn records<E: Engine>(
    engine: &E,
    mut damage: impl FnMut(String),
    mut visit: impl FnMut(Record) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let tables = b"BEJKLOPQRSTW".map(|table| vec![table]..vec![table + 1]);
    let mut jobs = BTreeSet::new();
    let mut damaged = Vec::new();
    for range in tables {
        let outcome = both_ends(engine, range.clone(), |record| {
            jobs.extend(
                keys::parse_job(&record.0).filter(|_| !matches!(record.0[..], [b'B' | b'R', ..])),
            );
            visit(record)
        })?;
        if let Some((gap, error)) = outcome {
            damage(error.to_string());
            damaged.push(gap);
        }
    }
    // Inside a gap, the records of the jobs known from elsewhere.
    for gap in damaged {
        for job in &jobs {
            let Some(table) = Table::ALL
                .into_iter()
                .find(|table| gap.start.first() == Some(&(*table as u8)))
            else {
                continue;
            };
            let of_job = table.of_job(*job);
            let part = of_job.start.max(gap.start.clone())..of_job.end.min(gap.end.clone());
            if !part.is_empty() {
                both_ends(engine, part, &mut visit)?;
            }
        }
    }
    Ok(())
}

type Gap = (Range<Vec<u8>>, StoreError);

/// Visits a range from its start and then from its end, up to what cannot be read; returns that.
fn both_ends<E: Engine>(
    engine: &E,
    mut range: Range<Vec<u8>>,
    mut visit: impl FnMut(Record) -> Result<(), StoreError>,
) -> Result<Option<Gap>, StoreError> {
    let error = loop {
        match engine.scan(range.clone(), Order::Ascending, 1) {
            Ok(mut record) => match record.pop() {
                None => return Ok(None),
                Some(record) => {
                    range.start.clone_from(&record.0);
                    range.start.push(0);
                    visit(record)?;
                }
            },
            Err(error) => break error,
        }
    };
    while let Ok(mut record) = engine.scan(range.clone(), Order::Descending, 1) {
        let Some(record) = record.pop() else { break };
        range.end.clone_from(&record.0);
        visit(record)?;
    }
    Ok(Some((range, error)))
}

/// Writes records into an engine, many at a time.
pub(crate) struct Filler<'a, E> {
    engine: &'a E,
    batch: Batch,
    pending: usize,
}

impl<'a, E: Engine> Filler<'a, E> {
    /// Starts a store of the present format in an empty engine.
    pub(crate) fn new(engine: &'a E) -> Result<Self, StoreError> {
        let mut filler = Self {
            engine,
            batch: Batch::default(),
            pending: 0,
        };
        filler.put((keys::format(), FORMAT.into()))?;
        Ok(filler)
    }

    /// Adds a record.
    pub(crate) fn put(&mut self, (key, value): Record) -> Result<(), StoreError> {
        self.batch.put("salvaged", key, value)?;
        self.pending += 1;
        if self.pending == BATCH {
            self.engine.commit(&std::mem::take(&mut self.batch))?;
            self.pending = 0;
        }
        Ok(())
    }

    /// Makes everything durable.
    pub(crate) fn finish(self) -> Result<(), StoreError> {
        self.engine.commit(&self.batch)?;
        self.engine.sync()
    }
}

/// Every job that some record is of.
pub(crate) fn jobs<E: Engine>(engine: &E) -> Result<BTreeSet<JobId>, StoreError> {
    let reader = Reader::new(engine);
    let mut jobs = BTreeSet::new();
    let tables = Table::ALL.map(Table::range);
    for range in tables.into_iter().chain([keys::jobs(None)]) {
        reader.for_each(range, |key, _| {
            jobs.extend(keys::parse_job(&key));
            Ok(())
        })?;
    }
    Ok(jobs)
}

/// What is wrong with the records of a job. See [`audit`].
pub(crate) fn findings<E: Engine>(engine: &E, job: JobId) -> Result<Vec<String>, StoreError> {
    audit::job(&Reader::new(engine), job)
}

/// Blobs that a job keeps, with their sizes in bytes.
pub(crate) fn blobs<E: Engine>(engine: &E, job: JobId) -> Result<Vec<(Digest, u64)>, StoreError> {
    Reader::new(engine).blobs(job)
}

/// Fails a job because of what it lost, and sets it back to its plan. Returns the records that were
/// taken out.
pub(crate) fn fail<E: Engine>(
    engine: &E,
    id: JobId,
    why: &str,
    now: Timestamp,
) -> Result<Vec<Record>, StoreError> {
    let reader = Reader::new(engine);
    let header = engine.get(&keys::job(id))?;
    let known = header.and_then(|header| decode_json::<Job>("header", &header).ok());
    let machine = Machine {
        max_attempts: 1,
        max_stages: 1,
        backoff: crate::job::Backoff::NONE,
    };
    // A job as if it were new, with what is known of the old one.
    let mut fresh = machine.create(
        NewJob {
            id,
            owner: known
                .as_ref()
                .map(|job| job.owner.clone())
                .unwrap_or_default(),
            priority: known.as_ref().map(|job| job.priority).unwrap_or_default(),
            display_name: known
                .as_ref()
                .map(|job| job.display_name.clone())
                .unwrap_or_default(),
            spec_digest: known
                .as_ref()
                .map_or(Digest::of(b""), |job| job.spec_digest),
            request_id: known.as_ref().and_then(|job| job.request_id.clone()),
            blobs: Vec::new(),
            trace: known.as_ref().and_then(|job| job.trace.clone()),
        },
        known.as_ref().map_or(now, |job| job.created),
    );
    let job = &mut fresh.job;
    let mut batch = Batch::default();
    let mut taken = Vec::new();
    for table in [
        Table::Task,
        Table::Payload,
        Table::Result,
        Table::Queue,
        Table::Lease,
        Table::Waiting,
    ] {
        reader.for_each(table.of_job(id), |key, value| {
            batch.remove(key.clone());
            taken.push((key, value));
            Ok(())
        })?;
    }
    // Events that were told stay as they were told, as far as they follow each other.
    job.last_sequence = 0;
    reader.for_each(Table::Event.of_job(id), |key, value| {
        let event = v1::JobEvent::decode(value.as_slice());
        if event.is_ok_and(|event| event.sequence == job.last_sequence + 1) {
            job.last_sequence += 1;
        } else {
            batch.remove(key.clone());
            taken.push((key, value));
        }
        Ok(())
    })?;
    if reader.spec(id).is_err() {
        // A job without a spec cannot be shown; this one names no file.
        let lost = v1::JobSpec {
            model: Some(v1::job_spec::Model::Layers(v1::LayerModel::default())),
            ..v1::JobSpec::default()
        };
        put_spec(&mut batch, id, &lost)?;
    }
    job.bytes = 0;
    for (digest, size) in reader.blobs(id)? {
        job.bytes = job.bytes.saturating_add(size);
        batch.put("blob", keys::keeper(digest, id), Vec::new())?;
    }
    let error = JobError {
        code: DAMAGED.into(),
        message: format!("the server's store was damaged and repaired: {why}; a retry begins anew"),
        task: String::new(),
        attempts: Vec::new(),
    };
    job.phase = Phase::Failed { ended: now, error };
    job.last_sequence += 1;
    let event = v1::JobEvent {
        sequence: job.last_sequence,
        time: Some(now.into()),
        detail: Some(v1::EventDetail {
            detail: Some(Detail::StateChanged(v1::StateChanged::from(&job.phase))),
        }),
    };
    batch.put(
        "event",
        Table::Event.numbered(id, event.sequence),
        event.encode_to_vec(),
    )?;
    batch.put("job", keys::job(id), encode_json(&*job)?)?;
    for task in &fresh.tasks {
        let key = Table::Task.task(fresh.job.task_name(task.id));
        batch.put("task", key, encode_json(task)?)?;
    }
    for effect in &fresh.effects {
        if let Effect::SavePayload(task, payload) = effect {
            let key = Table::Payload.task(fresh.job.task_name(*task));
            batch.put("payload", key, payload.encode_to_vec())?;
        }
    }
    engine.commit(&batch)?;
    Ok(taken)
}

/// Makes the records that only repeat others anew: request ids, and who keeps a blob.
pub(crate) fn rebuild_indexes<E: Engine>(engine: &E) -> Result<(), StoreError> {
    let reader = Reader::new(engine);
    let mut batch = Batch::default();
    for table in [b'R', b'B'] {
        reader.remove_all(vec![table]..vec![table + 1], &mut batch)?;
    }
    reader.for_each(keys::jobs(None), |_, header| {
        let job: Job = decode_json("header", &header)?;
        if let Some(request) = &job.request_id {
            let key = keys::request(&job.owner, request);
            batch.put("request", key, job.id.as_bytes().to_vec())?;
        }
        for (digest, _) in reader.blobs(job.id)? {
            batch.put("blob", keys::keeper(digest, job.id), Vec::new())?;
        }
        Ok(())
    })?;
    engine.commit(&batch)?;
    engine.sync()
}

//! Reading of records, and how they are encoded: headers and tasks as JSON, which tells its
//! fields apart and so can grow; everything the API already has a message for as that message.

use std::{fmt::Display, ops::Range};

use dual16_proto::v1;
use prost::Message;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    clock::Timestamp,
    digest::Digest,
    job::{Job, JobId, Slot, Task, TaskId, TaskName},
    store::{
        Batch, Order, Records, StoreError, StoredJob,
        keys::{self, Table},
    },
};

/// Records read, and at most held, at a time.
const PAGE: usize = 256;
/// A spec is stored in parts of this size, below the limit of a record.
pub(in crate::store) const SPEC_PART_BYTES: usize = 16 * 1024;

/// Typed access to records.
pub(in crate::store) struct Reader<'a, R> {
    pub(in crate::store) records: &'a R,
}

impl<'a, R: Records> Reader<'a, R> {
    pub(in crate::store) fn new(records: &'a R) -> Self {
        Self { records }
    }

    pub(in crate::store) fn find_job(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        let record = self.records.get(&keys::job(id))?;
        record.map(|value| decode_json("job", &value)).transpose()
    }

    pub(in crate::store) fn job(&self, id: JobId) -> Result<Job, StoreError> {
        self.find_job(id)?.ok_or(StoreError::NotFound(id))
    }

    pub(in crate::store) fn with_spec(&self, job: Job) -> Result<StoredJob, StoreError> {
        let spec = self.spec(job.id)?;
        Ok(StoredJob { job, spec })
    }

    pub(in crate::store) fn spec(&self, id: JobId) -> Result<v1::JobSpec, StoreError> {
        let mut encoded = Vec::new();
        self.for_each(Table::Spec.of_job(id), |_, part| {
            encoded.extend(part);
            Ok(())
        })?;
        // A spec is never empty, so nothing at all means that the job was deleted just now.
        if encoded.is_empty() {
            return Err(StoreError::NotFound(id));
        }
        v1::JobSpec::decode(encoded.as_slice()).map_err(|_| corrupt(format!("spec of {id}")))
    }

    pub(in crate::store) fn task(&self, name: TaskName) -> Result<Option<Task>, StoreError> {
        let record = self.records.get(&Table::Task.task(name))?;
        record.map(|value| decode_json("task", &value)).transpose()
    }

    /// Every task of one stage, maps first.
    pub(in crate::store) fn stage_tasks(
        &self,
        job: JobId,
        stage: u32,
    ) -> Result<Vec<Task>, StoreError> {
        let mut tasks = Vec::new();
        self.for_each(Table::Task.of_stage(job, stage), |_, value| {
            tasks.push(decode_json("task", &value)?);
            Ok(())
        })?;
        Ok(tasks)
    }

    pub(in crate::store) fn payload(&self, name: TaskName) -> Result<v1::Payload, StoreError> {
        let record = self.records.get(&Table::Payload.task(name))?;
        let record = record.ok_or_else(|| corrupt(format!("payload of {name}")))?;
        v1::Payload::decode(record.as_slice()).map_err(|_| corrupt(format!("payload of {name}")))
    }

    /// Results of a stage's maps, by index.
    pub(in crate::store) fn map_results(
        &self,
        job: &Job,
        stage: u32,
    ) -> Result<Vec<v1::Payload>, StoreError> {
        let maps = job.stages.get(stage as usize).map_or(0, |stage| stage.maps);
        let mut results = Vec::with_capacity(maps as usize);
        for index in 0..maps {
            let name = job.task_name(TaskId {
                stage,
                slot: Slot::Map(index),
            });
            let record = self.records.get(&Table::Result.task(name))?;
            let result = record.and_then(|value| v1::Payload::decode(value.as_slice()).ok());
            results.push(result.ok_or_else(|| corrupt(format!("result of {name}")))?);
        }
        Ok(results)
    }

    /// Blobs that a job keeps, with their sizes in bytes.
    pub(in crate::store) fn blobs(&self, job: JobId) -> Result<Vec<(Digest, u64)>, StoreError> {
        let mut blobs = Vec::new();
        self.for_each(Table::Blob.of_job(job), |key, size| {
            let size = <[u8; 8]>::try_from(size.as_slice()).ok();
            let blob = keys::parse_blob(&key).zip(size);
            let (digest, size) = blob.ok_or_else(|| corrupt(format!("a blob of {job}")))?;
            blobs.push((digest, u64::from_be_bytes(size)));
            Ok(())
        })?;
        Ok(blobs)
    }

    /// Calls `visit` with every pair of the range, reading a page at a time.
    pub(in crate::store) fn for_each(
        &self,
        mut range: Range<Vec<u8>>,
        mut visit: impl FnMut(Vec<u8>, Vec<u8>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        loop {
            let page = self.records.scan(range.clone(), Order::Ascending, PAGE)?;
            let Some((last, _)) = page.last() else {
                return Ok(());
            };
            range.start.clone_from(last);
            range.start.push(0);
            let is_last = page.len() < PAGE;
            for (key, value) in page {
                visit(key, value)?;
            }
            if is_last {
                return Ok(());
            }
        }
    }

    /// Removes every key of the range in `batch`; returns how many.
    pub(in crate::store) fn remove_all(
        &self,
        range: Range<Vec<u8>>,
        batch: &mut Batch,
    ) -> Result<u64, StoreError> {
        let mut removed = 0;
        self.for_each(range, |key, _| {
            batch.remove(key);
            removed += 1;
            Ok(())
        })?;
        Ok(removed)
    }
}

/// Adds a spec to a batch, in parts.
pub(in crate::store) fn put_spec(
    batch: &mut Batch,
    id: JobId,
    spec: &v1::JobSpec,
) -> Result<(), StoreError> {
    let encoded = spec.encode_to_vec();
    for (number, part) in (0..).zip(encoded.chunks(SPEC_PART_BYTES)) {
        batch.put("spec", Table::Spec.numbered(id, number), part.to_vec())?;
    }
    Ok(())
}

pub(in crate::store) fn encode_json(record: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(record).map_err(|error| StoreError::Failed(error.to_string()))
}

pub(in crate::store) fn decode_json<T: DeserializeOwned>(
    what: &str,
    value: &[u8],
) -> Result<T, StoreError> {
    serde_json::from_slice(value).map_err(|error| corrupt(format!("{what} record: {error}")))
}

pub(in crate::store) fn encode_time(time: Timestamp) -> Vec<u8> {
    time.as_millis().to_be_bytes().to_vec()
}

pub(in crate::store) fn decode_time(value: &[u8]) -> Option<Timestamp> {
    let millis = <[u8; 8]>::try_from(value).ok()?;
    Some(Timestamp::from_millis(u64::from_be_bytes(millis)))
}

pub(in crate::store) fn corrupt(what: impl Display) -> StoreError {
    StoreError::Corrupt(format!("{what} is missing or unreadable"))
}

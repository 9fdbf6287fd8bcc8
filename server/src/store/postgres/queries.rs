//! Reading: rows as what the domain has for them.

use dual16_proto::v1;
use prost::Message as _;
use sqlx::PgExecutor;

use super::{PostgresStore, REDUCE, column, place, sql};
use crate::{
    digest::Digest,
    job::{Job, JobId, LeaseRef, Refusal, Slot, Task, TaskName},
    store::{EventPage, JobPage, JobQuery, StoreError, StoredJob, records::reader::corrupt},
};

/// Events read at a time: what a watcher holds in memory at most.
const EVENT_PAGE: i64 = 32;

/// A header as it is stored.
pub(super) fn job(header: &str) -> Result<Job, StoreError> {
    serde_json::from_str(header).map_err(|error| corrupt(format!("job record: {error}")))
}

/// A task as it is stored.
pub(super) fn task(record: &str) -> Result<Task, StoreError> {
    serde_json::from_str(record).map_err(|error| corrupt(format!("task record: {error}")))
}

/// An id as it is stored.
pub(super) fn job_id(id: &[u8]) -> Result<JobId, StoreError> {
    let id = <[u8; 16]>::try_from(id).map_err(|_| corrupt("a job id"))?;
    Ok(JobId::from_bytes(id))
}

/// Digests as they are stored.
pub(super) fn digests(blobs: &[Digest]) -> Vec<Vec<u8>> {
    blobs.iter().map(|blob| blob.as_bytes().to_vec()).collect()
}

/// A digest as it is stored.
pub(super) fn digest(bytes: Vec<u8>) -> Result<Digest, StoreError> {
    let bytes = bytes.try_into().map_err(|_| corrupt("a digest"))?;
    Ok(Digest::from_bytes(bytes))
}

/// A header and a spec as they are stored.
pub(super) fn stored((header, spec): (String, Vec<u8>)) -> Result<StoredJob, StoreError> {
    let job = job(&header)?;
    let spec = v1::JobSpec::decode(spec.as_slice());
    let spec = spec.map_err(|_| corrupt(format!("spec of {}", job.id)))?;
    Ok(StoredJob { job, spec })
}

/// A job with its spec.
pub(super) async fn stored_job(
    executor: impl PgExecutor<'_>,
    id: JobId,
) -> Result<StoredJob, StoreError> {
    let row = sqlx::query_as(sql::JOB_AND_SPEC).bind(&id.as_bytes()[..]);
    let row = row.fetch_optional(executor).await?;
    stored(row.ok_or(StoreError::NotFound(id))?)
}

fn payload(encoded: &[u8], what: impl std::fmt::Display) -> Result<v1::Payload, StoreError> {
    v1::Payload::decode(encoded).map_err(|_| corrupt(what))
}

impl PostgresStore {
    async fn header(&self, id: JobId) -> Result<Job, StoreError> {
        let header = sqlx::query_scalar(sql::JOB).bind(&id.as_bytes()[..]);
        let header: Option<String> = header.fetch_optional(&self.pool).await?;
        job(&header.ok_or(StoreError::NotFound(id))?)
    }

    pub(super) async fn spec_of_lease(&self, lease: LeaseRef) -> Result<v1::JobSpec, StoreError> {
        let (stage, slot) = place(lease.name.task);
        let record = sqlx::query_scalar(sql::TASK)
            .bind(&lease.name.job.as_bytes()[..])
            .bind(stage)
            .bind(slot);
        let record: Option<String> = record.fetch_optional(&self.pool).await?;
        let task = record.map(|record| task(&record)).transpose()?;
        let fence = task.as_ref().and_then(Task::grant).map(|grant| grant.fence);
        if fence != Some(lease.fence) {
            return Err(Refusal::LeaseLost(lease.name).into());
        }
        let spec = sqlx::query_scalar(sql::SPEC).bind(&lease.name.job.as_bytes()[..]);
        let spec: Option<Vec<u8>> = spec.fetch_optional(&self.pool).await?;
        let spec = spec.ok_or(StoreError::NotFound(lease.name.job))?;
        v1::JobSpec::decode(spec.as_slice())
            .map_err(|_| corrupt(format!("spec of {}", lease.name.job)))
    }

    /// What a task is to do and, for a reduce, the results of its stage's maps by index.
    pub(super) async fn task_inputs(
        &self,
        job: &Job,
        name: TaskName,
    ) -> Result<(v1::Payload, Vec<v1::Payload>), StoreError> {
        let id = &job.id.as_bytes()[..];
        let (stage, slot) = place(name.task);
        let row = sqlx::query_scalar(sql::PAYLOAD)
            .bind(id)
            .bind(stage)
            .bind(slot);
        let row: Option<Vec<u8>> = row.fetch_optional(&self.pool).await?;
        let row = row.ok_or_else(|| corrupt(format!("payload of {name}")))?;
        let own = payload(&row, format!("payload of {name}"))?;
        if name.task.slot != Slot::Reduce {
            return Ok((own, Vec::new()));
        }
        let rows = sqlx::query_as(sql::MAP_RESULTS)
            .bind(id)
            .bind(stage)
            .bind(REDUCE);
        let rows: Vec<(i64, Option<Vec<u8>>)> = rows.fetch_all(&self.pool).await?;
        let maps = job.stages.get(name.task.stage as usize);
        let maps = maps.map_or(0, |stage| stage.maps as usize);
        if rows.len() != maps {
            return Err(corrupt(format!("a map of the stage of {name}")));
        }
        let mut inputs = Vec::with_capacity(maps);
        for (slot, result) in rows {
            let what = format!("result of map {slot} of the stage of {name}");
            let result = result.ok_or_else(|| corrupt(&what))?;
            inputs.push(payload(&result, what)?);
        }
        Ok((own, inputs))
    }

    pub(super) async fn page_of_jobs(&self, query: &JobQuery) -> Result<JobPage, StoreError> {
        let states: Vec<i16> = query.states.iter().map(|state| *state as i16).collect();
        let mut before = query.before;
        // Once, unless every job of a page was deleted while it was read.
        loop {
            let wanted = query.limit.saturating_add(1);
            let rows = sqlx::query_as(sql::LIST)
                .bind(before.map(|id| id.as_bytes().to_vec()))
                .bind(query.owner.as_ref().map(|owner| owner.as_str().to_owned()))
                .bind(&states)
                .bind(column(wanted as u64));
            let rows: Vec<(Vec<u8>, i32)> = rows.fetch_all(&self.pool).await?;
            let Some((oldest, _)) = rows.last() else {
                return Ok(JobPage {
                    jobs: Vec::new(),
                    more: false,
                });
            };
            before = Some(job_id(oldest)?);
            let mut bytes = 0;
            let fits = |(_, spec): &&(Vec<u8>, i32)| {
                let first = bytes == 0;
                bytes += usize::try_from(*spec).unwrap_or(usize::MAX).max(1);
                first || bytes <= query.max_bytes
            };
            let page: Vec<_> = rows.iter().take(query.limit).take_while(fits).collect();
            let more = page.len() < rows.len();
            let ids: Vec<_> = page.into_iter().map(|(id, _)| id.clone()).collect();
            let rows = sqlx::query_as(sql::SELECT_JOBS).bind(ids);
            let rows: Vec<(String, Vec<u8>)> = rows.fetch_all(&self.pool).await?;
            let jobs = rows.into_iter().map(stored);
            let jobs = jobs.collect::<Result<Vec<_>, _>>()?;
            // One may have moved on since.
            let asked = |stored: &StoredJob| {
                query.states.is_empty() || query.states.contains(&stored.job.phase.state())
            };
            let jobs: Vec<_> = jobs.into_iter().filter(asked).collect();
            if !jobs.is_empty() {
                return Ok(JobPage { jobs, more });
            }
        }
    }

    pub(super) async fn page_of_events(
        &self,
        id: JobId,
        after: u64,
    ) -> Result<EventPage, StoreError> {
        // The header first: the events it counts were committed with it or before it.
        let job = self.header(id).await?;
        let rows = sqlx::query_as(sql::EVENTS)
            .bind(&id.as_bytes()[..])
            .bind(column(after))
            .bind(column(job.last_sequence))
            .bind(EVENT_PAGE);
        let rows: Vec<(i64, Vec<u8>)> = rows.fetch_all(&self.pool).await?;
        EventPage::read(&job, after, rows.into_iter().map(|(_, event)| event))
    }

    pub(super) async fn free(&self, blobs: &[Digest]) -> Result<Vec<Digest>, StoreError> {
        let free = sqlx::query_scalar(sql::UNREFERENCED).bind(digests(blobs));
        let free: Vec<Vec<u8>> = free.fetch_all(&self.pool).await?;
        free.into_iter().map(digest).collect()
    }
}

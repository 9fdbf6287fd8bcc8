//! The verbs of [`Store`] for [`RecordStore`]: find the records, ask the machine, commit.

mod claim;

use std::time::Duration;

use dual16_proto::v1;
use prost::Message as _;

use super::{
    Batch, Changes, Claim, Claimed, Counts, Created, Engine, EventPage, JobPage, JobQuery, Order,
    RecordStore, Store, StoreError, StoredJob,
    keys::{self, Table},
    records::{
        Writer,
        reader::{decode_json, put_spec},
    },
};
use crate::{
    clock::Timestamp,
    job::{Completion, FailureReport, Job, JobEvent, JobId, LeaseRef, NewJob, Refusal, TaskEvent},
};

/// Events read at a time: what a watcher holds in memory at most.
const EVENT_PAGE: usize = 32;

impl<E: Engine> Store for RecordStore<E> {
    fn create_job(
        &self,
        new: NewJob,
        spec: &v1::JobSpec,
        now: Timestamp,
    ) -> Result<Created, StoreError> {
        self.write(|writer| {
            let mut batch = Batch::default();
            if let Some(request) = &new.request_id {
                if let Some(job) = writer.find_request(request)? {
                    if job.spec_digest != new.spec_digest {
                        return Err(StoreError::RequestIdReused(job.id));
                    }
                    let job = writer.reader.with_spec(job)?;
                    return Ok(Created {
                        job,
                        changes: Changes::default(),
                    });
                }
                batch.put(
                    "request",
                    keys::request(request),
                    new.id.as_bytes().to_vec(),
                )?;
            }
            writer.admit_job()?;
            put_spec(&mut batch, new.id, spec)?;
            let step = writer.config.machine.create(new, now);
            let job = writer.apply(step, false, batch)?;
            let job = StoredJob {
                job,
                spec: spec.clone(),
            };
            Ok(Created {
                job,
                changes: std::mem::take(&mut writer.changes),
            })
        })
    }

    fn get_job(&self, id: JobId) -> Result<StoredJob, StoreError> {
        self.read(|reader| reader.with_spec(reader.job(id)?))
    }

    fn list_jobs(&self, query: &JobQuery) -> Result<JobPage, StoreError> {
        self.read(|reader| {
            let mut page = JobPage {
                jobs: Vec::new(),
                more: false,
            };
            let mut range = keys::jobs(query.before);
            let mut bytes = 0;
            loop {
                let records = reader.engine.scan(range.clone(), Order::Descending, 64)?;
                let Some((oldest, _)) = records.last() else {
                    return Ok(page);
                };
                range.end.clone_from(oldest);
                for (_, value) in records {
                    let job: Job = decode_json("job", &value)?;
                    if !query.states.is_empty() && !query.states.contains(&job.phase.state()) {
                        continue;
                    }
                    let stored = match reader.with_spec(job) {
                        // Deleted since its header was read.
                        Err(StoreError::NotFound(_)) => continue,
                        stored => stored?,
                    };
                    bytes += stored.spec.encoded_len();
                    let full = page.jobs.len() >= query.limit || bytes > query.max_bytes;
                    if full && !page.jobs.is_empty() {
                        page.more = true;
                        return Ok(page);
                    }
                    page.jobs.push(stored);
                }
            }
        })
    }

    fn claim(&self, claim: &Claim, now: Timestamp) -> Result<Claimed, StoreError> {
        self.write(|writer| writer.claim(claim, now))
    }

    fn renew(
        &self,
        leases: &[LeaseRef],
        now: Timestamp,
        ttl: Duration,
    ) -> Result<Vec<LeaseRef>, StoreError> {
        self.write(|writer| {
            let lost = leases
                .iter()
                .filter(|lease| !writer.live.leases.renew(**lease, now, ttl));
            Ok(lost.copied().collect())
        })
    }

    fn complete(
        &self,
        lease: LeaseRef,
        completion: Completion,
        now: Timestamp,
    ) -> Result<Changes, StoreError> {
        self.write(|writer| {
            writer.task_event(lease, TaskEvent::Complete(lease.fence, completion), now)?;
            Ok(std::mem::take(&mut writer.changes))
        })
    }

    fn fail(
        &self,
        lease: LeaseRef,
        report: FailureReport,
        now: Timestamp,
    ) -> Result<Changes, StoreError> {
        self.write(|writer| {
            writer.task_event(lease, TaskEvent::Fail(lease.fence, report), now)?;
            Ok(std::mem::take(&mut writer.changes))
        })
    }

    fn release(&self, leases: &[LeaseRef], now: Timestamp) -> Result<Changes, StoreError> {
        self.write(|writer| {
            for lease in leases {
                match writer.task_event(*lease, TaskEvent::Release(lease.fence), now) {
                    Ok(()) | Err(StoreError::Refused(_)) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(std::mem::take(&mut writer.changes))
        })
    }

    fn cancel(&self, id: JobId, now: Timestamp) -> Result<(StoredJob, Changes), StoreError> {
        self.write(|writer| writer.job_event(id, JobEvent::Cancel, now))
    }

    fn retry(&self, id: JobId, now: Timestamp) -> Result<(StoredJob, Changes), StoreError> {
        self.write(|writer| {
            writer.admit_job()?;
            writer.job_event(id, JobEvent::Retry, now)
        })
    }

    fn delete(&self, id: JobId) -> Result<Changes, StoreError> {
        self.write(|writer| {
            let job = writer.reader.job(id)?;
            if job.phase.ended().is_none() {
                return Err(StoreError::NotEnded(id));
            }
            let mut batch = Batch::default();
            batch.remove(keys::job(id));
            if let Some(request) = &job.request_id {
                batch.remove(keys::request(request));
            }
            for table in Table::ALL {
                writer.reader.remove_all(table.of_job(id), &mut batch)?;
            }
            writer.commit(batch)?;
            Ok(Changes {
                jobs: vec![id],
                ..Changes::default()
            })
        })
    }

    fn read_events(&self, id: JobId, after: u64) -> Result<EventPage, StoreError> {
        self.read(|reader| {
            // The header first: the events it counts were committed with it or before it.
            let job = reader.job(id)?;
            let mut range = Table::Event.of_job(id);
            range.start = Table::Event.numbered(id, after.saturating_add(1));
            range.end = range
                .end
                .min(Table::Event.numbered(id, job.last_sequence + 1));
            let records = if range.is_empty() {
                Vec::new()
            } else {
                reader.engine.scan(range, Order::Ascending, EVENT_PAGE)?
            };
            let mut events = Vec::with_capacity(records.len());
            for (expected, (_, value)) in (after + 1..).zip(records) {
                let event = v1::JobEvent::decode(value.as_slice()).ok();
                let event = event.filter(|event| event.sequence == expected);
                // A gap can only be a deletion under way.
                events.push(event.ok_or(StoreError::NotFound(id))?);
            }
            if events.is_empty() && after < job.last_sequence {
                return Err(StoreError::NotFound(id));
            }
            let ended = job.phase.ended().is_some();
            Ok(EventPage {
                events,
                last_sequence: job.last_sequence,
                ended,
            })
        })
    }

    fn expire(&self, now: Timestamp) -> Result<Changes, StoreError> {
        self.write(|writer| {
            for lease in writer.live.leases.expired(now) {
                match writer.task_event(lease, TaskEvent::Expire(lease.fence), now) {
                    Ok(()) => {}
                    Err(StoreError::Refused(_)) => writer.live.leases.remove(lease.name),
                    Err(error) => return Err(error),
                }
            }
            Ok(std::mem::take(&mut writer.changes))
        })
    }

    fn counts(&self) -> Result<Counts, StoreError> {
        self.write(|writer| {
            Ok(Counts {
                open_jobs: writer.live.open_jobs,
                queued_tasks: writer.live.queued_tasks,
                leased_tasks: writer.live.leases.len() as u64,
            })
        })
    }

    fn close(&self) -> Result<(), StoreError> {
        self.shut()
    }
}

impl<E: Engine> Writer<'_, E> {
    fn find_request(&self, request: &str) -> Result<Option<Job>, StoreError> {
        let Some(id) = self.reader.engine.get(&keys::request(request))? else {
            return Ok(None);
        };
        let id = <[u8; 16]>::try_from(id.as_slice())
            .map_err(|_| StoreError::Corrupt("a request record is not a job id".into()))?;
        self.reader.find_job(JobId::from_bytes(id))
    }

    fn admit_job(&self) -> Result<(), StoreError> {
        let max = self.config.max_open_jobs;
        if self.live.open_jobs >= max {
            return Err(StoreError::QueueFull { max });
        }
        Ok(())
    }

    fn task_event(
        &mut self,
        lease: LeaseRef,
        event: TaskEvent,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        // To a worker, a job that was deleted is a lease that was lost.
        let lost = || StoreError::Refused(Refusal::LeaseLost(lease.name));
        let job = self.reader.find_job(lease.name.job)?.ok_or_else(lost)?;
        let task = self.reader.task(lease.name)?.ok_or_else(lost)?;
        let was_open = job.phase.ended().is_none();
        let step = self.config.machine.on_task(job, task, event, now)?;
        self.apply(step, was_open, Batch::default())?;
        Ok(())
    }

    fn job_event(
        &mut self,
        id: JobId,
        event: JobEvent,
        now: Timestamp,
    ) -> Result<(StoredJob, Changes), StoreError> {
        let job = self.reader.job(id)?;
        let was_open = job.phase.ended().is_none();
        let current = match (event, job.stages.len().checked_sub(1)) {
            (JobEvent::Retry, Some(last)) => self
                .reader
                .stage_tasks(id, u32::try_from(last).unwrap_or(u32::MAX))?,
            _ => Vec::new(),
        };
        let step = self.config.machine.on_job(job, current, event, now)?;
        let job = self.apply(step, was_open, Batch::default())?;
        Ok((
            self.reader.with_spec(job)?,
            std::mem::take(&mut self.changes),
        ))
    }
}

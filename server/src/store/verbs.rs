//! The verbs of [`Store`] for [`RecordStore`]: find the records, ask the machine, commit.

mod claim;
mod list;
mod uses;

use std::time::Duration;

use dual16_proto::v1;

use super::{
    Batch, Changes, Claim, Claimed, Counts, Created, Engine, EventPage, JobPage, JobQuery, Order,
    RecordStore, Records as _, Retention, StoreError, StoredJob,
    keys::{self, Table},
    records::{
        Writer,
        reader::{corrupt, put_spec},
    },
};
use crate::{
    clock::Timestamp,
    digest::Digest,
    job::{
        BlobRef, Completion, DEADLINE_GRACE, FailureReport, Job, JobEvent, JobId, LeaseRef, NewJob,
        Refusal, Task, TaskEvent,
    },
    principal::Principal,
};

/// Events read at a time: what a watcher holds in memory at most.
const EVENT_PAGE: usize = 32;
/// Jobs that one call prunes at most: it keeps others waiting meanwhile.
const PRUNED_AT_ONCE: usize = 16;
/// Nor does it begin another one after so many records.
const RECORDS_PRUNED_AT_ONCE: u64 = 10_000;
/// When a lease that ran out and could not be ended is looked at again.
const STUCK_LEASE_TERM: Duration = Duration::from_secs(60);

/// As the verbs of the same names of [`Store`]; each blocks until it is durable.
impl<E: Engine> RecordStore<E> {
    pub(crate) fn create_job(
        &self,
        new: NewJob,
        spec: &v1::JobSpec,
        now: Timestamp,
    ) -> Result<Created, StoreError> {
        self.write_at(now, |writer, now| {
            let mut batch = Batch::default();
            if let Some(request) = &new.request_id {
                if let Some(job) = writer.find_request(&new.owner, request)? {
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
                    keys::request(&new.owner, request),
                    new.id.as_bytes().to_vec(),
                )?;
            }
            writer.admit_job(&new.owner, &new.blobs)?;
            put_spec(&mut batch, new.id, spec)?;
            let mut step = writer.config.machine.create(new, now);
            step.job.spec = Some(spec.into());
            let job = writer.apply(step, batch)?;
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

    pub(crate) fn get_job(&self, id: JobId) -> Result<StoredJob, StoreError> {
        self.read(|reader| reader.with_spec(reader.job(id)?))
    }

    pub(crate) fn job_owner(&self, id: JobId) -> Result<Principal, StoreError> {
        self.read(|reader| Ok(reader.job(id)?.owner))
    }

    pub(crate) fn list_jobs(&self, query: &JobQuery) -> Result<JobPage, StoreError> {
        self.read(|reader| self.list(reader, query))
    }

    pub(crate) fn claim(&self, claim: &Claim, now: Timestamp) -> Result<Claimed, StoreError> {
        self.claim_tasks(claim, now)
    }

    pub(crate) fn leased_spec(&self, lease: LeaseRef) -> Result<v1::JobSpec, StoreError> {
        self.read(|reader| {
            let task = reader.task(lease.name)?;
            let fence = task.as_ref().and_then(Task::grant).map(|grant| grant.fence);
            if fence != Some(lease.fence) {
                return Err(Refusal::LeaseLost(lease.name).into());
            }
            reader.spec(lease.name.job)
        })
    }

    pub(crate) fn renew(
        &self,
        leases: &[LeaseRef],
        now: Timestamp,
        ttl: Duration,
    ) -> Result<Vec<LeaseRef>, StoreError> {
        self.write_at(now, |writer, now| {
            let lost = leases
                .iter()
                .filter(|lease| !writer.index.leases.renew(**lease, now, ttl));
            Ok(lost.copied().collect())
        })
    }

    pub(crate) fn complete(
        &self,
        lease: LeaseRef,
        completion: Completion,
        now: Timestamp,
    ) -> Result<Changes, StoreError> {
        self.write_at(now, |writer, now| {
            writer.task_event(lease, TaskEvent::Complete(lease.fence, completion), now)?;
            Ok(std::mem::take(&mut writer.changes))
        })
    }

    pub(crate) fn fail(
        &self,
        lease: LeaseRef,
        report: FailureReport,
        now: Timestamp,
    ) -> Result<Changes, StoreError> {
        self.write_at(now, |writer, now| {
            writer.task_event(lease, TaskEvent::Fail(lease.fence, report), now)?;
            Ok(std::mem::take(&mut writer.changes))
        })
    }

    pub(crate) fn release(
        &self,
        leases: &[LeaseRef],
        now: Timestamp,
    ) -> Result<Changes, StoreError> {
        self.write_at(now, |writer, now| {
            writer.release(leases, now)?;
            Ok(std::mem::take(&mut writer.changes))
        })
    }

    pub(crate) fn cancel(
        &self,
        id: JobId,
        now: Timestamp,
    ) -> Result<(StoredJob, Changes), StoreError> {
        self.write_at(now, |writer, now| {
            writer.job_event(id, JobEvent::Cancel, now)
        })
    }

    pub(crate) fn retry(
        &self,
        id: JobId,
        now: Timestamp,
    ) -> Result<(StoredJob, Changes), StoreError> {
        self.write_at(now, |writer, now| {
            let owner = writer.reader.job(id)?.owner;
            writer.admit_job(&owner, &[])?;
            writer.job_event(id, JobEvent::Retry, now)
        })
    }

    pub(crate) fn delete(&self, id: JobId) -> Result<Changes, StoreError> {
        self.write(|writer| {
            let job = writer.reader.job(id)?;
            if job.phase.ended().is_none() {
                return Err(StoreError::NotEnded(id));
            }
            writer.delete(&job)?;
            Ok(std::mem::take(&mut writer.changes))
        })
    }

    pub(crate) fn prune(
        &self,
        retention: Retention,
        now: Timestamp,
    ) -> Result<Changes, StoreError> {
        self.write_at(now, |writer, now| {
            writer.note_time(now)?;
            let Retention { keep_for, max_jobs } = retention;
            let old = keep_for.and_then(|keep_for| writer.index.observed.ago(now, keep_for));
            let mut removed = 0;
            for id in writer.index.catalog.expired(max_jobs, old, PRUNED_AT_ONCE) {
                match writer.reader.job(id).and_then(|job| writer.delete(&job)) {
                    Ok(records) => removed += records,
                    Err(error) if error.concerns_one_job() => {
                        tracing::error!(%error, job = %id, "an old job cannot be removed");
                    }
                    Err(error) => return Err(error),
                }
                if removed >= RECORDS_PRUNED_AT_ONCE {
                    break;
                }
            }
            Ok(std::mem::take(&mut writer.changes))
        })
    }

    pub(crate) fn unreferenced(&self, blobs: &[Digest]) -> Result<Vec<Digest>, StoreError> {
        self.read(|reader| {
            let mut free = Vec::new();
            for blob in blobs {
                let keepers = keys::keepers(*blob);
                if reader
                    .records
                    .scan(keepers, Order::Ascending, 1)?
                    .is_empty()
                {
                    free.push(*blob);
                }
            }
            Ok(free)
        })
    }

    pub(crate) fn read_events(&self, id: JobId, after: u64) -> Result<EventPage, StoreError> {
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
                reader.records.scan(range, Order::Ascending, EVENT_PAGE)?
            };
            EventPage::read(&job, after, records.into_iter().map(|(_, event)| event))
        })
    }

    pub(crate) fn extend_leases(&self, deadline: Timestamp) -> Result<(), StoreError> {
        self.write(|writer| {
            writer.index.leases.extend(deadline);
            Ok(())
        })
    }

    pub(crate) fn expire(&self, now: Timestamp) -> Result<Changes, StoreError> {
        self.write(|writer| {
            let latest = writer.index.advance(now);
            writer.queue_due(latest)?;
            // Not by the latest time: it may be that of one who waited less long for the lock, and
            // heartbeats may still wait for it.
            for lease in writer.index.leases.expired(now) {
                match writer.expire(lease, latest) {
                    Ok(()) => {}
                    Err(StoreError::Refused(_)) => writer.index.leases.remove(lease.name),
                    // One task that cannot be read or written down must not keep all others leased.
                    Err(error) if error.concerns_one_job() => {
                        tracing::error!(%error, task = %lease.name, "a lost lease stays");
                        let again = latest.after(STUCK_LEASE_TERM);
                        writer.index.leases.put_off(lease.name, again);
                    }
                    // What was changed before it must be told of; the next look meets the error first.
                    Err(error) if writer.changes != Changes::default() => {
                        tracing::error!(%error, "expired leases were handled in part");
                        break;
                    }
                    Err(error) => return Err(error),
                }
            }
            for (deadline, job) in writer.index.catalog.overdue(latest) {
                // So that nothing is read at every look.
                if writer.index.leases.holds(job) && latest < deadline.after(DEADLINE_GRACE) {
                    continue;
                }
                match writer.expire_job(job, latest) {
                    Ok(()) => {}
                    Err(error) if error.concerns_one_job() => {
                        tracing::error!(%error, %job, "a job stays beyond its deadline");
                        writer.index.catalog.forget_deadline(job);
                    }
                    Err(error) if writer.changes != Changes::default() => {
                        tracing::error!(%error, "deadlines were handled in part");
                        break;
                    }
                    Err(error) => return Err(error),
                }
            }
            Ok(std::mem::take(&mut writer.changes))
        })
    }

    pub(crate) fn counts(&self) -> Result<Counts, StoreError> {
        self.write(|writer| {
            Ok(Counts {
                open_jobs: writer.index.catalog.total().open_jobs,
                queued_tasks: writer.index.ready.total(),
                waiting_tasks: writer.index.waiting.len() as u64,
                leased_tasks: writer.index.leases.len() as u64,
                oldest_lease: writer.index.leases.oldest(),
            })
        })
    }

    pub(crate) fn close(&self) -> Result<(), StoreError> {
        self.shut()
    }
}

impl<E: Engine> Writer<'_, E> {
    fn find_request(&self, owner: &Principal, request: &str) -> Result<Option<Job>, StoreError> {
        let Some(id) = self.reader.records.get(&keys::request(owner, request))? else {
            return Ok(None);
        };
        let id = <[u8; 16]>::try_from(id.as_slice())
            .map_err(|_| StoreError::Corrupt("a request record is not a job id".into()))?;
        self.reader.find_job(JobId::from_bytes(id))
    }

    /// Refuses a further open job beyond what the server or its owner may have.
    fn admit_job(&self, owner: &Principal, blobs: &[BlobRef]) -> Result<(), StoreError> {
        let catalog = &self.index.catalog;
        let (open, used) = (catalog.total().open_jobs, catalog.usage(owner));
        self.config.admit(owner, blobs, open, used)
    }

    /// Removes everything of a job but its blobs, which it keeps no longer.
    /// Returns the number of records.
    fn delete(&mut self, job: &Job) -> Result<u64, StoreError> {
        let mut batch = Batch::default();
        batch.remove(keys::job(job.id));
        if let Some(request) = &job.request_id {
            batch.remove(keys::request(&job.owner, request));
        }
        self.reader.for_each(Table::Blob.of_job(job.id), |key, _| {
            let digest =
                keys::parse_blob(&key).ok_or_else(|| corrupt(format!("blob of {}", job.id)))?;
            batch.remove(keys::keeper(digest, job.id));
            Ok(())
        })?;
        let mut removed = 0;
        for table in Table::ALL {
            removed += self.reader.remove_all(table.of_job(job.id), &mut batch)?;
        }
        self.commit(batch);
        self.index.catalog.remove(job.id);
        self.changes.jobs.push(job.id);
        Ok(removed)
    }

    /// Gives back the tasks of those of the leases that still hold.
    fn release(&mut self, leases: &[LeaseRef], now: Timestamp) -> Result<(), StoreError> {
        for lease in leases {
            match self.task_event(*lease, TaskEvent::Release(lease.fence), now) {
                Ok(()) | Err(StoreError::Refused(_)) => {}
                // The others are in the same call only because one worker holds them all.
                Err(error) if error.concerns_one_job() => {
                    tracing::error!(%error, task = %lease.name, "a task cannot be changed");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Ends a job whose deadline has passed.
    fn expire_job(&mut self, id: JobId, now: Timestamp) -> Result<(), StoreError> {
        let (job, machine) = (self.reader.job(id)?, self.config.machine);
        let step = machine.on_job(job, Vec::new(), JobEvent::Expire, now)?;
        self.apply(step, Batch::default())?;
        Ok(())
    }

    /// Ends the attempt of a lease that has run out.
    fn expire(&mut self, lease: LeaseRef, now: Timestamp) -> Result<(), StoreError> {
        let task = self.reader.task(lease.name)?;
        let worker = task.and_then(|task| Some(task.grant()?.worker.clone()));
        self.task_event(lease, TaskEvent::Expire(lease.fence), now)?;
        let lost = worker.map(|worker| (worker, lease.name));
        self.changes.lost.extend(lost);
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
        let step = self.config.machine.on_task(job, task, event, now)?;
        self.apply(step, Batch::default())?;
        Ok(())
    }

    fn job_event(
        &mut self,
        id: JobId,
        event: JobEvent,
        now: Timestamp,
    ) -> Result<(StoredJob, Changes), StoreError> {
        let job = self.reader.job(id)?;
        let current = match (event, job.stages.len().checked_sub(1)) {
            (JobEvent::Retry, Some(last)) => self
                .reader
                .stage_tasks(id, u32::try_from(last).unwrap_or(u32::MAX))?,
            _ => Vec::new(),
        };
        let step = self.config.machine.on_job(job, current, event, now)?;
        let job = self.apply(step, Batch::default())?;
        Ok((
            self.reader.with_spec(job)?,
            std::mem::take(&mut self.changes),
        ))
    }
}

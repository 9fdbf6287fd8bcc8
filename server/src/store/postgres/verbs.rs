//! The verbs of [`Store`]: lock the job, ask the machine, write, commit.

use std::{collections::HashSet, sync::atomic::Ordering, time::Duration};

use dual16_proto::v1;
use prost::Message as _;
use tonic::async_trait;

use super::{PostgresStore, Writing, column, number, place, queries, sql};
use crate::{
    blob::Removal,
    clock::Timestamp,
    digest::Digest,
    job::{
        BlobRef, Completion, FailureReport, JobEvent, JobId, LeaseRef, NewJob, Refusal, TaskEvent,
    },
    principal::Principal,
    store::{
        Changes, Claim, Claimed, Counts, Created, EventPage, Hint, JobPage, JobQuery, Retention,
        Store, StoreError, StoredJob, Usage, records::reader::corrupt,
    },
};

#[async_trait]
impl Store for PostgresStore {
    async fn create_job(
        &self,
        new: NewJob,
        spec: &v1::JobSpec,
        now: Timestamp,
    ) -> Result<Created, StoreError> {
        let now = self.advance(now);
        let created = self.insist(|| self.create(new.clone(), spec, now)).await?;
        self.hints.send(&created.changes);
        Ok(created)
    }

    async fn get_job(&self, id: JobId) -> Result<StoredJob, StoreError> {
        queries::stored_job(&self.pool, id).await
    }

    async fn job_owner(&self, id: JobId) -> Result<Principal, StoreError> {
        let owner = sqlx::query_scalar(sql::OWNER).bind(&id.as_bytes()[..]);
        let owner: Option<String> = owner.fetch_optional(&self.pool).await?;
        let owner = owner.ok_or(StoreError::NotFound(id))?;
        owner.parse().map_err(|_| corrupt(format!("owner of {id}")))
    }

    async fn list_jobs(&self, query: &JobQuery) -> Result<JobPage, StoreError> {
        self.page_of_jobs(query).await
    }

    async fn claim(&self, claim: &Claim, now: Timestamp) -> Result<Claimed, StoreError> {
        let claimed = self.claim_tasks(claim, self.advance(now)).await?;
        self.hints.send(&claimed.changes);
        Ok(claimed)
    }

    async fn leased_spec(&self, lease: LeaseRef) -> Result<v1::JobSpec, StoreError> {
        self.spec_of_lease(lease).await
    }

    async fn renew(
        &self,
        leases: &[LeaseRef],
        now: Timestamp,
        ttl: Duration,
    ) -> Result<Vec<LeaseRef>, StoreError> {
        let deadline = column(self.advance(now).after(ttl).as_millis());
        if leases.is_empty() {
            return Ok(Vec::new());
        }
        let renew = || async {
            let (mut jobs, mut stages, mut slots) = (Vec::new(), Vec::new(), Vec::new());
            let (mut ids, mut attempts) = (Vec::new(), Vec::new());
            for lease in leases {
                let (stage, slot) = place(lease.name.task);
                jobs.push(lease.name.job.as_bytes().to_vec());
                stages.push(stage);
                slots.push(slot);
                ids.push(lease.fence.lease.as_bytes().to_vec());
                attempts.push(i64::from(lease.fence.attempt));
            }
            let renewed = sqlx::query_scalar(sql::RENEW)
                .bind(jobs)
                .bind(stages)
                .bind(slots)
                .bind(ids)
                .bind(attempts)
                .bind(deadline);
            let renewed: Vec<Vec<u8>> = renewed.fetch_all(&self.pool).await?;
            Ok(renewed)
        };
        let renewed: HashSet<_> = self.insist(renew).await?.into_iter().collect();
        let lost = leases
            .iter()
            .filter(|lease| !renewed.contains(&lease.fence.lease.as_bytes()[..]));
        Ok(lost.copied().collect())
    }

    async fn complete(
        &self,
        lease: LeaseRef,
        completion: Completion,
        now: Timestamp,
    ) -> Result<Changes, StoreError> {
        self.on_task(lease, TaskEvent::Complete(lease.fence, completion), now)
            .await
    }

    async fn fail(
        &self,
        lease: LeaseRef,
        report: FailureReport,
        now: Timestamp,
    ) -> Result<Changes, StoreError> {
        self.on_task(lease, TaskEvent::Fail(lease.fence, report), now)
            .await
    }

    async fn release(&self, leases: &[LeaseRef], now: Timestamp) -> Result<Changes, StoreError> {
        let now = self.advance(now);
        let mut changes = Changes::default();
        for lease in leases {
            match self
                .on_task(*lease, TaskEvent::Release(lease.fence), now)
                .await
            {
                Ok(released) => changes.append(released),
                Err(StoreError::Refused(_)) => {}
                // The others are in the same call only because one worker holds them all.
                Err(error) if error.concerns_one_job() => {
                    tracing::error!(%error, task = %lease.name, "a task cannot be changed");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(changes)
    }

    async fn cancel(&self, id: JobId, now: Timestamp) -> Result<(StoredJob, Changes), StoreError> {
        let now = self.advance(now);
        let cancel = || async {
            let mut writing = self.begin(now).await?;
            let job = writing.job_event(id, JobEvent::Cancel).await?;
            Ok((job, writing.commit().await?))
        };
        let (job, changes) = self.insist(cancel).await?;
        Ok((job, self.changed(changes)))
    }

    async fn retry(&self, id: JobId, now: Timestamp) -> Result<(StoredJob, Changes), StoreError> {
        let now = self.advance(now);
        let retry = || async {
            let mut writing = self.begin(now).await?;
            let owner = writing.peek_owner(id).await?;
            writing.admit_job(&owner, &[]).await?;
            let job = writing.job_event(id, JobEvent::Retry).await?;
            Ok((job, writing.commit().await?))
        };
        let (job, changes) = self.insist(retry).await?;
        Ok((job, self.changed(changes)))
    }

    async fn delete(&self, id: JobId) -> Result<Changes, StoreError> {
        let now = Timestamp::from_millis(self.now.load(Ordering::Relaxed));
        Ok(self.changed(self.insist(|| self.remove(id, now)).await?))
    }

    async fn prune(&self, retention: Retention, now: Timestamp) -> Result<Changes, StoreError> {
        let now = self.advance(now);
        Ok(self.changed(self.remove_old(retention, now).await?))
    }

    async fn unreferenced(&self, blobs: &[Digest]) -> Result<Vec<Digest>, StoreError> {
        self.free(blobs).await
    }

    async fn note_blob_use(&self, blobs: &[Digest], now: Timestamp) -> Result<(), StoreError> {
        let now = self.advance(now);
        self.insist(|| self.note_uses(blobs, now)).await
    }

    async fn unused_blobs(
        &self,
        blobs: &[Digest],
        since: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<Digest>, StoreError> {
        self.insist(|| self.unused(blobs, since, now)).await
    }

    async fn remove_blob(
        &self,
        blob: Digest,
        since: Option<Timestamp>,
        removal: Removal,
    ) -> Result<bool, StoreError> {
        self.remove_locked(blob, since, removal).await
    }

    async fn forget_blob_use(&self, before: Timestamp) -> Result<(), StoreError> {
        self.insist(|| self.forget_uses(before)).await
    }

    async fn read_events(&self, id: JobId, after: u64) -> Result<EventPage, StoreError> {
        self.page_of_events(id, after).await
    }

    async fn extend_leases(&self, deadline: Timestamp) -> Result<(), StoreError> {
        let extended = sqlx::query(sql::EXTEND_LEASES).bind(column(deadline.as_millis()));
        extended.execute(&self.pool).await?;
        Ok(())
    }

    async fn expire(&self, now: Timestamp) -> Result<Changes, StoreError> {
        let latest = self.advance(now);
        Ok(self.changed(self.end_overdue(now, latest).await?))
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        let counts = sqlx::query_as(sql::COUNTS);
        let (open, queued, waiting, leased, oldest): (i64, i64, i64, i64, Option<i64>) =
            counts.fetch_one(&self.pool).await?;
        Ok(Counts {
            open_jobs: number(open),
            queued_tasks: number(queued),
            waiting_tasks: number(waiting),
            leased_tasks: number(leased),
            oldest_lease: oldest.map(|oldest| Timestamp::from_millis(number(oldest))),
        })
    }

    async fn leads(&self) -> Result<bool, StoreError> {
        let now = Timestamp::from_millis(self.now.load(Ordering::Relaxed));
        self.leader.lock().await.leads(now).await
    }

    async fn hint(&self) -> Hint {
        self.hints.next().await
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.leader.lock().await.leave().await;
        self.pool.close().await;
        Ok(())
    }
}

impl PostgresStore {
    async fn create(
        &self,
        new: NewJob,
        spec: &v1::JobSpec,
        now: Timestamp,
    ) -> Result<Created, StoreError> {
        let mut writing = self.begin(now).await?;
        sqlx::query(sql::LOCK_ADMISSION)
            .execute(&mut *writing.transaction)
            .await?;
        if let Some(request) = &new.request_id {
            let found = sqlx::query_as(sql::REQUESTED)
                .bind(new.owner.as_str())
                .bind(request);
            if let Some(found) = found.fetch_optional(&mut *writing.transaction).await? {
                let found = queries::stored(found)?;
                if found.job.spec_digest != new.spec_digest {
                    return Err(StoreError::RequestIdReused(found.job.id));
                }
                return Ok(Created {
                    job: found,
                    changes: Changes::default(),
                });
            }
        }
        writing.admit_job(&new.owner, &new.blobs).await?;
        sqlx::query(sql::INSERT_JOB)
            .bind(&new.id.as_bytes()[..])
            .bind(new.owner.as_str())
            .bind(new.request_id.as_deref())
            .bind(spec.encode_to_vec())
            .bind(new.priority as i16)
            .execute(&mut *writing.transaction)
            .await?;
        let mut step = self.config.machine.create(new, now);
        step.job.spec = Some(spec.into());
        let job = writing.apply(None, step).await?;
        let job = StoredJob {
            job,
            spec: spec.clone(),
        };
        let changes = writing.commit().await?;
        Ok(Created { job, changes })
    }

    async fn on_task(
        &self,
        lease: LeaseRef,
        event: TaskEvent,
        now: Timestamp,
    ) -> Result<Changes, StoreError> {
        let now = self.advance(now);
        let change = || async {
            let mut writing = self.begin(now).await?;
            writing.task_event(lease, event.clone()).await?;
            writing.commit().await
        };
        Ok(self.changed(self.insist(change).await?))
    }
}

impl Writing<'_> {
    async fn peek_owner(&mut self, id: JobId) -> Result<Principal, StoreError> {
        let owner = sqlx::query_scalar(sql::OWNER).bind(&id.as_bytes()[..]);
        let owner: Option<String> = owner.fetch_optional(&mut *self.transaction).await?;
        let owner = owner.ok_or(StoreError::NotFound(id))?;
        owner.parse().map_err(|_| corrupt(format!("owner of {id}")))
    }

    /// Refuses a further open job beyond what the server or its owner may have. Nobody else is let in until
    /// the end of the transaction.
    async fn admit_job(&mut self, owner: &Principal, blobs: &[BlobRef]) -> Result<(), StoreError> {
        sqlx::query(sql::LOCK_ADMISSION)
            .execute(&mut *self.transaction)
            .await?;
        let usage = sqlx::query_as(sql::USAGE).bind(owner.as_str());
        let (all, open_jobs, bytes): (i64, i64, i64) =
            usage.fetch_one(&mut *self.transaction).await?;
        let used = Usage {
            jobs: 0,
            open_jobs: number(open_jobs),
            bytes: number(bytes),
        };
        self.config.admit(owner, blobs, number(all), used)
    }

    pub(super) async fn task_event(
        &mut self,
        lease: LeaseRef,
        event: TaskEvent,
    ) -> Result<(), StoreError> {
        // To a worker, a job that was deleted is a lease that was lost.
        let lost = || StoreError::Refused(Refusal::LeaseLost(lease.name));
        let job = match self.lock_job(lease.name.job).await {
            Err(StoreError::NotFound(_)) => return Err(lost()),
            locked => locked?,
        };
        let task = self.find_task(lease.name).await?.ok_or_else(lost)?;
        let step = self
            .config
            .machine
            .on_task(job.clone(), task, event, self.now)?;
        self.apply(Some(&job), step).await?;
        Ok(())
    }

    pub(super) async fn job_event(
        &mut self,
        id: JobId,
        event: JobEvent,
    ) -> Result<StoredJob, StoreError> {
        let job = self.lock_job(id).await?;
        let mut current = Vec::new();
        if let (JobEvent::Retry, Some(last)) = (event, job.stages.len().checked_sub(1)) {
            let tasks = sqlx::query_scalar(sql::STAGE_TASKS)
                .bind(&id.as_bytes()[..])
                .bind(column(last as u64));
            let tasks: Vec<String> = tasks.fetch_all(&mut *self.transaction).await?;
            let tasks = tasks.iter().map(|task| queries::task(task));
            current = tasks.collect::<Result<_, _>>()?;
        }
        let machine = self.config.machine;
        let step = machine.on_job(job.clone(), current, event, self.now)?;
        self.apply(Some(&job), step).await?;
        queries::stored_job(&mut *self.transaction, id).await
    }
}

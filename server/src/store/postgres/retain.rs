//! What goes: jobs that are not to be kept, and leases and jobs whose time is over.

use std::{sync::atomic::Ordering, time::Duration};

use super::{PostgresStore, column, number, place, queries, sql, task_at};
use crate::{
    clock::Timestamp,
    job::{DEADLINE_GRACE, Fence, JobEvent, JobId, LeaseId, LeaseRef, TaskEvent},
    store::{
        Changes, Retention, StoreError,
        observed_time::ObservedTime,
        records::reader::{corrupt, decode_json, encode_json},
    },
};

/// Jobs that one call prunes at most.
const PRUNED_AT_ONCE: usize = 16;
/// Leases that one look ends at most, and jobs.
const EXPIRED_AT_ONCE: i64 = 256;
/// When a lease that ran out and could not be ended is looked at again.
const STUCK_LEASE_TERM: Duration = Duration::from_secs(60);
/// Some server looks for old jobs at least as often as this; what is longer, nobody saw.
const LONGEST_UNSEEN: Duration = Duration::from_secs(1800);

/// Job, stage, slot, lease and attempt.
type Expired = (Vec<u8>, i64, i64, Vec<u8>, i64);

impl PostgresStore {
    /// Removes a job that has ended.
    pub(super) async fn remove(&self, id: JobId, now: Timestamp) -> Result<Changes, StoreError> {
        let mut writing = self.begin(now).await?;
        let job = writing.lock_job(id).await?;
        if job.phase.ended().is_none() {
            return Err(StoreError::NotEnded(id));
        }
        let deleted = sqlx::query(sql::DELETE_JOB).bind(&id.as_bytes()[..]);
        deleted.execute(&mut *writing.transaction).await?;
        writing.count(Some(&job), None).await?;
        writing.changes.jobs.push(id);
        writing.commit().await
    }

    pub(super) async fn remove_old(
        &self,
        retention: Retention,
        now: Timestamp,
    ) -> Result<Changes, StoreError> {
        let Retention { keep_for, max_jobs } = retention;
        let observed = self.insist(|| self.note_time(now)).await?;
        let mut ids: Vec<Vec<u8>> = Vec::new();
        if let Some(max) = max_jobs {
            let surplus = sqlx::query_scalar(sql::SURPLUS).bind(column(max));
            let surplus: i64 = surplus.fetch_one(&self.pool).await?;
            let surplus = surplus.min(column(PRUNED_AT_ONCE as u64));
            let first = sqlx::query_scalar(sql::ENDED_FIRST).bind(surplus);
            ids = first.fetch_all(&self.pool).await?;
        }
        if let Some(old) = keep_for.and_then(|keep_for| observed.ago(now, keep_for)) {
            let before = sqlx::query_scalar(sql::ENDED_BEFORE)
                .bind(column(old.as_millis()))
                .bind(column(PRUNED_AT_ONCE as u64));
            let before: Vec<Vec<u8>> = before.fetch_all(&self.pool).await?;
            // Both are the first that ended.
            if before.len() > ids.len() {
                ids = before;
            }
        }
        let mut changes = Changes::default();
        for id in ids {
            let id = queries::job_id(&id)?;
            match self.insist(|| self.remove(id, now)).await {
                Ok(removed) => changes.append(removed),
                // Another was quicker, or it was retried.
                Err(StoreError::NotFound(_) | StoreError::NotEnded(_)) => {}
                Err(error) if error.concerns_one_job() => {
                    tracing::error!(%error, job = %id, "an old job cannot be removed");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(changes)
    }

    /// Keeps that the time was observed, now and then.
    async fn note_time(&self, now: Timestamp) -> Result<ObservedTime, StoreError> {
        const KEY: &str = "observed time";
        let mut writing = self.begin(now).await?;
        let kept = sqlx::query_scalar(sql::META).bind(KEY);
        let kept: Option<Vec<u8>> = kept.fetch_optional(&mut *writing.transaction).await?;
        let mut observed: ObservedTime = match kept {
            Some(kept) => decode_json(KEY, &kept)?,
            None => ObservedTime::default(),
        };
        // Since this server's first look it has seen the time pass.
        if !self.noted.swap(true, Ordering::Relaxed) && observed.unseen(now, LONGEST_UNSEEN) {
            observed = observed.opened(now);
        }
        let oldest: Option<i64> = sqlx::query_scalar(sql::OLDEST_END)
            .fetch_one(&mut *writing.transaction)
            .await?;
        let oldest = oldest.map(|oldest| Timestamp::from_millis(number(oldest)));
        if observed.note(now, oldest) {
            let kept = encode_json(&observed)?;
            let set = sqlx::query(sql::SET_META).bind(KEY).bind(kept);
            set.execute(&mut *writing.transaction).await?;
        }
        writing.commit().await?;
        Ok(observed)
    }

    /// Ends leases that have run out and jobs whose deadline has passed, and queues what has waited long
    /// enough, where this server leads.
    pub(super) async fn end_overdue(
        &self,
        now: Timestamp,
        latest: Timestamp,
    ) -> Result<Changes, StoreError> {
        if !self.leader.lock().await.leads(latest).await? {
            return Ok(Changes::default());
        }
        let mut changes = Changes {
            queued: self.queue_due(latest).await?,
            ..Changes::default()
        };
        // Not by the latest time: it may be that of one who waited less long, and heartbeats may still wait.
        let expired = sqlx::query_as(sql::EXPIRED)
            .bind(column(now.as_millis()))
            .bind(EXPIRED_AT_ONCE);
        let expired: Vec<Expired> = expired.fetch_all(&self.pool).await?;
        for (job, stage, slot, lease, attempt) in expired {
            let name = task_at(queries::job_id(&job)?, stage, slot)?;
            let lease = lease.try_into().map_err(|_| corrupt("a lease"))?;
            let fence = Fence {
                lease: LeaseId::from_bytes(lease),
                attempt: u32::try_from(attempt).map_err(|_| corrupt("a lease"))?,
            };
            let lease = LeaseRef { name, fence };
            match self.insist(|| self.end_attempt(lease, now, latest)).await {
                Ok(ended) => changes.append(ended),
                // One task that cannot be read or written down must not keep all others leased.
                Err(error) if error.concerns_one_job() => {
                    tracing::error!(%error, task = %lease.name, "a lost lease stays");
                    let again = column(latest.after(STUCK_LEASE_TERM).as_millis());
                    let put_off = sqlx::query(sql::PUT_LEASE_OFF)
                        .bind(job)
                        .bind(stage)
                        .bind(slot);
                    put_off.bind(again).execute(&self.pool).await?;
                }
                // What was changed before it must be told of; the next look meets the error first.
                Err(error) if changes != Changes::default() => {
                    tracing::error!(%error, "expired leases were handled in part");
                    return Ok(changes);
                }
                Err(error) => return Err(error),
            }
        }
        let overdue = sqlx::query_scalar(sql::OVERDUE)
            .bind(column(latest.as_millis()))
            .bind(column(DEADLINE_GRACE.as_secs() * 1000))
            .bind(EXPIRED_AT_ONCE);
        let overdue: Vec<Vec<u8>> = overdue.fetch_all(&self.pool).await?;
        for job in overdue {
            let job = queries::job_id(&job)?;
            match self.insist(|| self.expire_job(job, latest)).await {
                Ok(ended) => changes.append(ended),
                // It was deleted.
                Err(StoreError::NotFound(_)) => {}
                Err(error) if error.concerns_one_job() => {
                    tracing::error!(%error, %job, "a job stays beyond its deadline");
                    let forget = sqlx::query(sql::FORGET_DEADLINE).bind(&job.as_bytes()[..]);
                    forget.execute(&self.pool).await?;
                }
                Err(error) if changes != Changes::default() => {
                    tracing::error!(%error, "deadlines were handled in part");
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(changes)
    }

    /// Ends a job whose deadline has passed.
    async fn expire_job(&self, id: JobId, now: Timestamp) -> Result<Changes, StoreError> {
        let mut writing = self.begin(now).await?;
        writing.job_event(id, JobEvent::Expire).await?;
        writing.commit().await
    }

    /// Ends the attempt of a lease, unless it was renewed or has ended meanwhile.
    async fn end_attempt(
        &self,
        lease: LeaseRef,
        now: Timestamp,
        latest: Timestamp,
    ) -> Result<Changes, StoreError> {
        let mut writing = self.begin(latest).await?;
        match writing.lock_job(lease.name.job).await {
            Err(StoreError::NotFound(_)) => return Ok(Changes::default()),
            locked => locked?,
        };
        let (stage, slot) = place(lease.name.task);
        let still = sqlx::query_scalar(sql::LOCK_EXPIRED)
            .bind(&lease.name.job.as_bytes()[..])
            .bind(stage)
            .bind(slot)
            .bind(&lease.fence.lease.as_bytes()[..])
            .bind(column(now.as_millis()));
        let still: Option<bool> = still.fetch_optional(&mut *writing.transaction).await?;
        if still.is_none() {
            return Ok(Changes::default());
        }
        let task = writing.find_task(lease.name).await?;
        let worker = task.and_then(|task| Some(task.grant()?.worker.clone()));
        let event = TaskEvent::Expire(lease.fence);
        writing.task_event(lease, event).await?;
        let lost = worker.map(|worker| (worker, lease.name));
        writing.changes.lost.extend(lost);
        writing.commit().await
    }
}

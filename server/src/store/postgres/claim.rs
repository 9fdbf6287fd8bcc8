//! Claiming: the head of the queue, task by task, until the worker has enough, in one short transaction.
//! What a task reads, which for a reduce is what every map of its stage left, is read after it.

use std::sync::PoisonError;

use super::{PostgresStore, Writing, column, next_job::Next, queries, sql, task_at};
use crate::{
    clock::Timestamp,
    job::{Fence, Grant, JobId, LeaseId, LeaseRef, TaskEvent, TaskState},
    store::{
        Changes, Claim, Claimed, LeasedTask, StoreError,
        granted::{Granted, most_bytes},
        records::reader::corrupt,
        turns::Turns,
    },
};

/// Jobs whose backoffs are looked at in one go.
const DUE_AT_ONCE: i64 = 64;

/// A job whose task cannot be leased, and why.
type Unleasable = (JobId, StoreError);
/// What a transaction granted and changed, and whether further tasks are queued.
type Grants = Result<(Vec<Granted>, Changes, bool), Unleasable>;

impl PostgresStore {
    pub(super) async fn claim_tasks(
        &self,
        claim: &Claim,
        now: Timestamp,
    ) -> Result<Claimed, StoreError> {
        let mut claimed = Claimed::default();
        claimed.changes.queued = self.queue_due(now).await?;
        loop {
            let granted = self.grant_tasks(claim, now, &mut claimed).await?;
            let mut unreadable = Vec::new();
            for granted in granted {
                let lease = granted.lease();
                match self.task_inputs(&granted.job, lease.name).await {
                    Ok((payload, inputs)) => claimed.tasks.push(LeasedTask {
                        job: granted.job,
                        task: granted.task,
                        grant: granted.grant,
                        payload,
                        inputs,
                    }),
                    Err(error) => unreadable.push((lease, error)),
                }
            }
            if unreadable.is_empty() {
                return Ok(claimed);
            }
            self.take_back(unreadable, now, &mut claimed).await?;
            // What was granted beside it is the worker's; the next claim meets the error first.
            if !claimed.tasks.is_empty() || !claimed.more {
                return Ok(claimed);
            }
        }
    }

    /// Queues the tasks whose backoff is over; how many.
    pub(super) async fn queue_due(&self, now: Timestamp) -> Result<usize, StoreError> {
        let due = sqlx::query_scalar(sql::JOBS_DUE)
            .bind(column(now.as_millis()))
            .bind(DUE_AT_ONCE);
        let due: Vec<Vec<u8>> = due.fetch_all(&self.pool).await?;
        let mut queued = 0;
        for job in due {
            let job = queries::job_id(&job)?;
            queued += self.insist(|| self.queue_due_of(job, now)).await?;
        }
        Ok(queued)
    }

    async fn queue_due_of(&self, job: JobId, now: Timestamp) -> Result<usize, StoreError> {
        let mut writing = self.begin(now).await?;
        match writing.lock_job(job).await {
            Err(StoreError::NotFound(_)) => return Ok(0),
            locked => locked?,
        };
        let id = &job.as_bytes()[..];
        let taken = sqlx::query(sql::TAKE_DUE).bind(id);
        let taken = taken.bind(column(now.as_millis()));
        let taken = taken.execute(&mut *writing.transaction).await?;
        let claimable = sqlx::query(sql::BECOME_CLAIMABLE).bind(id);
        claimable.execute(&mut *writing.transaction).await?;
        writing.commit().await?;
        Ok(usize::try_from(taken.rows_affected()).unwrap_or(usize::MAX))
    }

    /// Grants what is at the head of the queue.
    async fn grant_tasks(
        &self,
        claim: &Claim,
        now: Timestamp,
        claimed: &mut Claimed,
    ) -> Result<Vec<Granted>, StoreError> {
        loop {
            match self.insist(|| self.try_grant_tasks(claim, now)).await? {
                Ok((granted, changes, more)) => {
                    claimed.changes.append(changes);
                    claimed.more = more;
                    return Ok(granted);
                }
                // At the head of the queue it would keep everything behind it from every worker.
                Err((job, error)) => self.set_aside(job, &error).await?,
            }
        }
    }

    /// The same in one transaction; of none of it anything is left where a job's records make it fail.
    async fn try_grant_tasks(&self, claim: &Claim, now: Timestamp) -> Result<Grants, StoreError> {
        let mut writing = self.begin(now).await?;
        let mut turns = self.turns();
        let granted = match writing.grant_tasks(claim, &mut turns).await? {
            Ok(granted) => granted,
            Err(unleasable) => return Ok(Err(unleasable)),
        };
        let more = sqlx::query_scalar(sql::ANY_CLAIMABLE);
        let more: bool = more.fetch_one(&mut *writing.transaction).await?;
        match writing.commit().await {
            Ok(changes) => {
                *self.turns.lock().unwrap_or_else(PoisonError::into_inner) = turns;
                Ok(Ok((granted, changes, more)))
            }
            Err(error) => {
                self.give_back(granted.iter().map(Granted::lease).collect());
                Err(error)
            }
        }
    }

    async fn set_aside(&self, job: JobId, error: &StoreError) -> Result<(), StoreError> {
        tracing::error!(%error, %job, "a task cannot be leased: its job is set aside");
        let aside = sqlx::query(sql::SET_ASIDE).bind(&job.as_bytes()[..]);
        aside.execute(&self.pool).await?;
        Ok(())
    }

    fn turns(&self) -> Turns {
        let turns = self.turns.lock();
        turns.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes back tasks that were granted and cannot be read. Their job is looked at no more, unless
    /// it has lost them meanwhile: then it was ended or deleted, and they were about to go anyway.
    async fn take_back(
        &self,
        unreadable: Vec<(LeaseRef, StoreError)>,
        now: Timestamp,
        claimed: &mut Claimed,
    ) -> Result<(), StoreError> {
        for (lease, error) in unreadable {
            let take_back = || async {
                let mut writing = self.begin(now).await?;
                match writing
                    .task_event(lease, TaskEvent::Release(lease.fence))
                    .await
                {
                    Err(StoreError::Refused(_)) => return Ok(None),
                    released => released?,
                }
                writing.commit().await.map(Some)
            };
            let Some(changes) = self.insist(take_back).await? else {
                continue;
            };
            claimed.changes.append(changes);
            if !error.concerns_one_job() {
                return Err(error);
            }
            self.set_aside(lease.name.job, &error).await?;
        }
        let more = sqlx::query_scalar(sql::ANY_CLAIMABLE);
        claimed.more = more.fetch_one(&self.pool).await?;
        Ok(())
    }
}

impl Writing<'_> {
    async fn grant_tasks(
        &mut self,
        claim: &Claim,
        turns: &mut Turns,
    ) -> Result<Result<Vec<Granted>, Unleasable>, StoreError> {
        let mut granted: Vec<Granted> = Vec::new();
        let mut budget = claim.max_bytes;
        let queued = self.queued_priorities().await?;
        while granted.len() < claim.max_tasks {
            let wait = granted.is_empty();
            let next = self.next_job(turns, &queued, &claim.jobs, wait).await?;
            let Some(Next {
                job,
                priority,
                owner,
            }) = next
            else {
                break;
            };
            let room = (!granted.is_empty()).then_some(budget);
            match self.grant_of(job, claim, room).await {
                Ok(Some((task, bytes))) => {
                    budget = budget.saturating_sub(bytes);
                    granted.push(task);
                    turns.leased(priority, &owner, |other| queued.contains(&other));
                }
                Ok(None) => break,
                Err(error) if error.concerns_one_job() => return Ok(Err((job, error))),
                Err(error) => return Err(error),
            }
        }
        Ok(Ok(granted))
    }

    /// Grants the first queued task of a job, with the bytes that it may read; none if that is more
    /// than there is `room` for.
    async fn grant_of(
        &mut self,
        id: JobId,
        claim: &Claim,
        room: Option<usize>,
    ) -> Result<Option<(Granted, usize)>, StoreError> {
        let head = sqlx::query_as(sql::QUEUE_HEAD).bind(&id.as_bytes()[..]);
        let head: Option<(i64, i64)> = head.fetch_optional(&mut *self.transaction).await?;
        let (stage, slot) = head.ok_or_else(|| corrupt(format!("a queued task of {id}")))?;
        let name = task_at(id, stage, slot)?;
        let job = self.lock_job(id).await?;
        let task = self.find_task(name).await?;
        let task = task.ok_or_else(|| corrupt(format!("the record of {name}")))?;
        let bytes = most_bytes(&job, name.task);
        if room.is_some_and(|room| bytes > room) {
            return Ok(None);
        }
        let grant = Grant {
            fence: Fence {
                lease: LeaseId::generate(),
                attempt: task.attempt.saturating_add(1),
            },
            worker: claim.worker.clone(),
            deadline: self.now.after(claim.ttl),
        };
        // That it is in the queue says that its backoff is over, also where the clock was set back since.
        let now = match task.state {
            TaskState::Waiting { until } => self.now.max(until),
            _ => self.now,
        };
        let event = TaskEvent::Claim(grant.clone());
        let step = self.config.machine.on_task(job.clone(), task, event, now)?;
        let job = self.apply(Some(&job), step).await?;
        let granted = Granted {
            job,
            task: name.task,
            grant,
        };
        Ok(Some((granted, bytes)))
    }
}

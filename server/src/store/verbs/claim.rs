//! Claiming: the head of the queue, task by task, until the worker has enough. Granted under the lock
//! of the writers; what a task reads, which for a reduce is what every map of its stage left, is read
//! without it.

use super::{
    Batch, Claim, Claimed, Engine, Order, StoreError, Writer,
    keys::{self, Table},
};
use crate::{
    clock::Timestamp,
    job::{Fence, Grant, Job, JobId, LeaseId, LeaseRef, Slot, Task, TaskEvent, TaskState},
    store::{
        LeasedTask, RecordStore, Records,
        granted::{Granted, most_bytes},
        records::reader::Reader,
    },
};

impl<E: Engine> RecordStore<E> {
    /// As [`Store::claim`](crate::store::Store::claim).
    pub(super) fn claim_tasks(&self, claim: &Claim, now: Timestamp) -> Result<Claimed, StoreError> {
        let mut claimed = Claimed::default();
        loop {
            let (read, more) = self.write_then(
                |writer| {
                    let now = writer.index.advance(now);
                    writer.changes = std::mem::take(&mut claimed.changes);
                    let granted = writer.grant_tasks(claim, now)?;
                    claimed.changes = std::mem::take(&mut writer.changes);
                    Ok((granted, writer.index.ready.total() > 0))
                },
                |reader, (granted, more)| {
                    let granted = granted.into_iter();
                    let read = granted.map(|task| (task.lease(), leased(reader, task)));
                    (read.collect::<Vec<_>>(), more)
                },
            )?;
            claimed.more = more;
            let mut unreadable = Vec::new();
            for (lease, task) in read {
                match task {
                    Ok(task) => claimed.tasks.push(task),
                    Err(error) => unreadable.push((lease, error)),
                }
            }
            if unreadable.is_empty() {
                return Ok(claimed);
            }
            let changes = &mut claimed.changes;
            claimed.more = self.write_at(now, |writer, now| {
                writer.changes = std::mem::take(changes);
                let taken = writer.take_back(&unreadable, now);
                *changes = std::mem::take(&mut writer.changes);
                taken.map(|()| writer.index.ready.total() > 0)
            })?;
            // What was granted beside it is the worker's; the next claim meets the error first.
            if !claimed.tasks.is_empty() || !claimed.more {
                return Ok(claimed);
            }
        }
    }
}

impl<E: Engine> Writer<'_, E> {
    /// Grants what is at the head of the queue.
    fn grant_tasks(&mut self, claim: &Claim, now: Timestamp) -> Result<Vec<Granted>, StoreError> {
        self.queue_due(now)?;
        let mut granted = Vec::new();
        let mut budget = claim.max_bytes;
        while granted.len() < claim.max_tasks {
            let Some(job) = self.index.ready.head(&claim.jobs) else {
                break;
            };
            let room = (!granted.is_empty()).then_some(budget);
            match self.grant_of(job, claim, room, now) {
                Ok(Some((task, bytes))) => {
                    budget = budget.saturating_sub(bytes);
                    granted.push(task);
                }
                Ok(None) => break,
                // At the head of the queue it would keep everything behind it from every worker.
                Err(error) if error.concerns_one_job() => self.set_aside(job, &error),
                // What was granted before it is the worker's; the next claim meets the error first.
                Err(error) if !granted.is_empty() => {
                    tracing::error!(%error, "a claim ended early");
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(granted)
    }

    /// Grants the first queued task of a job, with the bytes that it may read; none if that is more
    /// than there is `room` for.
    fn grant_of(
        &mut self,
        job: JobId,
        claim: &Claim,
        room: Option<usize>,
        now: Timestamp,
    ) -> Result<Option<(Granted, usize)>, StoreError> {
        let queue = Table::Queue.of_job(job);
        let head = self.reader.records.scan(queue, Order::Ascending, 1)?;
        let (key, _) = head
            .first()
            .ok_or_else(|| StoreError::Corrupt(format!("a queued task of {job} is missing")))?;
        let name = keys::parse_task(key)
            .ok_or_else(|| StoreError::Corrupt("a queue key names no task".into()))?;
        let task = self.reader.task(name)?;
        let task = task.ok_or_else(|| StoreError::Corrupt(format!("{name} has no record")))?;
        let job = self.reader.job(name.job)?;
        let bytes = most_bytes(&job, name.task);
        if room.is_some_and(|room| bytes > room) {
            return Ok(None);
        }
        Ok(Some((self.grant(job, task, claim, now)?, bytes)))
    }

    fn grant(
        &mut self,
        job: Job,
        task: Task,
        claim: &Claim,
        now: Timestamp,
    ) -> Result<Granted, StoreError> {
        let grant = Grant {
            fence: Fence {
                lease: LeaseId::generate(),
                attempt: task.attempt.saturating_add(1),
            },
            worker: claim.worker.clone(),
            deadline: now.after(claim.ttl),
        };
        // That it is in the queue says that its backoff is over, also where the clock was set back since.
        let now = match task.state {
            TaskState::Waiting { until } => now.max(until),
            _ => now,
        };
        let id = task.id;
        let event = TaskEvent::Claim(grant.clone());
        let step = self.config.machine.on_task(job, task, event, now)?;
        let job = self.apply(step, Batch::default())?;
        Ok(Granted {
            job,
            task: id,
            grant,
        })
    }

    /// Takes back tasks that were granted and cannot be read. Their job is looked at no more, unless
    /// it has lost them meanwhile: then it was ended or deleted, and they were about to go anyway.
    fn take_back(
        &mut self,
        unreadable: &[(LeaseRef, StoreError)],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut failed = Ok(());
        for (lease, error) in unreadable {
            match self.task_event(*lease, TaskEvent::Release(lease.fence), now) {
                Err(StoreError::Refused(_)) => continue,
                released => released?,
            }
            if error.concerns_one_job() {
                self.set_aside(lease.name.job, error);
            } else {
                failed = Err(StoreError::Failed(error.to_string()));
            }
        }
        failed
    }

    fn set_aside(&mut self, job: JobId, error: &StoreError) {
        tracing::error!(%error, %job, "a task cannot be leased: its job is set aside");
        self.index.ready.set_aside(job);
    }
}

/// Reads what the worker is given. The records of a leased task do not change; they go with their job.
fn leased<R: Records>(reader: &Reader<'_, R>, granted: Granted) -> Result<LeasedTask, StoreError> {
    let Granted {
        mut job,
        task,
        grant,
    } = granted;
    if job.spec.is_none() {
        job.spec = Some((&reader.spec(job.id)?).into());
    }
    let inputs = match task.slot {
        Slot::Map(_) => Vec::new(),
        Slot::Reduce => reader.map_results(&job, task.stage)?,
    };
    let payload = reader.payload(job.task_name(task))?;
    Ok(LeasedTask {
        job,
        task,
        grant,
        payload,
        inputs,
    })
}

//! Claiming: the head of the queue, task by task, until the worker has enough.

use dual16_proto::v1;
use prost::Message as _;

use super::{
    Batch, Claim, Claimed, Engine, Order, StoreError, Writer,
    keys::{self, Table},
};
use crate::{
    clock::Timestamp,
    job::{Fence, Grant, JobId, LeaseId, Slot, Task, TaskEvent, TaskName, TaskState},
    store::{LeasedTask, Records as _},
};

impl<E: Engine> Writer<'_, E> {
    pub(super) fn claim(&mut self, claim: &Claim, now: Timestamp) -> Result<Claimed, StoreError> {
        self.queue_due(now)?;
        let mut claimed = Claimed::default();
        let mut budget = claim.max_bytes;
        while claimed.tasks.len() < claim.max_tasks {
            let Some(job) = self.index.ready.head() else {
                break;
            };
            match self.claim_of(job, claim, claimed.tasks.last(), budget, now) {
                Ok(Some((leased, bytes))) => {
                    budget = budget.saturating_sub(bytes);
                    claimed.tasks.push(leased);
                }
                Ok(None) => break,
                // At the head of the queue it would keep everything behind it from every worker.
                Err(error) if error.concerns_one_job() => {
                    tracing::error!(%error, %job, "a task cannot be leased: its job is set aside");
                    self.index.ready.set_aside(job);
                }
                // What was granted before it is the worker's; the next claim meets the error first.
                Err(error) if !claimed.tasks.is_empty() => {
                    tracing::error!(%error, "a claim ended early");
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        claimed.more = self.index.ready.total() > 0;
        claimed.changes = std::mem::take(&mut self.changes);
        Ok(claimed)
    }

    /// Grants the first queued task of a job, with its size in bytes; none if it comes after a `previous`
    /// one and is larger than `budget`.
    fn claim_of(
        &mut self,
        job: JobId,
        claim: &Claim,
        previous: Option<&LeasedTask>,
        budget: usize,
        now: Timestamp,
    ) -> Result<Option<(LeasedTask, usize)>, StoreError> {
        let queue = Table::Queue.of_job(job);
        let head = self.reader.records.scan(queue, Order::Ascending, 1)?;
        let (key, _) = head
            .first()
            .ok_or_else(|| StoreError::Corrupt(format!("a queued task of {job} is missing")))?;
        let name = keys::parse_task(key)
            .ok_or_else(|| StoreError::Corrupt("a queue key names no task".into()))?;
        // The tasks at the head are mostly of one job: its spec is read once.
        let spec = match previous {
            Some(previous) if previous.job.id == name.job => previous.spec.clone(),
            _ => self.reader.spec(name.job)?,
        };
        let task = self.reader.task(name)?;
        let task = task.ok_or_else(|| StoreError::Corrupt(format!("{name} has no record")))?;
        let leased = self.prepare(name, &task, claim, spec, now)?;
        let bytes = size(&leased);
        if previous.is_some() && bytes > budget {
            return Ok(None);
        }
        Ok(Some((self.grant(task, leased, now)?, bytes)))
    }

    /// Reads what the worker would be given; nothing is granted yet.
    fn prepare(
        &self,
        name: TaskName,
        task: &Task,
        claim: &Claim,
        spec: v1::JobSpec,
        now: Timestamp,
    ) -> Result<LeasedTask, StoreError> {
        let job = self.reader.job(name.job)?;
        let fence = Fence {
            lease: LeaseId::generate(),
            attempt: task.attempt.saturating_add(1),
        };
        let grant = Grant {
            fence,
            worker: claim.worker.clone(),
            deadline: now.after(claim.ttl),
        };
        let inputs = match name.task.slot {
            Slot::Map(_) => Vec::new(),
            Slot::Reduce => self.reader.map_results(&job, name.task.stage)?,
        };
        let payload = self.reader.payload(name)?;
        Ok(LeasedTask {
            job,
            spec,
            task: name.task,
            grant,
            payload,
            inputs,
        })
    }

    fn grant(
        &mut self,
        task: Task,
        leased: LeasedTask,
        now: Timestamp,
    ) -> Result<LeasedTask, StoreError> {
        // That it is in the queue says that its backoff is over, also where the clock was set back since.
        let now = match task.state {
            TaskState::Waiting { until } => now.max(until),
            _ => now,
        };
        let event = TaskEvent::Claim(leased.grant.clone());
        let step = self.config.machine.on_task(leased.job, task, event, now)?;
        let job = self.apply(step, Batch::default())?;
        Ok(LeasedTask { job, ..leased })
    }
}

fn size(leased: &LeasedTask) -> usize {
    let inputs: usize = leased
        .inputs
        .iter()
        .map(|input| input.encoded_len() + 8)
        .sum();
    leased.spec.encoded_len() + leased.payload.encoded_len() + inputs
}

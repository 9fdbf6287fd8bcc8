//! The transitions. Each takes what is stored and the event, and answers with a [`Step`] or with
//! a [`Refusal`] that changes nothing.
//!
//! A task event needs the job and that task only, a job event the tasks of the current stage:
//! the cost of a transition does not grow with the job. That works because an ended job voids its
//! tasks by its phase alone; their records are brought up to date when it is retried.

use std::time::Duration;

use dual16_proto::v1::{self, event_detail::Detail};

use super::{
    Backoff, Completion, Effect, Failure, FailureReport, Fence, Grant, Job, JobError, JobEvent,
    NewJob, Next, Phase, PlannedStage, Slot, Stage, State, Step, Task, TaskEvent, TaskId, TaskName,
    TaskState,
};
use crate::clock::Timestamp;

/// How long after its deadline a job with a running task is left to the worker, which ends it by itself and
/// knows where it was.
pub const DEADLINE_GRACE: Duration = Duration::from_secs(30);

/// The state machine's rules.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// Failed attempts of one task that end its job, from 1.
    pub max_attempts: u32,
    /// Stages of one job, the plan included. A reduce that always names another stage must end too.
    pub max_stages: u32,
    /// Waits between the attempts of one task.
    pub backoff: Backoff,
}

/// Why an event changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The worker's grant is not, or no longer, the task's.
    #[error("the lease of {0} is lost: the job ended, or the task went to another worker")]
    LeaseLost(TaskName),
    /// The task cannot be leased now.
    #[error("{0} cannot be leased now")]
    NotClaimable(TaskName),
    /// A reduce must say what follows.
    #[error("{0} is a reduce: its result must name the next stage or finish the job")]
    NextMissing(TaskName),
    /// A map cannot say what follows.
    #[error("{0} is a map: only a reduce names the next stage or finishes the job")]
    NextUnexpected(TaskName),
    /// The job has as many stages as it may.
    #[error("{job} already has {max} stages, the most a job may have")]
    TooManyStages {
        /// The job.
        job: super::JobId,
        /// The limit.
        max: u32,
    },
    /// Only jobs that failed or were cancelled can be retried.
    #[error("{job} is {}: only a failed or cancelled job can be retried", .state.name())]
    NotRetryable {
        /// The job.
        job: super::JobId,
        /// Where it stands.
        state: State,
    },
}

impl Machine {
    /// A new job, with its plan stage queued.
    pub fn create(&self, new: NewJob, now: Timestamp) -> Step {
        let NewJob {
            id,
            owner,
            priority,
            display_name,
            spec_digest,
            request_id,
            blobs,
            trace,
        } = new;
        let job = Job {
            id,
            owner,
            priority,
            display_name,
            spec_digest,
            spec: None,
            request_id,
            trace,
            created: now,
            started: None,
            retried: None,
            stages: Vec::new(),
            phase: Phase::Pending,
            bytes: 0,
            last_sequence: 0,
        };
        let mut step = Step::new(job, now);
        step.refer(blobs);
        step.enter(Phase::Pending);
        step.start_stage(PlannedStage::plan());
        step
    }

    /// Applies what happened to `task`.
    pub fn on_task(
        &self,
        job: Job,
        task: Task,
        event: TaskEvent,
        now: Timestamp,
    ) -> Result<Step, Refusal> {
        let step = Step::new(job, now);
        match event {
            TaskEvent::Claim(grant) => claim(step, task, grant, now),
            TaskEvent::Complete(fence, completion) => {
                self.complete(step, task, fence, completion, now)
            }
            TaskEvent::Fail(fence, report) => {
                self.fail(step, task, fence, Cause::Reported(report), now)
            }
            TaskEvent::Expire(fence) => self.fail(step, task, fence, Cause::LeaseRanOut, now),
            TaskEvent::Release(fence) => release(step, task, fence),
        }
    }

    /// Applies what happened to the whole job. `current` holds the tasks of its last stage.
    pub fn on_job(
        &self,
        job: Job,
        current: Vec<Task>,
        event: JobEvent,
        now: Timestamp,
    ) -> Result<Step, Refusal> {
        let mut step = Step::new(job, now);
        match event {
            JobEvent::Cancel => {
                if step.job.phase.ended().is_none() {
                    step.enter(Phase::Cancelled { ended: now });
                }
                Ok(step)
            }
            JobEvent::Retry => retry(step, current, now),
            JobEvent::Expire => Ok(expire(step, now)),
        }
    }

    fn complete(
        &self,
        mut step: Step,
        mut task: Task,
        fence: Fence,
        completion: Completion,
        now: Timestamp,
    ) -> Result<Step, Refusal> {
        if task.state == TaskState::Done(fence) {
            return Ok(step);
        }
        let name = step.job.task_name(task.id);
        end_grant(&mut step, &task, fence)?;
        let Completion {
            result,
            blobs,
            details,
            next,
        } = completion;
        let next = match (task.id.slot, next) {
            (Slot::Map(_), None) => None,
            (Slot::Map(_), Some(_)) => return Err(Refusal::NextUnexpected(name)),
            (Slot::Reduce, None) => return Err(Refusal::NextMissing(name)),
            (Slot::Reduce, Some(next)) => Some(next),
        };
        let stages = step.job.stages.len();
        if matches!(next, Some(Next::Stage(_))) && stages >= self.max_stages as usize {
            return Err(Refusal::TooManyStages {
                job: step.job.id,
                max: self.max_stages,
            });
        }

        task.state = TaskState::Done(fence);
        step.push(Effect::SaveResult(task.id, result));
        step.refer(blobs);
        details
            .into_iter()
            .for_each(|detail| step.emit_opaque(detail));
        let stage = stage_mut(&mut step.job, name)?;
        match task.id.slot {
            Slot::Map(_) => stage.maps_done += 1,
            Slot::Reduce => stage.reduce_done = true,
        }
        let reduce_can_run = stage.maps_are_done() && !stage.reduce_done;
        let done = v1::TaskDone {
            stage: stage.name.clone(),
            done: stage.done(),
            tasks: stage.tasks(),
        };
        step.emit(Detail::TaskDone(done));
        if reduce_can_run {
            step.push(Effect::Enqueue(TaskId {
                stage: task.id.stage,
                slot: Slot::Reduce,
            }));
        }
        step.tasks.push(task);
        match next {
            None => {}
            Some(Next::Stage(planned)) => step.start_stage(planned),
            Some(Next::Finish(artifacts)) => {
                step.enter(Phase::Succeeded {
                    ended: now,
                    artifacts,
                });
            }
        }
        Ok(step)
    }

    fn fail(
        &self,
        mut step: Step,
        mut task: Task,
        fence: Fence,
        cause: Cause,
        now: Timestamp,
    ) -> Result<Step, Refusal> {
        let name = step.job.task_name(task.id);
        let worker = end_grant(&mut step, &task, fence)?.worker;
        let FailureReport {
            code,
            message,
            permanent,
        } = cause.into();
        task.failed(Failure {
            attempt: fence.attempt,
            worker,
            message,
            time: now,
        });
        let tried = task.tried();
        // As it was cut.
        let message = task.failures.last().map(|last| last.message.clone());
        let message = message.unwrap_or_default();
        let exhausted = tried >= self.max_attempts as usize;
        if !permanent && !exhausted {
            let error = task.failures.last().map(v1::AttemptError::from);
            step.emit(Detail::TaskRetried(v1::TaskRetried {
                task: name.to_string(),
                error,
            }));
            let delay = self.backoff.delay(name, tried);
            if delay.is_zero() {
                requeue(&mut step, task);
            } else {
                put_off(&mut step, task, now.after(delay));
            }
            return Ok(step);
        }

        let (code, message) = if permanent {
            (code, message)
        } else {
            let message = format!("{name} failed {tried} times; the last time: {message}");
            ("ATTEMPTS_EXHAUSTED".into(), message)
        };
        let attempts = task.failures.clone();
        task.state = TaskState::Failed;
        step.tasks.push(task);
        let error = JobError {
            code,
            message,
            task: name.to_string(),
            attempts,
        };
        step.enter(Phase::Failed { ended: now, error });
        Ok(step)
    }
}

fn claim(mut step: Step, mut task: Task, grant: Grant, now: Timestamp) -> Result<Step, Refusal> {
    let name = step.job.task_name(task.id);
    let not_claimable = Refusal::NotClaimable(name);
    if step.job.phase.ended().is_some() || !task.is_due(now) || grant.fence.attempt <= task.attempt
    {
        return Err(not_claimable);
    }
    let stage = stage_mut(&mut step.job, name)?;
    if task.id.slot == Slot::Reduce && !stage.maps_are_done() {
        return Err(not_claimable);
    }
    stage.running += 1;
    step.job.started.get_or_insert(now);
    task.attempt = grant.fence.attempt;
    step.push(Effect::Lease(task.id, grant.clone()));
    task.state = TaskState::Leased(grant);
    step.tasks.push(task);
    if step.job.phase == Phase::Pending {
        step.enter(Phase::Running);
    }
    Ok(step)
}

fn release(mut step: Step, task: Task, fence: Fence) -> Result<Step, Refusal> {
    end_grant(&mut step, &task, fence)?;
    requeue(&mut step, task);
    Ok(step)
}

fn expire(mut step: Step, now: Timestamp) -> Step {
    let running = step.job.stages.iter().any(|stage| stage.running > 0);
    let (grace, why) = match running {
        true => (DEADLINE_GRACE, "its worker did not end it"),
        false => (Duration::ZERO, "no worker was at it"),
    };
    let deadline = step.job.deadline();
    if deadline.is_some_and(|deadline| deadline.after(grace) <= now) {
        let error = JobError {
            code: "DEADLINE_EXCEEDED".into(),
            message: format!("the job has a deadline, which is over; {why}"),
            task: String::new(),
            attempts: Vec::new(),
        };
        step.enter(Phase::Failed { ended: now, error });
    }
    step
}

fn retry(mut step: Step, current: Vec<Task>, now: Timestamp) -> Result<Step, Refusal> {
    let state = step.job.phase.state();
    if !matches!(state, State::Failed | State::Cancelled) {
        return Err(Refusal::NotRetryable {
            job: step.job.id,
            state,
        });
    }
    // A deadline counts anew.
    step.job.retried = Some(now);
    step.job.started = None;
    step.enter(Phase::Running);
    let maps_are_done = step.job.stages.last().is_some_and(Stage::maps_are_done);
    for mut task in current.into_iter().filter(|task| !task.is_done()) {
        task.forget_failures();
        task.state = TaskState::Pending;
        if maps_are_done || task.id.slot != Slot::Reduce {
            step.push(Effect::Enqueue(task.id));
        }
        step.tasks.push(task);
    }
    Ok(step)
}

/// Ends the grant that `fence` proves; refused unless it holds the task of a live job.
fn end_grant(step: &mut Step, task: &Task, fence: Fence) -> Result<Grant, Refusal> {
    let name = step.job.task_name(task.id);
    let held = task.grant().filter(|grant| grant.fence == fence);
    let (None, Some(grant)) = (step.job.phase.ended(), held) else {
        return Err(Refusal::LeaseLost(name));
    };
    let stage = stage_mut(&mut step.job, name)?;
    stage.running = stage.running.saturating_sub(1);
    step.push(Effect::Unlease(task.id, fence));
    Ok(grant.clone())
}

fn requeue(step: &mut Step, mut task: Task) {
    task.state = TaskState::Pending;
    step.push(Effect::Enqueue(task.id));
    step.tasks.push(task);
}

fn put_off(step: &mut Step, mut task: Task, until: Timestamp) {
    task.state = TaskState::Waiting { until };
    step.push(Effect::EnqueueAt(task.id, until));
    step.tasks.push(task);
}

fn stage_mut(job: &mut Job, name: TaskName) -> Result<&mut Stage, Refusal> {
    job.stages
        .get_mut(name.task.stage as usize)
        .ok_or(Refusal::NotClaimable(name))
}

/// Why an attempt is over without a result.
enum Cause {
    /// The worker handed in an error.
    Reported(FailureReport),
    /// The worker fell silent.
    LeaseRanOut,
}

impl From<Cause> for FailureReport {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::Reported(report) => report,
            Cause::LeaseRanOut => Self {
                code: "LEASE_EXPIRED".into(),
                message: "the lease ran out: the worker sent neither a heartbeat nor a result"
                    .into(),
                permanent: false,
            },
        }
    }
}

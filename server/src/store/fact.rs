//! What a verb did, for those who count: told after the commit, read off its effects.

use dual16_proto::v1::event_detail::Detail;

use crate::job::{Effect, Job, JobId, Phase, State, TaskName};

/// One thing that has happened for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// A job is in this state from now on.
    Entered(JobId, State),
    /// A job failed because a task used up its attempts, not because its input was wrong.
    DeadLetter,
    /// A job goes on with the stage of this name.
    StageStarted(JobId, String),
    /// A worker has this task, of the stage of this name.
    Leased(TaskName, String),
    /// The worker no longer has it, and it is not done.
    Unleased(TaskName),
    /// A task is done.
    Completed(TaskName),
    /// An attempt failed and another one will follow.
    Retried,
}

/// The facts of one committed step; `job` is the job after it.
pub(super) fn of(job: &Job, effects: &[Effect]) -> Vec<Fact> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Emit(event) => told(job, event.detail.as_ref()?.detail.as_ref()?),
            Effect::Lease(task, _) => {
                let stage = job.stages.get(task.stage as usize);
                let stage = stage.map(|stage| stage.name.clone()).unwrap_or_default();
                Some(Fact::Leased(job.task_name(*task), stage))
            }
            Effect::Unlease(task, _) => {
                let done = |effect: &Effect| {
                    matches!(effect, Effect::SaveResult(saved, _) if saved == task)
                };
                let gone = !effects.iter().any(done);
                gone.then(|| Fact::Unleased(job.task_name(*task)))
            }
            Effect::SaveResult(task, _) => Some(Fact::Completed(job.task_name(*task))),
            Effect::SavePayload(..)
            | Effect::Refer(_)
            | Effect::Enqueue(_)
            | Effect::EnqueueAt(..) => None,
            Effect::ClearJob => match &job.phase {
                Phase::Failed { error, .. } if error.code == "ATTEMPTS_EXHAUSTED" => {
                    Some(Fact::DeadLetter)
                }
                _ => None,
            },
        })
        .collect()
}

fn told(job: &Job, detail: &Detail) -> Option<Fact> {
    match detail {
        // A step enters at most one phase, and the job carries it.
        Detail::StateChanged(_) => Some(Fact::Entered(job.id, job.phase.state())),
        Detail::StageStarted(started) => Some(Fact::StageStarted(job.id, started.stage.clone())),
        Detail::TaskRetried(_) => Some(Fact::Retried),
        _ => None,
    }
}

//! What a verb did, for those who count: told after the commit, read off its effects.

use std::time::Duration;

use dual16_proto::v1::event_detail::Detail;

use crate::job::{Effect, Job, JobId, Phase, State, TaskName};

/// One thing that has happened for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transition {
    /// A job is in this state from now on.
    Entered(JobId, State),
    /// A job failed because a task used up its attempts, not because its input was wrong.
    DeadLetter,
    /// A job goes on with the stage of this name.
    StageStarted(JobId, String),
    /// A worker has a task.
    Leased,
    /// A task of the stage of this name is done, so long after it was leased.
    Completed(String, Duration),
    /// An attempt failed and another one will follow.
    Retried,
}

/// The transitions of one committed step; `job` is the job after it, `held_for` the age of a lease that was
/// in force before it.
pub(super) fn of(
    job: &Job,
    effects: &[Effect],
    held_for: impl Fn(TaskName) -> Option<Duration>,
) -> Vec<Transition> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Emit(event) => of_event(job, event.detail.as_ref()?.detail.as_ref()?),
            Effect::Lease(..) => Some(Transition::Leased),
            Effect::SaveResult(task, _) => {
                let stage = job.stages.get(task.stage as usize);
                let stage = stage.map(|stage| stage.name.clone()).unwrap_or_default();
                let took = held_for(job.task_name(*task)).unwrap_or_default();
                Some(Transition::Completed(stage, took))
            }
            Effect::Unlease(..)
            | Effect::SavePayload(..)
            | Effect::Refer(_)
            | Effect::Enqueue(_)
            | Effect::EnqueueAt(..) => None,
            Effect::ClearJob => match &job.phase {
                Phase::Failed { error, .. } if error.code == "ATTEMPTS_EXHAUSTED" => {
                    Some(Transition::DeadLetter)
                }
                _ => None,
            },
        })
        .collect()
}

fn of_event(job: &Job, detail: &Detail) -> Option<Transition> {
    match detail {
        // A step enters at most one phase, and the job carries it.
        Detail::StateChanged(_) => Some(Transition::Entered(job.id, job.phase.state())),
        Detail::StageStarted(started) => {
            Some(Transition::StageStarted(job.id, started.stage.clone()))
        }
        Detail::TaskRetried(_) => Some(Transition::Retried),
        _ => None,
    }
}

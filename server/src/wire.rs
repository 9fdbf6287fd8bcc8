//! From the server's own types to the messages of the API. One direction only: what comes in is
//! read, and judged, by `rpc::validate`.

use dual16_proto::v1;
use dual16_telemetry::trace::trace_id;

use crate::{
    job::{Artifact, Failure, Job, JobError, Phase, Priority, Stage, State},
    limits::Limits,
};

impl From<State> for v1::JobState {
    fn from(state: State) -> Self {
        match state {
            State::Pending => Self::Pending,
            State::Running => Self::Running,
            State::Succeeded => Self::Succeeded,
            State::Failed => Self::Failed,
            State::Cancelled => Self::Cancelled,
        }
    }
}

impl From<Priority> for v1::Priority {
    fn from(priority: Priority) -> Self {
        match priority {
            Priority::Low => Self::Low,
            Priority::Normal => Self::Normal,
            Priority::High => Self::High,
        }
    }
}

impl From<&Phase> for v1::StateChanged {
    fn from(phase: &Phase) -> Self {
        Self {
            state: v1::JobState::from(phase.state()).into(),
            error: error(phase),
            artifacts: artifacts(phase),
        }
    }
}

impl From<&Artifact> for v1::Artifact {
    fn from(artifact: &Artifact) -> Self {
        Self {
            name: artifact.name.clone(),
            digest: artifact.digest.to_string(),
            size: artifact.size,
        }
    }
}

impl From<&Failure> for v1::AttemptError {
    fn from(failure: &Failure) -> Self {
        Self {
            attempt: failure.attempt,
            worker: failure.worker.clone(),
            message: failure.message.clone(),
            time: Some(failure.time.into()),
        }
    }
}

impl From<&JobError> for v1::JobError {
    fn from(error: &JobError) -> Self {
        Self {
            code: error.code.clone(),
            message: error.message.clone(),
            task: error.task.clone(),
            attempts: error.attempts.iter().map(Into::into).collect(),
        }
    }
}

impl From<&Stage> for v1::StageProgress {
    fn from(stage: &Stage) -> Self {
        Self {
            stage: stage.name.clone(),
            tasks: stage.tasks(),
            done: stage.done(),
            running: stage.running,
        }
    }
}

impl From<&Limits> for v1::InputLimits {
    /// Those that are for the workers to keep: the server reads no model and no batch.
    fn from(limits: &Limits) -> Self {
        Self {
            model_nodes: Some(limits.model_nodes),
            file_tensors: Some(limits.file_tensors),
            tensor_name_bytes: Some(limits.tensor_name_bytes),
            graph_nesting: Some(limits.graph_nesting),
            unpacked_bytes: Some(limits.unpacked_bytes),
        }
    }
}

/// The job as the API shows it.
pub(crate) fn job(job: Job, spec: v1::JobSpec) -> v1::Job {
    v1::Job {
        name: job.id.to_string(),
        spec: Some(spec),
        spec_digest: job.spec_digest.to_string(),
        state: v1::JobState::from(job.phase.state()).into(),
        create_time: Some(job.created.into()),
        start_time: job.started.map(Into::into),
        end_time: job.phase.ended().map(Into::into),
        stages: job.stages.iter().map(Into::into).collect(),
        error: error(&job.phase),
        artifacts: artifacts(&job.phase),
        last_sequence: job.last_sequence,
        display_name: job.display_name,
        owner: job.owner.into(),
        priority: v1::Priority::from(job.priority).into(),
        trace_id: job.trace.as_deref().and_then(trace_id).unwrap_or_default(),
    }
}

fn error(phase: &Phase) -> Option<v1::JobError> {
    match phase {
        Phase::Failed { error, .. } => Some(error.into()),
        _ => None,
    }
}

fn artifacts(phase: &Phase) -> Vec<v1::Artifact> {
    match phase {
        Phase::Succeeded { artifacts, .. } => artifacts.iter().map(Into::into).collect(),
        _ => Vec::new(),
    }
}

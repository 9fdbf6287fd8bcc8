//! The life of a job as a pure state machine: no I/O, no clock, no randomness.
//!
//! A job is a chain of stages; a stage is map tasks in parallel and then one reduce, which names
//! the next stage or finishes the job. The [`Machine`] takes what is stored, an event and the
//! time, and answers with what is to be stored and the [`Effect`]s on the indexes beside it. Which
//! database holds them, who calls and what the payloads mean, this module must not know.

mod backoff;
mod event;
mod id;
mod machine;
mod priority;
mod record;
mod step;
mod task;

pub use backoff::Backoff;
pub use event::{Completion, FailureReport, JobEvent, Next, PlannedStage, TaskEvent};
pub use id::{JobId, LeaseId, LeaseRef, Slot, TaskId, TaskName};
pub use machine::{DEADLINE_GRACE, Machine, Refusal};
pub use priority::Priority;
pub use record::{
    Artifact, BlobRef, Failure, Job, JobError, NewJob, Phase, SpecFacts, Stage, State,
};
pub use step::{Effect, Step};
pub use task::{FAILURES_BYTES, Fence, Grant, Task, TaskState};

#[cfg(test)]
mod model_check;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod reference_store;

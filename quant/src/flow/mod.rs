//! A job cut into tasks. A stage is map tasks that run anywhere in any order, then one reduce that
//! folds their results in map order and names what comes next:
//!
//! ```text
//! plan -> observe (batches) -> evaluate (groups of layers) -> validate (batches) -> convert (layers)
//! ```
//!
//! A task is a pure function of its payload, its inputs and the job's blobs, so a job's artifacts
//! do not depend on the number of workers, on order, on retries or on kills. This module knows
//! nothing of queues and leases: whoever runs the tasks hands in a [`Blobs`] and a [`Control`].

mod convert;
mod evaluate;
mod observe;
mod payload;
mod plan;
mod session;
mod validate;

pub use crate::{
    blobs::Blobs,
    job::{FileRef, JobInput, ModelInput},
    report::{Event, LayerAccumulated, LayerMeasured, Notice, OutputMeasured, WayMeasured},
    ways::isolated::KernelRun,
};

use session::Session;

use crate::{Error, Result};

/// What a running task asks of its surroundings.
pub trait Control: Send + Sync {
    /// True once the task should stop; asked between batches and layers.
    fn cancelled(&self) -> bool;

    /// Told of each run of a way's kernels while layers are measured.
    fn kernel_ran(&self, _run: &KernelRun) {}
}

/// Which part of a stage a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// One of the independent parts.
    Map,
    /// The fold over the results of the maps.
    Reduce,
}

/// One task, as leased.
#[derive(Debug)]
pub struct TaskInput<'a> {
    /// The job it belongs to.
    pub job: &'a JobInput,
    /// Stage name: "plan", "observe", "evaluate", "validate", "convert".
    pub stage: &'a str,
    /// Map or reduce.
    pub part: Part,
    /// What the stage's creator wrote for this task.
    pub payload: &'a [u8],
    /// Reduce: results of the maps, in map order.
    pub inputs: &'a [Vec<u8>],
}

/// What a finished task hands in.
#[derive(Debug, Default)]
pub struct TaskOutput {
    /// For the reduce (maps), or nothing.
    pub result: Vec<u8>,
    /// To append to the job's events, in order.
    pub events: Vec<Event>,
    /// Reduce only: what comes next.
    pub next: Option<Next>,
}

/// What a reduce decides.
#[derive(Debug)]
pub enum Next {
    /// Another stage.
    Stage(Stage),
    /// The job is done; these are its files.
    Finish(Vec<FileRef>),
}

/// A stage to start.
#[derive(Debug)]
pub struct Stage {
    /// Name, shown to people.
    pub name: &'static str,
    /// One payload a map task.
    pub maps: Vec<Vec<u8>>,
    /// Payload of the reduce.
    pub reduce: Vec<u8>,
}

/// Runs one task. Cancellation shows as [`Error::Cancelled`].
///
/// # Errors
/// Bad input, named; a stage this version does not know.
pub fn run(task: &TaskInput<'_>, blobs: &dyn Blobs, control: &dyn Control) -> Result<TaskOutput> {
    let session = Session::of(task.job, blobs)?;
    let session = session.as_ref();
    match (task.stage, task.part) {
        ("plan", Part::Reduce) => plan::reduce(session, blobs),
        ("observe", Part::Map) => observe::map(session, task, blobs, control),
        ("observe", Part::Reduce) => observe::reduce(session, task, blobs),
        ("evaluate", Part::Map) => evaluate::map(session, task, blobs, control),
        ("evaluate", Part::Reduce) => evaluate::reduce(session, task, blobs),
        ("validate", Part::Map) => validate::map(session, task, blobs, control),
        ("validate", Part::Reduce) => validate::reduce(session, task, blobs),
        ("convert", Part::Map) => convert::map(session, task, blobs),
        ("convert", Part::Reduce) => convert::reduce(session, task, blobs),
        (stage, part) => Err(Error::Payload {
            what: "stage",
            reason: format!("there is no {part:?} task of a stage '{stage}'"),
        }),
    }
}

//! A job cut into tasks. A stage is map tasks that run anywhere in any order, then one reduce that
//! folds their results in map order and names what comes next:
//!
//! ```text
//! plan -> observe (batches) -> evaluate (groups of layers) -> validate (batches) -> convert (layers)
//!                                                                |       ^
//!                       fit (layers) -> observe remedies -> mend (batches), again and again
//! ```
//!
//! A task is a pure function of its payload, its inputs and the job's blobs, so a job's artifacts
//! do not depend on the number of workers, on order, on retries or on kills. This module knows
//! nothing of queues and leases: whoever runs the tasks hands in a [`Blobs`] and a [`Control`].

mod analyze;
mod choice;
mod convert;
mod evaluate;
mod files;
mod fits;
mod float_share;
mod footprint;
mod left_out;
mod mend;
mod observe;
mod offers;
pub(crate) mod operators;
mod payload;
mod plan;
mod run;
mod session;
mod sessions;
mod trouble;
mod validate;
mod variants;
mod wants;

pub use crate::{
    blobs::Blobs,
    job::{FileRef, JobInput, ModelInput},
    report::{
        Event, LayerAccumulated, LayerMeasured, MendStep, Notice, OperatorMeasured, OutputMeasured,
        SensitivityMeasured, WayFitted, WayMeasured,
    },
    ways::isolated::KernelRun,
};

use std::sync::Arc;

pub(crate) use variants::{Change, Mended};

pub use run::run;

use session::Session;
use sessions::Sessions;

use crate::{
    Error, Result,
    memory::{MemoryBudget, Reservation},
};

/// What a running task asks of its surroundings.
pub trait Control: Send + Sync {
    /// True once the task should stop; asked between batches and layers, and while a model is loaded.
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
    /// Stage name: "plan", "observe", "evaluate", "fit", "mend", "validate", "convert".
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

/// Runs tasks, several at once. Keeps the last jobs' models, so that their tasks share them, and
/// holds all of them to one memory budget.
pub struct Executor {
    sessions: Sessions,
    memory: Arc<MemoryBudget>,
}

impl Executor {
    /// An executor whose tasks together stay within `memory`.
    pub fn new(memory: Arc<MemoryBudget>) -> Self {
        Self {
            sessions: Sessions::default(),
            memory,
        }
    }

    /// Runs one task. Cancellation shows as [`Error::Cancelled`].
    ///
    /// # Errors
    /// Bad input, named; a stage this version does not know; [`Error::Memory`] where the task
    /// cannot be cut to fit.
    pub fn run(
        &self,
        task: &TaskInput<'_>,
        blobs: &dyn Blobs,
        control: &dyn Control,
    ) -> Result<TaskOutput> {
        let session = self.sessions.of(task.job, blobs, &self.memory, control)?;
        let session = session.as_ref();
        let context = &Context {
            executor: self,
            blobs,
            control,
        };
        // A reduce's inputs are small beside any batch, but there is one for each map.
        let _held = match task.part {
            Part::Reduce if !task.inputs.is_empty() => {
                let what = format!("folding the results of {}", task.stage);
                Some(context.reserve(session, &what, footprint::decoded(task.inputs))?)
            }
            _ => None,
        };
        match (task.stage, task.part) {
            ("plan", Part::Reduce) => plan::reduce(session, blobs),
            ("observe", Part::Map) => observe::map(session, task, context),
            ("observe", Part::Reduce) => observe::reduce(session, task, blobs),
            ("evaluate", Part::Map) => evaluate::map(session, task, context),
            ("evaluate", Part::Reduce) => evaluate::reduce(session, task, blobs),
            ("estimate", Part::Map) => analyze::estimate_map(session, task, context),
            ("estimate", Part::Reduce) => analyze::estimate_reduce(session, task, blobs),
            ("analyze", Part::Map) => analyze::exact_map(session, task, context),
            ("analyze", Part::Reduce) => analyze::exact_reduce(session, task, blobs),
            ("cumulative", Part::Map) => analyze::cumulative_map(session, task, context),
            ("cumulative", Part::Reduce) => analyze::cumulative_reduce(session, task, blobs),
            ("fit", Part::Map) => offers::map(session, task, context),
            ("fit", Part::Reduce) => offers::reduce(session, task, blobs),
            ("mend", Part::Map) => mend::map(session, task, context),
            ("mend", Part::Reduce) => mend::reduce(session, task, blobs),
            ("validate", Part::Map) => validate::map(session, task, context),
            ("validate", Part::Reduce) => validate::reduce(session, task, blobs),
            ("convert", Part::Map) => convert::map(session, task, context),
            ("convert", Part::Reduce) => convert::reduce(session, task, blobs),
            (stage, part) => Err(Error::Payload {
                what: "stage",
                reason: format!("there is no {part:?} task of a stage '{stage}'"),
            }),
        }
    }
}

/// What a map has besides its session and payload.
struct Context<'a> {
    executor: &'a Executor,
    blobs: &'a dyn Blobs,
    control: &'a dyn Control,
}

impl Context<'_> {
    /// A share of the memory for what comes next; waits for other tasks where it must.
    fn reserve(&self, session: &Session, what: &str, bytes: u64) -> Result<Reservation> {
        let Executor { sessions, memory } = self.executor;
        if !memory.could_hold(bytes) {
            sessions.evict_idle(&session.job);
        }
        memory.running(what, bytes, || self.control.cancelled())
    }

    /// Whether a share of this size can be had at all.
    fn could_hold(&self, bytes: u64) -> bool {
        self.executor.memory.could_hold(bytes)
    }
}

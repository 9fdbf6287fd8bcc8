//! A job cut into tasks. A stage is map tasks that run anywhere in any order, then one reduce that
//! folds their results in map order and names what comes next. A [`stage`] is a type; the [`kind`] of a
//! job owns the graph of its stages.
//!
//! A task is a pure function of its payload, its inputs and the job's blobs, so a job's artifacts
//! do not depend on the number of workers, on order, on retries or on kills. This module knows
//! nothing of queues and leases: whoever runs the tasks hands in a [`Blobs`] and a [`Control`].

mod analyze;
mod asked;
mod checkpoints;
mod choice;
mod convert;
mod evaluate;
mod files;
mod fits;
mod float_share;
mod footprint;
mod kind;
mod left_out;
mod mend;
mod observe;
mod offers;
mod operators;
mod payload;
mod plan;
mod rescale;
mod run;
mod session;
mod sessions;
mod stage;
mod targets;
mod trouble;
mod validate;
mod variants;
mod wants;

pub use crate::{
    blobs::Blobs,
    job::{FileRef, JobInput, JobKind, ModelInput},
    report::{
        Event, LayerAccumulated, LayerMeasured, MendStep, Notice, OperatorMeasured, OutputMeasured,
        SensitivityMeasured, WayFitted, WayMeasured,
    },
    ways::isolated::KernelRun,
};

use std::sync::Arc;

pub use run::run;

use serde::{Deserialize, Serialize};
use session::Session;
use sessions::Sessions;

use crate::{
    Result,
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
    /// Its stage's name; that of a job's first is [`FIRST_STAGE`].
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
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub enum Next {
    /// Another stage.
    Stage(QueuedStage),
    /// The job is done; these are its files.
    Finish(Vec<FileRef>),
}

/// A stage to start.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct QueuedStage {
    /// Name, shown to people.
    pub name: String,
    /// One payload a map task.
    pub maps: Vec<Vec<u8>>,
    /// Payload of the reduce.
    pub reduce: Vec<u8>,
    /// What any task of the job may take, in seconds on a slow core: no forecast, but a figure that an
    /// honest task stays below. 0 = nothing is known.
    pub seconds: u64,
}

/// The stage that every job begins with: a reduce without a payload.
pub const FIRST_STAGE: &str = kind::FIRST;

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

    /// Drops the models of all jobs, for bytes of one were not what they should have been.
    pub fn forget(&self) {
        self.sessions.forget();
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
        let context = &Context {
            executor: self,
            blobs,
            control,
        };
        task.job.kind.run(&session, task, context)
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

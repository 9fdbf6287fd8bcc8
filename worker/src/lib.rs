//! The dual16 worker: leases tasks from a server, runs them, hands in their results.
//!
//! A worker has no state of its own that matters: it can be killed at any moment, and the server
//! gives its tasks to another one. It knows no numerics either; whatever computes stands behind
//! [`TaskRunner`], in other processes.
//!
//! # Layout
//! - [`worker`](start), `options`: starting, draining and stopping one worker.
//! - `lease_loop`, `heartbeat`, `leases`: getting tasks, and keeping them while they run.
//! - `task`, `specs`, `report`: one task from its grant to its report.
//! - `runner`: the seam to what computes; `quantize_runner` is the one that runs the quantization
//!   flow, `convert_spec` and `events` translate between the API's messages and that flow's types.
//! - `child`: the tasks of each job in a process of their own; `compute`: what they compute with.
//! - `blob_cache`, `transfer`, `blob_store`, `task_blobs`: content-addressed bytes, from the disk
//!   cache up to the synchronous face that a running task sees.
//! - `metrics`, `observer`: what a worker measures, and what its ops port shows.
//! - `connect`, `link`: the first contact with the server, and what happens while it is away.

mod blob_cache;
mod blob_store;
mod child;
mod compute;
mod connect;
mod convert_spec;
mod events;
mod heartbeat;
mod lease_loop;
mod leases;
mod link;
mod memory_limit;
mod metrics;
mod observer;
mod options;
mod quantize_runner;
mod report;
mod runner;
mod specs;
mod task;
mod task_blobs;
mod transfer;
mod worker;

use dual16_proto::digest;
pub use dual16_quant::NUMERICS_VERSION;

pub use child::ChildProgram;
pub use connect::StartError;
pub use convert_spec::{SpecError, job_input};
pub use memory_limit::{MemoryLimit, MemoryLimitError};
pub use options::{DEFAULT_CACHE_BYTES, WorkerOptions};
pub use quantize_runner::QuantizeRunner;
pub use runner::{Blobs, Control, Next, QueuedStage, TaskError, TaskOutput, TaskRunner};
pub use worker::{Drained, RunningWorker, start};

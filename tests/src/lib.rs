//! What the end-to-end tests share: the programs as child processes that never outlive a test, the
//! repository's data, and safetensors files to read and to write.
//!
//! Knows the programs from outside only: command lines, exit codes, files, and the API. A helper
//! that cannot do its work panics, and says what the child wrote to stderr.
//!
//! # Layout
//! - [`ops`]: the ops port of a server or a worker, and what it measures.
//! - [`process`]: a child process with its output collected, a time limit, and death on drop.
//! - [`programs`]: where the built programs are.
//! - [`cli`]: one `dual16` command.
//! - [`cluster`]: a server, and workers, as processes.
//! - [`postgres`], [`s3`]: a database and an object store of a test's own.
//! - [`power`]: a disk that forgets what was not synced.
//! - [`collector`]: an OTLP collector, and the spans that have come to it.
//! - [`events`]: what a watched job tells.
//! - [`results`]: the folder that `--out` named.
//! - [`data`]: the models of the repository, and edited copies of them.
//! - [`tensors`]: safetensors in and out.
//! - [`fuzz_entry`]: what reads input from strangers, for fuzzing; the one part that calls the crates.
//! - [`python`]: the interpreter of the independent clients and of the collector.
//! - [`tools`]: programs that are not the project's.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "only tests call it, and a helper that fails is a test that fails"
)]

pub mod cli;
pub mod cluster;
pub mod collector;
pub mod data;
pub mod events;
pub mod fuzz_entry;
pub mod ops;
pub mod postgres;
pub mod power;
pub mod process;
pub mod programs;
pub mod python;
pub mod results;
pub mod s3;
pub mod schema;
pub mod tensors;
pub mod tools;

pub use cli::Dual16;
pub use cluster::{ServerProcess, WorkerProcess};
pub use power::Disk;
pub use process::{Finished, Process};
pub use results::Results;

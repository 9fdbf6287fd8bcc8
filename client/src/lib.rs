//! dual16's client: the command line, and the typed API client that it is made of.
//!
//! # Layout
//! - [`api`]: connect, call, upload, download, watch; retried and resumed. A library for others.
//! - [`inputs`]: from paths to a job's spec: batches, external data, digests.
//! - [`cli`]: the arguments and one file for each command.
//! - [`config`]: flags over environment over file over defaults.
//! - [`page`]: `report.html` in folders; the crate `dual16-report` makes it.
//! - [`render`]: tables, progress, JSON; the only place that knows what a terminal is.
//! - `local` (feature `local`): the cluster in this process, for when no server is given.
//! - [`error`]: the one error of the command line and its exit codes.

pub mod api;
pub mod cli;
pub mod config;
pub mod doctor;
pub mod error;
pub mod inputs;
#[cfg(feature = "local")]
pub mod local;
pub mod page;
pub mod render;

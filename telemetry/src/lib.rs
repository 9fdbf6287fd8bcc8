//! What a dual16 program tells about itself, shared by the server, the worker and the client.
//!
//! It carries facts and makes none: which metrics there are and what "ready" means is said by the
//! program. Nothing here knows jobs, tasks or the API.
//!
//! # Layout
//! - [`ops`]: the plain HTTP port with /livez, /readyz and /metrics, and its flags.
//! - [`metrics`]: labels that cannot grow without bound, buckets, the process's own figures.
//! - [`logs`], [`trace`]: log lines, spans, and one trace id from the client to the kernels.
//! - `export`: spans to a collector, with the feature `otlp`.
//! - [`exit`]: the last word of a program that failed.
//! - [`nameless`]: errors of the system without paths.
//! - [`files`]: files that others wait for, such as the one with a port's number.

pub mod exit;
#[cfg(feature = "otlp")]
pub mod export;
pub mod files;
pub mod logs;
#[cfg(feature = "ops")]
pub mod metrics;
pub mod nameless;
#[cfg(feature = "ops")]
pub mod ops;
pub mod trace;

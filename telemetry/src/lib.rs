//! What a dual16 program tells about itself, shared by the server, the worker and the client.
//!
//! It carries facts and makes none: which metrics there are and what "ready" means is said by the
//! program. Nothing here knows jobs, tasks or the API.
//!
//! # Layout
//! - [`ops`]: the plain HTTP port with /livez, /readyz and /metrics, and its flags.
//! - [`metrics`]: labels that cannot grow without bound, buckets, the process's own figures.
//! - [`files`]: files that others wait for, such as the one with a port's number.

pub mod files;
pub mod metrics;
pub mod ops;

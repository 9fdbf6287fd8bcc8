//! The dual16 server: keeps jobs, hands their tasks to workers, stores blobs, streams events.
//!
//! It knows no numerics. A job is stages of opaque tasks; what they compute is between the
//! workers.
//!
//! # Layout
//! - [`job`]: the life of a job, a pure state machine
//! - [`store`]: durable state behind one trait of domain verbs; memory and sled
//! - [`blob`]: content-addressed bytes on disk
//! - `rpc`: the gRPC services, thin: validation, waiting, streaming, errors
//! - `server`: one server from its options: [`start`], [`RunningServer`]
//! - [`config`], [`limits`]: flags, variables and every limit; [`clock`]: time, injected

pub mod blob;
pub mod clock;
pub mod config;
pub mod job;
pub mod limits;
mod rpc;
mod server;
pub mod store;
mod wake;
mod wire;

/// Entry points of the fuzz targets, which judge requests without a server; no API.
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::rpc::fuzzing::judge;
}

pub use dual16_proto::digest;
pub use server::{RunningServer, ServerOptions, StartError, start};

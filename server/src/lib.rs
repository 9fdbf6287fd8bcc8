//! The dual16 server: keeps jobs, hands their tasks to workers, stores blobs, streams events.
//!
//! It knows no numerics. A job is stages of opaque tasks; what they compute is between the
//! workers.
//!
//! # Layout
//! - [`job`]: the life of a job, a pure state machine
//! - [`store`]: durable state behind one trait of domain verbs; memory and sled
//! - [`blob`]: content-addressed bytes on disk
//! - `metrics`, `observer`: what it measures, and what its ops port shows
//! - [`page`]: the live page of jobs, the same services over plain HTTP
//! - `listener`, `tls`: connections, plain or TLS; `reload`: files that are read again when they change
//! - `rpc`: the perimeter before the services, with its table in [`policy`]; the services, thin: validation,
//!   waiting, streaming, errors
//! - `permits`: what a call holds, until nobody works for it any more
//! - `server`: one server from its options: [`start`], [`RunningServer`]
//! - [`access`]: who may call what, and the audit log; [`principal`]: who owns a job
//! - [`upkeep`]: expiry, retention, collection of blobs; `quarantine`: workers that get nothing for a while
//! - `disk`: the volume, and what is kept on it for the store; [`durability`]: when it is waited for
//! - [`offline`]: check, repair, export and import of a data directory
//! - [`cli`], [`config`], [`limits`]: commands, flags, variables and every limit; [`clock`]: time, injected

pub mod access;
pub mod blob;
pub mod cli;
pub mod clock;
pub mod config;
pub mod descriptors;
mod disk;
pub mod durability;
pub mod job;
pub mod limits;
mod listener;
mod metrics;
mod observer;
pub mod offline;
pub mod page;
mod permits;
pub mod principal;
mod quarantine;
mod reload;
mod rpc;
mod server;
pub mod store;
mod tls;
pub mod upkeep;
mod wake;
mod wire;

/// Entry points of the fuzz targets, which judge requests without a server; no API.
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::rpc::fuzzing::judge;
}

pub use dual16_proto::digest;
pub use rpc::policy;
pub use server::{RunningServer, ServerOptions, StartError, start};

//! The gRPC services: judge the request, call the store or the blobs, translate the answer.
//!
//! Thin on purpose. What a job may do is decided by `job`, what survives by `store`; here is only
//! what has to do with the wire: validation, waiting, streaming, and one mapping of errors.

mod admission;
mod app;
mod blobs;
mod code;
mod envelope;
mod error;
pub(crate) mod fuzzing;
mod incoming;
mod info;
mod jobs;
mod undelivered;
mod validate;
mod watch;
mod workers;

pub(crate) use self::{
    admission::{Admission, CHECK_BYTES, Shed},
    app::App,
    blobs::BlobApi,
    code::code_name,
    envelope::Envelope,
    error::{ApiError, Exceeded},
    info::InfoApi,
    jobs::JobApi,
    workers::WorkerApi,
};

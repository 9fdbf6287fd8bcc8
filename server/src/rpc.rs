//! The gRPC services: judge the request, call the store or the blobs, translate the answer.
//!
//! Thin on purpose. What a job may do is decided by `job`, what survives by `store`; here is only
//! what has to do with the wire: validation, waiting, streaming, and one mapping of errors.

mod app;
mod blobs;
mod code;
mod error;
pub(crate) mod fuzzing;
mod info;
mod jobs;
mod perimeter;
pub mod policy;
mod scaler;
mod undelivered;
mod upload_messages;
mod validate;
mod watch;
mod workers;

pub(crate) use self::{
    app::App,
    blobs::BlobApi,
    code::code_name,
    error::{ApiError, Exceeded},
    info::InfoApi,
    jobs::JobApi,
    perimeter::Perimeter,
    scaler::ScalerApi,
    workers::WorkerApi,
};

//! From paths that a person typed to a [`JobSpec`]'s files: which files a job needs, what they are
//! called in it, and their digests.
//!
//! Looks inside a file only as far as that takes (external data of ONNX, lengths in a safetensors
//! header), so that a wrong path or a truncated file is told before anything is uploaded. What the
//! tensors mean is the worker's business.
//!
//! [`JobSpec`]: dual16_proto::v1::JobSpec

mod arrays;
mod batches;
pub mod digest;
mod error;
mod external;
mod file_window;
mod foreign;
mod holdings;
mod onnx;
mod prepare;
mod regular;
mod safetensors;
mod seen;

pub use arrays::ArrayBatch;
pub use batches::{BatchSet, BatchSource, Batches, collect_batches};
pub use error::InputError;
pub use external::{ExternalFile, ModelNeeds, model_needs};
pub use holdings::Holdings;
pub use prepare::{ModelPath, PreparedJob, Sources, prepare};

use std::path::PathBuf;

/// A file on this disk and its name in the job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedFile {
    /// Relative, '/'-separated: "calib/000.safetensors".
    pub name: String,
    /// Where it lies.
    pub path: PathBuf,
}

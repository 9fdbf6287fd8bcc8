//! Everything that can be wrong, in terms of the user's own files, tensors, layers and settings.

use thiserror::Error;

use crate::{limits::Exceeded, memory::Bytes};

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong. [`Error::code`] is stable; [`Error::retryable`] tells whether the same task could
/// succeed elsewhere or later.
#[derive(Debug, Error)]
pub enum Error {
    /// The model file is no ONNX model, or one that cannot be run.
    #[error("{file}: {reason}")]
    Model {
        /// File name as the user gave it.
        file: String,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// A batch file is damaged or does not fit the model.
    #[error("{file}: {reason}")]
    Batch {
        /// File name as the user gave it.
        file: String,
        /// Names the tensor; what is wrong and what would be right.
        reason: String,
    },
    /// A file holds more than it may.
    #[error(transparent)]
    Limit(#[from] Exceeded),
    /// A file holds more than any server lets through: no flag moves this limit.
    #[error("{file}: {what}; at most {max} may be")]
    TooMuch {
        /// File name as the user gave it.
        file: String,
        /// What has how much.
        what: String,
        /// The limit's figure.
        max: u64,
    },
    /// A tensor holds NaN or infinity.
    #[error(
        "{file}: tensor '{tensor}' has {value} at index {index:?}; only finite values can be quantized"
    )]
    NonFinite {
        /// File, or "float run on FILE" for a value the model computed.
        file: String,
        /// Tensor name.
        tensor: String,
        /// The offending value.
        value: f32,
        /// Multi-dimensional index.
        index: Vec<usize>,
    },
    /// A name matches nothing.
    #[error("no {what} is named '{name}'{}", nearest(.near))]
    UnknownName {
        /// "Linear layer", "value" …
        what: &'static str,
        /// As typed.
        name: String,
        /// Closest existing names, best first.
        near: Vec<String>,
    },
    /// A setting has a value that cannot be.
    #[error("{setting}: {reason}")]
    Setting {
        /// The field, as in the API and the command line.
        setting: String,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// A way that the chosen toolchain cannot run was asked for.
    #[error("{layer}: {reason}")]
    IllegalWay {
        /// Layer name.
        layer: String,
        /// The rule, and which ways are legal.
        reason: String,
    },
    /// Float execution failed.
    #[error("float run of {node}: {reason}")]
    FloatRun {
        /// Node or file.
        node: String,
        /// What rten said.
        reason: String,
    },
    /// The simulated chip refused (a scale out of range, for one).
    #[error("{subject}: {source}")]
    Kernel {
        /// Layer or value.
        subject: String,
        /// What the kernel said.
        source: dual16_nash::Error,
    },
    /// A blob could not be read or written.
    #[error("{what}: {source}")]
    Io {
        /// File or blob.
        what: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// A task's payload or a stage's result does not decode: another version wrote it.
    #[error("{what} does not decode: {reason}; server and workers must run the same version")]
    Payload {
        /// Which message.
        what: &'static str,
        /// Decoder's word.
        reason: String,
    },
    /// A task needs more memory than the process may use.
    #[error(
        "{what} needs {needs} beside {resident} of loaded models, and this worker may use {limit}; \
         give smaller batches, fewer in a file, or start workers with a larger --memory-limit"
    )]
    Memory {
        /// The task, in terms of the job's files and layers.
        what: String,
        /// Its estimate.
        needs: Bytes,
        /// What is held and stays.
        resident: Bytes,
        /// The whole budget.
        limit: Bytes,
    },
    /// The job was cancelled while the task ran.
    #[error("cancelled")]
    Cancelled,
}

impl Error {
    /// Stable upper-snake-case code.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Model { .. } => "INVALID_MODEL",
            Error::Batch { .. } => "INVALID_BATCH",
            Error::Limit(_) | Error::TooMuch { .. } => "LIMIT_EXCEEDED",
            Error::NonFinite { .. } => "NON_FINITE",
            Error::UnknownName { .. } => "UNKNOWN_NAME",
            Error::Setting { .. } => "INVALID_SETTING",
            Error::IllegalWay { .. } => "ILLEGAL_WAY",
            Error::FloatRun { .. } => "FLOAT_RUN_FAILED",
            Error::Kernel { .. } => "KERNEL_REFUSED",
            Error::Io { .. } => "IO",
            Error::Payload { .. } => "PAYLOAD_MISMATCH",
            Error::Memory { .. } => "MEMORY_LIMIT",
            Error::Cancelled => "CANCELLED",
        }
    }

    /// Whether the same task could succeed on another try. Bad input never can; a worker with more
    /// memory may have what this one lacks.
    pub fn retryable(&self) -> bool {
        matches!(
            self,
            Error::Io { .. } | Error::Payload { .. } | Error::Memory { .. }
        )
    }
}

fn nearest(near: &[String]) -> String {
    match near {
        [] => String::new(),
        near => format!("; nearest: {}", near.join(", ")),
    }
}

/// Says which layer or value a kernel's error is about.
pub(crate) trait KernelContext<T> {
    /// Attaches the name.
    fn of(self, subject: &str) -> Result<T>;
}

impl<T, E: Into<dual16_nash::Error>> KernelContext<T> for std::result::Result<T, E> {
    fn of(self, subject: &str) -> Result<T> {
        self.map_err(|source| Error::Kernel {
            subject: subject.to_owned(),
            source: source.into(),
        })
    }
}

/// A file's JSON could not be made.
pub(crate) fn json_error(file: &str, error: &serde_json::Error) -> Error {
    Error::Io {
        what: file.to_owned(),
        source: std::io::Error::other(error.to_string()),
    }
}

//! What can be wrong with the files that a job is given.

use std::{io, path::PathBuf};

/// An input that cannot be submitted. Every message names the file and what would be right.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// The file or folder does not exist.
    #[error("{what} {}: no such file or folder", .path.display())]
    Missing {
        /// What it was to be: "the model", "the calibration folder".
        what: &'static str,
        /// The path as given.
        path: PathBuf,
    },
    /// A file where a folder belongs, or the other way round.
    #[error("{what} {}: expected {expected}", .path.display())]
    WrongKind {
        /// What it was to be.
        what: &'static str,
        /// The path as given.
        path: PathBuf,
        /// "a folder", "a file" …
        expected: String,
    },
    /// Neither a file nor a folder.
    #[error("{}: this is {is}; an input must be a regular file, for it is read more than once", .path.display())]
    Irregular {
        /// The path.
        path: PathBuf,
        /// "a FIFO".
        is: &'static str,
    },
    /// A file of another kind than the one wanted.
    #[error("{}: this is {is}, not {wanted}\n  {remedy}", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// "a PyTorch file".
        is: &'static str,
        /// "an ONNX model".
        wanted: &'static str,
        /// What to do, and what else: two lines.
        remedy: String,
    },
    /// A folder without a single batch.
    #[error(
        "{what} {} holds {seen} and no batches: put .safetensors or .npz files into it, one batch a \
         file, with one array for each {keys}; or .npy files, NAME/000.npy{converter}",
        .path.display()
    )]
    NoBatches {
        /// What it was to be.
        what: &'static str,
        /// The folder.
        path: PathBuf,
        /// What the arrays in a batch are named after.
        keys: &'static str,
        /// What it holds instead: "12 .jpg".
        seen: String,
        /// Lines of Python that make batches of it, each after a line end; "" where there are none.
        converter: String,
    },
    /// `.npy` files that make no batches.
    #[error("{}: {reason}", .path.display())]
    Arrays {
        /// The file, or the folder.
        path: PathBuf,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// A batch of `.npy` files could not be put together.
    #[error(
        "cannot write {}, where .npy files become a batch: {source}; TMPDIR names a folder with room",
        .path.display()
    )]
    Archive {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The system refused to read it.
    #[error("cannot read {}: {source}", .path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A name that the API cannot carry.
    #[error("{}: the file name is not valid UTF-8; rename it", .0.display())]
    NotUtf8(PathBuf),
    /// Not an ONNX model, or one that was cut off.
    #[error("{}: not a whole ONNX model: {reason}", .path.display())]
    NotOnnx {
        /// The file.
        path: PathBuf,
        /// How it shows.
        reason: String,
    },
    /// Not a safetensors file, or one that was cut off.
    #[error("{}: not a whole safetensors file: {reason}", .path.display())]
    NotSafetensors {
        /// The file.
        path: PathBuf,
        /// How it shows.
        reason: String,
    },
    /// More than the server takes.
    #[error(
        "{}: {what}; at most {max} may be (the limit {limit}, which the server's --limit-{} sets)",
        .path.display(), .limit.replace('_', "-")
    )]
    BeyondLimit {
        /// The file.
        path: PathBuf,
        /// What it has, with the figure.
        what: String,
        /// The limit's figure.
        max: u64,
        /// What the server calls it.
        limit: &'static str,
    },
    /// External data that the model may not use or that is not there.
    #[error(
        "{}: tensor {tensor:?} has its data in {location:?}, which {reason}; external data must be \
         a file in the model's own folder, named by a relative path", .model.display()
    )]
    ExternalData {
        /// The model.
        model: PathBuf,
        /// The tensor.
        tensor: String,
        /// The path that the model names.
        location: String,
        /// What is wrong with it.
        reason: String,
    },
}

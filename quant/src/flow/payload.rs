//! What tasks and stages hand to each other. Private to this version: server and workers run the
//! same one, and a payload that does not decode says so.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Blobs, LayerMeasured, Notice, operators::OperatorSums};
use crate::{
    Error, Result, exec::Trouble, measured::PairedSums, observe::Sketch, plan::Key, ways::RunCounts,
};

/// Map of observe: one calibration file.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ObserveMap {
    /// Index into the job's calibration files.
    pub(super) file: usize,
    /// Blob of the calibration whose remedies are observed, and they alone.
    pub(super) remedies_of: Option<String>,
}

/// Result of a map of observe: what each batch of the file left.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Observed {
    /// In batch order.
    pub(super) batches: Vec<Vec<(Key, Sketch)>>,
}

/// Map of evaluate: some Linears over all batches.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct EvaluateMap {
    /// Node indices, in execution order.
    pub(super) linears: Vec<usize>,
    /// Blob of the [`Calibration`](crate::plan::Calibration).
    pub(super) calibration: String,
}

/// Reduce of evaluate.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct EvaluateReduce {
    /// Blob of the [`Calibration`](crate::plan::Calibration).
    pub(super) calibration: String,
}

/// Result of a map of evaluate.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Evaluated {
    /// By node index.
    pub(super) layers: Vec<(usize, LayerMeasured)>,
    /// Ways that could not be measured, for one.
    pub(super) notices: Vec<Notice>,
}

/// Map of validate: one measured file.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ValidateMap {
    /// Index into the job's measured files.
    pub(super) file: usize,
    /// Blob of the [`Planned`].
    pub(super) planned: String,
}

/// Reduce of validate.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ValidateReduce {
    /// Blob of the [`Planned`].
    pub(super) planned: String,
    /// Blob of the search that it confirms.
    pub(super) search: Option<String>,
}

/// Result of a map of validate: one for each batch of the file, in order.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Validated {
    pub(super) batches: Vec<BatchErrors>,
    /// Blobs of the saved outputs, one for each batch, where they were asked for.
    pub(super) outputs: Vec<String>,
}

/// Errors of one batch.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct BatchErrors {
    /// By node index of each Linear, ascending.
    pub(super) linears: Vec<(usize, PairedSums, RunCounts)>,
    /// By position among the model's outputs.
    pub(super) outputs: Vec<PairedSums>,
    /// Largest |accumulator| of each MatMul, by node index.
    pub(super) matmuls: Vec<(usize, u64)>,
    /// By value, ascending: what each operator makes.
    pub(super) operators: Vec<(usize, OperatorSums)>,
    /// By node index, the energy of error at each output that CONVERTED adds there over VALIDATION, where the
    /// two parted; an estimate.
    pub(super) parts: BTreeMap<usize, Vec<f64>>,
    /// What VALIDATION and what CONVERTED did not stop at.
    pub(super) trouble: [Trouble; 2],
}

/// Map of convert: integer weights of some Linears.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ConvertMap {
    /// Node indices, in execution order.
    pub(super) linears: Vec<usize>,
    /// Blob of the [`Measured`].
    pub(super) measured: String,
}

/// Result of a map of convert.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ConvertedPart {
    /// Blob of a safetensors file.
    pub(super) weights: String,
    /// Layers whose weight is written under the name of another, and that name.
    pub(super) aliases: BTreeMap<String, String>,
}

/// Reduce of convert.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ConvertReduce {
    /// Blob of the [`Measured`].
    pub(super) measured: String,
}

/// Encodes a payload or a result.
pub(super) fn encode<T: Serialize>(what: &'static str, value: &T) -> Result<Vec<u8>> {
    postcard::to_stdvec(value).map_err(|error| Error::Payload {
        what,
        reason: error.to_string(),
    })
}

/// Decodes a payload or a result.
pub(super) fn decode<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T> {
    postcard::from_bytes(bytes).map_err(|error| Error::Payload {
        what,
        reason: error.to_string(),
    })
}

/// Stores a value as a blob.
pub(super) fn store<T: Serialize>(
    what: &'static str,
    value: &T,
    blobs: &dyn Blobs,
) -> Result<String> {
    let bytes = encode(what, value)?;
    blobs.put(bytes).map_err(|source| Error::Io {
        what: what.to_owned(),
        source,
    })
}

/// Reads a value back from its blob.
pub(super) fn load<T: DeserializeOwned>(
    what: &'static str,
    digest: &str,
    blobs: &dyn Blobs,
) -> Result<T> {
    let io = |source| Error::Io {
        what: what.to_owned(),
        source,
    };
    let path = blobs.path(digest).map_err(io)?;
    decode(what, &std::fs::read(path).map_err(io)?)
}

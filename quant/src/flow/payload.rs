//! What tasks and stages hand to each other, as bytes. Private to this version: server and workers run
//! the same one, and a payload that does not decode says so.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::Blobs;
use crate::{
    Error, Result,
    exec::Trouble,
    measured::{PairedSums, operators::OperatorSums},
    metrics::OutputError,
    ways::RunCounts,
};

/// Errors of one batch.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct BatchErrors {
    /// By node index of each Linear, ascending.
    pub(super) linears: Vec<(usize, PairedSums, RunCounts)>,
    /// By position among the model's outputs.
    pub(super) outputs: Vec<PairedSums<OutputError>>,
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

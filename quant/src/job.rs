//! What a job works on, apart from any wire format.

use serde::{Deserialize, Serialize};

use crate::{limits::InputLimits, metrics::Metric, settings::Settings};

/// Everything a job depends on.
#[derive(Debug, Clone)]
pub struct JobInput {
    /// The model.
    pub model: ModelInput,
    /// Calibration batches, in order.
    pub calibration: Vec<FileRef>,
    /// Batches the errors are measured on; empty = the calibration batches.
    pub evaluation: Vec<FileRef>,
    /// What is done.
    pub kind: JobKind,
    /// How tensors are quantized.
    pub settings: Settings,
    /// How much the files may hold. They decide whether there are results, never which.
    pub limits: InputLimits,
    /// Digest of all of the above: the `job` of `result.json`, equal for equal work.
    pub digest: String,
}

/// What a job does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobKind {
    /// Makes the best model that the chip can run, and measures it.
    Quantize,
    /// Says what would be done, before any batch is run.
    Plan,
    /// Finds what each fake quant alone costs the outputs.
    Analyze(Analyze),
    /// Derives scales, plan and weights again from what another job observed. No batch is run but the first
    /// of calibration, for the shapes.
    Rescale {
        /// `statistics.bin` of a job of the same model.
        statistics: FileRef,
    },
}

/// What an analysis is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Analyze {
    /// Rows that are measured exactly, the worst by estimate first; `None` = all.
    pub exact: Option<u32>,
    /// Outputs that count, by name; empty = all.
    pub outputs: Vec<String>,
    /// What the table is sorted by.
    pub metric: Metric,
}

/// Where the layers come from.
#[derive(Debug, Clone)]
pub enum ModelInput {
    /// An ONNX file and the external data it names by relative path.
    Onnx {
        /// The model.
        model: FileRef,
        /// Name = the `location` in the model.
        external_data: Vec<FileRef>,
    },
    /// Layer mode: named weights; the batches are keyed by layer.
    Layers {
        /// A safetensors file with `NAME.weight` and optionally `NAME.bias`.
        weights: FileRef,
    },
}

impl ModelInput {
    /// What the user calls it.
    pub fn name(&self) -> &str {
        match self {
            Self::Onnx { model, .. } => &model.name,
            Self::Layers { weights } => &weights.name,
        }
    }
}

/// A named blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRef {
    /// What the user calls it.
    pub name: String,
    /// "sha256:" and 64 hex digits.
    pub digest: String,
    /// Bytes.
    pub size: u64,
}

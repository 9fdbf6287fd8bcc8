//! What tasks report while a job runs.

use dual16_nash::ways::Way;

use crate::{cost::OpCost, metrics::Metrics};

/// One thing worth telling at once.
#[derive(Debug, Clone)]
pub enum Event {
    /// Something the user must know: a fallback, a float island, a wide accumulator.
    Notice(Notice),
    /// All tried ways of one Linear, measured alone, and the one chosen.
    Layer(LayerMeasured),
    /// One Linear inside the whole quantized model.
    Accumulated(LayerAccumulated),
    /// One output of the whole quantized model.
    Output(OutputMeasured),
}

/// Something the user must know.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Notice {
    /// A warning rather than information.
    pub warning: bool,
    /// Stable upper-snake-case code.
    pub code: String,
    /// Layer, value or file.
    pub subject: String,
    /// One sentence.
    pub message: String,
}

/// All tried ways of one Linear, measured alone, and the one chosen.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct LayerMeasured {
    /// Layer name.
    pub layer: String,
    /// "Linear".
    pub op: String,
    /// Way that the template or a setting asked for; "auto" for a setting of auto.
    pub requested: String,
    /// Way that runs.
    #[serde(with = "crate::plan::way_text")]
    pub effective: Way,
    /// Why effective is not requested; empty where it is.
    pub reason: String,
    /// Each way tried.
    pub ways: Vec<WayMeasured>,
}

/// One way of one Linear, measured alone.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct WayMeasured {
    /// The way.
    #[serde(with = "crate::plan::way_text")]
    pub way: Way,
    /// Whether the toolchain can run it, here.
    pub legal: bool,
    /// Why not; empty where it can.
    pub reason: String,
    /// Output against the float output.
    pub metrics: Metrics,
    /// Multiply-accumulates of one batch.
    pub macs: u64,
    /// Share of products (mul_sum) or outputs that are 0.
    pub zero_fraction: f64,
    /// Share of products (mul_sum) or outputs that saturate.
    pub clip_fraction: f64,
    /// Magnitude bits (the sign not counted) that the largest accumulator needs.
    pub accumulator_bits: u32,
    /// What it costs for one batch of the graph's shapes; an estimate.
    pub cost: OpCost,
}

impl WayMeasured {
    /// A way that cannot be set up or run for its layer: no figures, and not to be chosen.
    pub(crate) fn failed(way: Way, reason: String) -> Self {
        WayMeasured {
            way,
            legal: false,
            metrics: Metrics::none(reason.clone()),
            reason,
            macs: 0,
            zero_fraction: 0.0,
            clip_fraction: 0.0,
            accumulator_bits: 0,
            cost: OpCost::default(),
        }
    }
}

/// One Linear inside the whole quantized model.
#[derive(Debug, Clone)]
pub struct LayerAccumulated {
    /// Layer name.
    pub layer: String,
    /// Error of the VALIDATION run.
    pub validation: Metrics,
    /// Error of the CONVERTED run.
    pub converted: Metrics,
}

/// One output of the whole quantized model.
#[derive(Debug, Clone)]
pub struct OutputMeasured {
    /// Output name.
    pub output: String,
    /// Error of the VALIDATION run.
    pub validation: Metrics,
    /// Error of the CONVERTED run.
    pub converted: Metrics,
}

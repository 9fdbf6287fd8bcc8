//! What tasks report while a job runs.

use dual16_nash::ways::Way;

use crate::{
    cost::OpCost,
    fit::{Fit, way_name},
    metrics::Metrics,
    plan::LinearFit,
};

pub use crate::{metrics::OutputError, notice::Notice};

/// One thing worth telling at once.
#[derive(Debug, Clone)]
pub enum Event {
    /// Something the user must know: a fallback, a float island, a wide accumulator.
    Notice(Notice),
    /// All tried ways of one Linear, measured alone, and the one chosen.
    Layer(LayerMeasured),
    /// One Linear inside the whole quantized model.
    Accumulated(LayerAccumulated),
    /// One operator, alone and inside the whole quantized model.
    Operator(Box<OperatorMeasured>),
    /// One output of the whole quantized model.
    Output(OutputMeasured),
    /// A change that was made for the outputs' sake, and what came of it.
    Mended(MendStep),
    /// What one fake quant alone costs the outputs.
    Sensitivity(Box<SensitivityMeasured>),
}

/// What one fake quant alone costs the model's outputs, everything else being float.
#[derive(Debug, Clone)]
pub struct SensitivityMeasured {
    /// Name of the operation or of what it makes.
    pub op: String,
    /// "activation", "weight" or "table".
    pub sensitive_type: String,
    /// "Linear", "ReduceMean", or the ONNX operator of one that runs in float.
    pub op_type: String,
    /// "int8" or "int16".
    pub dtype: String,
    /// Multiply-accumulates of the operation over one batch.
    pub macs: u64,
    /// Its share of those of the model, in [0, 1].
    pub macs_share: f64,
    /// SQNR of the outputs in dB to first order.
    pub estimate_db: Option<f64>,
    /// Error of each output, by name.
    pub outputs: Vec<(String, OutputError)>,
    /// Why there are no errors; empty where there are.
    pub reason: String,
}

/// A change that was made for the outputs' sake, and what came of it.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct MendStep {
    /// Round of the search, from 1; the changes of a round are made together.
    pub round: u32,
    /// What cost the outputs: an operation or a tensor inside one.
    pub op: String,
    /// "activation", "weight" or "table".
    pub sensitive_type: String,
    /// What ran before: a way, "plain" or "int8".
    pub from: String,
    /// What runs instead: a way, a remedy, "int16" or "division".
    pub to: String,
    /// Its share of the error at the output before, in [0, 1]; an estimate.
    pub share: f64,
    /// What the change left of that, 0 for nothing; an estimate.
    pub left: f64,
    /// The change stays; it is taken back where it did not help.
    pub kept: bool,
    /// Time on the chip that it adds for one batch, in microseconds; an estimate.
    pub added_us: f64,
    /// Multiply-accumulates that it adds for one batch.
    pub added_macs: i64,
    /// SQNR of the worst output in the worse of VALIDATION and CONVERTED, on the calibration batches before
    /// the round, in dB.
    pub before_sqnr_db: Option<f64>,
    /// The same after the round.
    pub output_sqnr_db: Option<f64>,
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
    /// How that is fitted, where it is.
    pub fit: Option<Fit>,
    /// Why effective is not requested; empty where it is.
    pub reason: String,
    /// Each way tried, and each fit of one that was accepted.
    pub ways: Vec<WayMeasured>,
}

impl LayerMeasured {
    /// What runs, as tables call it.
    pub fn effective_name(&self) -> String {
        way_name(self.effective, self.fit)
    }

    /// Whether this is what runs.
    pub fn runs(&self, way: &WayMeasured) -> bool {
        (way.way, way.fit()) == (self.effective, self.fit)
    }

    /// Takes the way, or the fit of one, that the outputs need.
    pub(crate) fn mend(&mut self, way: Way, fit: Option<Fit>) {
        let before = self.effective_name();
        self.reason = format!("{before} was not enough for the model's outputs");
        (self.effective, self.fit) = (way, fit);
    }
}

/// One way of one Linear, measured alone.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct WayMeasured {
    /// The way.
    #[serde(with = "crate::plan::way_text")]
    pub way: Way,
    /// The integers that were fitted for it; `None` for the plain way.
    pub fitted: Option<WayFitted>,
    /// Whether the toolchain can run it, here.
    pub legal: bool,
    /// Why not; empty where it can.
    pub reason: String,
    /// Output against the float output.
    pub metrics: Metrics,
    /// Multiply-accumulates of one batch.
    pub macs: u64,
    /// Bytes of its integers, biases included.
    pub weight_bytes: u64,
    /// Share of products (mul_sum) or outputs that are 0.
    pub zero_fraction: f64,
    /// Share of products (mul_sum) or outputs that saturate.
    pub clip_fraction: f64,
    /// Magnitude bits (the sign not counted) that the largest accumulator needs.
    pub accumulator_bits: u32,
    /// What it costs for one batch of the graph's shapes; an estimate.
    pub cost: OpCost,
}

/// A fit that was accepted: better than the plain way on rows that it was not fitted to.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct WayFitted {
    /// What runs.
    pub fit: LinearFit,
    /// dB of SQNR over the plain way on the rows held out.
    pub gain_db: f64,
}

impl WayMeasured {
    /// How it is fitted, where it is.
    pub fn fit(&self) -> Option<Fit> {
        self.fitted.as_ref().map(|fitted| fitted.fit.fit)
    }

    /// The way and its fit, as tables call it.
    pub fn name(&self) -> String {
        way_name(self.way, self.fit())
    }

    /// A way that cannot be set up or run for its layer: no figures, and not to be chosen.
    pub(crate) fn failed(way: Way, reason: String) -> Self {
        WayMeasured {
            way,
            fitted: None,
            weight_bytes: 0,
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

/// One operator: what its own quantization does, and how far it is from float in the whole model.
#[derive(Debug, Clone)]
pub struct OperatorMeasured {
    /// Name of what it makes.
    pub name: String,
    /// PyTorch module, where the file tells.
    pub module: String,
    /// "Linear", "ReduceMean", or the ONNX operator of one that runs in float.
    pub op: String,
    /// Shape in the probe batch.
    pub shape: Vec<usize>,
    /// "int8", "int16" or "float".
    pub dtype: String,
    /// Value of one step.
    pub scale: Option<f32>,
    /// The operator alone, on float inputs.
    pub isolated: Metrics,
    /// In VALIDATION of the whole model.
    pub validation: Metrics,
    /// The same, in nats.
    pub kl: Option<f64>,
    /// The same, the largest relative error.
    pub rtol: Option<f64>,
    /// In CONVERTED of the whole model.
    pub converted: Metrics,
    /// SQNR in dB that is lost here: that of the worst input, at most [`EXACT_DB`], less its own, in
    /// VALIDATION.
    pub drop_db: Option<f64>,
    /// SQNR in dB that CONVERTED falls behind VALIDATION here and not at its inputs.
    pub parts_db: Option<f64>,
    /// Share of elements that become 0, the operator alone.
    pub zero_share: f64,
    /// Share of elements that saturate, the operator alone.
    pub clip_share: f64,
    /// Channels (positions along the last dimension) that are not 0 throughout in float, and are once
    /// quantized, the operator alone.
    pub dead_channels: u32,
    /// Largest magnitude over the largest that its integers stand for; above 1 it saturates.
    pub range_covered: Option<f64>,
    /// Smallest, largest, mean and variance in float.
    pub float: [f64; 4],
    /// Where the largest magnitude in float is: row and channel, which is the last dimension.
    pub largest_at: Option<[u64; 2]>,
    /// The same in VALIDATION.
    pub quantized: [f64; 4],
}

/// SQNR in dB of what has no error worth telling: about that of int16.
pub const EXACT_DB: f64 = 100.0;

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

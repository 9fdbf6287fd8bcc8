//! From what was asked to what runs. [`Request::resolve`] binds the settings to a graph's names
//! before any data is seen; [`Plan::build`] adds what was observed and the chosen ways, and gives
//! every tensor its dtype and scale. Nothing falls back silently: every tensor and every layer
//! carries what was requested beside what is effective, and why they differ.

mod apply;
mod build;
mod change;
mod choose;
mod floors;
mod known;
mod names;
mod request;
pub(crate) mod saturation;
mod scales;
pub(crate) mod shared;
mod siblings;

use std::collections::BTreeMap;

use dual16_nash::{
    dtype::IntDtype,
    lut::{LutFunction, LutSpec, SEGMENTS},
    scale::Scale,
    ways::Way,
};
use serde::{Deserialize, Serialize};

use crate::{
    Result,
    error::KernelContext,
    fit::{Fit, way_name},
    graph::{Graph, NodeId, ValueId},
};

pub(crate) use names::{dtype_text, way_text};

pub(crate) use build::{inner_params, keeps_high_precision};
pub(crate) use change::{Change, Mended};
pub(crate) use floors::{MASK, floors, notices as mask_notices};
pub(crate) use saturation::{ROUNDS_TO_ZERO, SATURATED};
pub(crate) use scales::exact_range;

pub use build::Chosen;
pub use choose::{Candidate, SQNR_TIE_DB, choose};
pub use floors::Floor;
pub use request::{LinearRequest, OperatorRequest, Request, ValueRequest};
pub use scales::{Calibration, Key, ScaleSource};

/// How one tensor is quantized: `q = clamp(round(x / scale))`, zero point 0.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct QParams {
    /// Integer type.
    #[serde(with = "crate::plan::dtype_text")]
    pub dtype: IntDtype,
    /// Value of one step; finite and > 0.
    pub scale: f32,
}

/// The tensors inside a Linear that a way may need. Their names are `LAYER.` and the suffix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Slot {
    /// The layer's input in the dtype of its way, where the producer's differs.
    Input,
    /// The weight as an activation (`mul_sum`).
    Weight,
    /// The bias as an activation (`mul_sum`).
    Bias,
    /// Products of `mul_sum`.
    Product,
    /// Sums of `mul_sum`, before the bias.
    Sum,
    /// Output of the high plane of `split`, bias included.
    High,
    /// Output of the low plane of `split`.
    Low,
}

impl Slot {
    /// Every slot.
    pub const ALL: [Slot; 7] = [
        Slot::Input,
        Slot::Weight,
        Slot::Bias,
        Slot::Product,
        Slot::Sum,
        Slot::High,
        Slot::Low,
    ];

    /// Whether a Linear that runs this way has the tensor.
    pub fn is_in(self, way: Way) -> bool {
        match self {
            Slot::Input => true,
            Slot::Weight | Slot::Bias | Slot::Product | Slot::Sum => way == Way::MulSum,
            Slot::High | Slot::Low => way == Way::Split,
        }
    }

    /// What follows the layer's name and a dot.
    pub fn suffix(self) -> &'static str {
        match self {
            Slot::Input => "input",
            Slot::Weight => "weight",
            Slot::Bias => "bias",
            Slot::Product => "mul",
            Slot::Sum => "sum",
            Slot::High => "hi",
            Slot::Low => "lo",
        }
    }
}

/// One tensor of the plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ValuePlan {
    /// Dtype that the template or a setting asked for.
    #[serde(with = "crate::plan::dtype_text")]
    pub requested: IntDtype,
    /// What it gets; `None` stays high precision (float).
    pub effective: Option<QParams>,
    /// Why they differ; empty where they do not.
    pub reason: String,
}

/// One Linear of the plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinearPlan {
    /// "auto" or a way.
    pub requested: String,
    /// What runs.
    #[serde(with = "crate::plan::way_text")]
    pub way: Way,
    /// Why they differ; empty where they do not.
    pub reason: String,
    /// Scales of its input, output and inner tensors.
    pub params: LinearParams,
}

/// What one way of one Linear needs besides weight and bias.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinearParams {
    /// The input as the way takes it.
    pub input: QParams,
    /// The output; `None` is a high-precision output.
    pub output: Option<QParams>,
    /// The tensors between.
    pub inner: InnerParams,
    /// The integers that were fitted to its inputs, where it runs with those.
    pub fit: Option<LinearFit>,
}

/// Fitted integers of a Linear, and what a plan must know of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinearFit {
    /// What was fitted.
    pub fit: Fit,
    /// The same with the figures that were taken: `eq0.6+gptq`.
    pub made: String,
    /// Blob of the [`Fitted`](crate::fit::Fitted).
    pub blob: String,
    /// What the input's scale is multiplied by where the Linear reads it; 1 where it is not clipped.
    pub clip: f32,
    /// Largest magnitudes in calibration of the tensors inside a low-rank branch: the product with the
    /// weight, what the first factor makes, what the second makes.
    pub inside: Option<[f32; 3]>,
}

/// The tensors inside a way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum InnerParams {
    /// One integer GEMM: nothing between.
    Gemm,
    /// Mul, ReduceSum, Add; every tensor int16, per tensor.
    MulSum {
        /// Scale of the weight.
        weight: f32,
        /// Scale of the products.
        product: f32,
        /// Scale of the sums.
        sum: f32,
        /// Scale of the bias, where there is one.
        bias: Option<f32>,
    },
    /// A low-rank branch beside the weight and an Add; all three int16.
    LowRank {
        /// Scale of the product with the weight, bias included.
        main: f32,
        /// Scale between the branch's factors.
        inner: f32,
        /// Scale of what the branch makes.
        branch: f32,
    },
    /// Two int8 planes and an Add; both outputs int16.
    Split {
        /// Output scale of the high plane.
        high: f32,
        /// Output scale of the low plane.
        low: f32,
    },
}

/// What runs, complete: with the model it determines every integer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// By [`ValueId`]; constants included.
    pub values: Vec<ValuePlan>,
    /// By [`NodeId`] of each Linear.
    pub linears: BTreeMap<usize, LinearPlan>,
    /// Operands that a node takes in another dtype than their producer gives, by node and operand.
    pub operands: BTreeMap<(usize, usize), ValuePlan>,
    /// Observed input range of each table, by node: where its segments are worth most.
    pub table_ranges: BTreeMap<usize, (f32, f32)>,
    /// Ends of the segments of tables that are divided by what was seen, by node.
    pub divisions: BTreeMap<usize, [i32; SEGMENTS + 1]>,
}

impl LinearPlan {
    /// The way, and how it is fitted.
    pub fn way_name(&self) -> String {
        way_name(self.way, self.params.fit.as_ref().map(|fit| fit.fit))
    }
}

impl Plan {
    /// The value's parameters; `None` where it stays float.
    pub fn params(&self, value: ValueId) -> Option<QParams> {
        self.values.get(value.0).and_then(|value| value.effective)
    }

    /// What a node's table is built for; `None` where its input or output stays float.
    pub(crate) fn table(
        &self,
        graph: &Graph,
        id: NodeId,
        function: LutFunction,
    ) -> Result<Option<LutSpec>> {
        let node = graph.node(id);
        let output = node.outputs.first().and_then(|id| self.params(*id));
        let (Some(input), Some(output)) = (self.operand(graph, id, 0), output) else {
            return Ok(None);
        };
        Ok(Some(LutSpec {
            function,
            input: input.dtype,
            input_scale: Scale::new(input.scale).of(&node.name)?,
            output: output.dtype,
            output_scale: Scale::new(output.scale).of(&node.name)?,
            observed: self.table_ranges.get(&id.0).copied(),
        }))
    }

    /// Parameters of a node's operand as the node takes it.
    pub fn operand(&self, graph: &Graph, node: NodeId, operand: usize) -> Option<QParams> {
        if let Some(plan) = self.operands.get(&(node.0, operand)) {
            return plan.effective;
        }
        graph
            .node(node)
            .inputs
            .get(operand)
            .and_then(|value| self.params(*value))
    }
}

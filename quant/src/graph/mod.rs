//! A model as the operations NASH_M has. Lowering ([`lower`]) recognises Linear, LayerNorm,
//! Softmax and Gelu in the ONNX graph and decomposes them as the chip does; an ONNX node that has
//! no integer kernel becomes an [`Op::Island`], run in float and listed.
//!
//! A graph knows names, shapes and constants. It knows no scale, no dtype and no batch.

mod alternatives;
mod links;
mod lower;
mod masks;
mod names;

use std::sync::Arc;

use dual16_nash::{dtype::IntDtype, lut::LutFunction};
use ndarray::{ArcArray2, Array1};

use crate::tensor::Tensor;

use links::Links;
use masks::Masks;

pub use alternatives::{Alternative, Divided, Extended, Extension, Fragment};
pub use lower::lower;
pub use masks::Side;
pub use names::Names;

pub(crate) use masks::{Brought, Passage};

/// Index into [`Graph::values`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub usize);

/// Index into [`Graph::nodes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub usize);

/// The lowered model. Nodes are in an order in which every input is made before it is used.
#[derive(Debug, Clone)]
pub struct Graph {
    /// Every float tensor that flows, constants included.
    pub values: Vec<Value>,
    /// Every operation. Which run, and in which order, is [`Graph::running`].
    pub nodes: Vec<Node>,
    order: Vec<NodeId>,
    /// The model's float inputs.
    pub inputs: Vec<ValueId>,
    /// The model's float outputs, and the float values that its other outputs are computed from.
    pub outputs: Vec<ValueId>,
    /// The model's outputs that are integers or booleans and follow from activations.
    pub exact_outputs: Vec<ValueId>,
    /// Products with constant weights that are no [`Op::Linear`] here, and why.
    pub left_out: Vec<LeftOut>,
    links: Links,
    masks: Masks,
}

/// A MatMul or Gemm with a constant weight that is not run as a Linear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// What the file calls it.
    pub name: String,
    /// Why it is none.
    pub reason: String,
}

/// One tensor of the model that flows between operations.
#[derive(Debug, Clone)]
pub struct Value {
    /// Unique; what a person types and the tables print. The output of a node has the node's name
    /// (`blocks.0.fc1`); a constant has the name of its parameter (`layernorm.weight`).
    pub name: String,
    /// Name in the ONNX graph, where it has one; the inner values of a decomposition have none.
    pub onnx: Option<String>,
    /// Where it comes from.
    pub kind: ValueKind,
    /// Shape in the probe batch.
    pub shape: Vec<usize>,
    /// What its place in an alternative asks of its quantization.
    pub stated: Stated,
}

/// Dtype and scale that a value must have to be what it is; nothing, for most.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Stated {
    /// Integer type.
    pub dtype: Option<IntDtype>,
    /// Value of one step; finite and > 0.
    pub scale: Option<f32>,
    /// What its observed range is multiplied by, for room beyond it; > 0.
    pub room: Option<f32>,
}

/// Where a value comes from.
#[derive(Debug, Clone)]
pub enum ValueKind {
    /// Floats that the float run has: an input of the model, or what follows from shapes and integers
    /// alone.
    Input,
    /// A parameter or literal; quantized per tensor where an operation consumes it.
    Constant(Arc<Tensor>),
    /// Floats that a node makes.
    Activation,
    /// Integers or booleans that an island makes of activations. They have no scale.
    Exact,
}

impl ValueKind {
    /// Whether a value is a float tensor, which has a dtype and a scale.
    pub const fn is_float(&self) -> bool {
        !matches!(self, ValueKind::Exact)
    }
}

/// One operation.
#[derive(Debug, Clone)]
pub struct Node {
    /// Unique; see [`Names::name`].
    pub name: String,
    /// What the operation that it is of is called elsewhere.
    pub names: Arc<Names>,
    /// What it does.
    pub op: Op,
    /// Activations and constants consumed, in the operation's order.
    pub inputs: Vec<ValueId>,
    /// Values made: one, except for Split and islands.
    pub outputs: Vec<ValueId>,
}

/// What a node does. Shapes are in the order of ONNX.
#[derive(Debug, Clone)]
pub enum Op {
    /// `x [.., K] * weight[O, K]^T + bias`. Input: x.
    Linear(Linear),
    /// Product of two activations, batched as in numpy. Inputs: a `[.., M, K]`, b `[.., K, N]`.
    MatMul,
    /// Sums of products of two values of one shape: on the chip a batch of `[1, K] x [K, 1]` matrix
    /// products.
    Dot {
        /// Divided by K.
        mean: bool,
        /// Sorted, each in [0, rank).
        axes: Vec<usize>,
        /// Reduced axes stay, with length 1.
        keepdims: bool,
    },
    /// Broadcasting a + b.
    Add,
    /// Broadcasting a - b.
    Sub,
    /// Broadcasting a * b.
    Mul,
    /// Concatenation along an axis.
    Concat {
        /// In [0, rank).
        axis: usize,
    },
    /// Sum, mean or maximum over axes.
    Reduce {
        /// Which.
        kind: ReduceKind,
        /// Sorted, each in [0, rank).
        axes: Vec<usize>,
        /// Reduced axes stay, with length 1.
        keepdims: bool,
    },
    /// max(x, 0).
    Relu,
    /// x between two bounds: saturation, on the chip.
    Clip {
        /// Smallest value.
        min: f32,
        /// Largest value.
        max: f32,
    },
    /// The nearest of the 256 multiples of a step that int8 has: requantization, on the chip.
    ToInt8 {
        /// Finite and > 0; the scale of the output.
        step: f32,
    },
    /// (x - mean) / sqrt(var + eps) over the last axes, in fp16 between a dequantize and a quantize.
    LayerNormFp16 {
        /// How many axes, > 0.
        axes: usize,
        /// Added to the variance.
        eps: f64,
    },
    /// A function of one variable, by table on the chip.
    Lut(LutFunction),
    /// Values move, none changes; the scale is kept.
    Move(Move),
    /// No integer kernel: runs in float between dequantize and quantize.
    Island(Island),
}

impl Op {
    /// What the tables call it.
    pub(crate) fn name(&self) -> &str {
        match self {
            Op::Linear(_) => "Linear",
            Op::MatMul | Op::Dot { .. } => "MatMul",
            Op::Add => "Add",
            Op::Sub => "Sub",
            Op::Mul => "Mul",
            Op::Concat { .. } => "Concat",
            Op::Reduce { kind, .. } => match kind {
                ReduceKind::Sum => "ReduceSum",
                ReduceKind::Mean => "ReduceMean",
                ReduceKind::Max => "ReduceMax",
            },
            Op::Relu => "Relu",
            Op::Clip { .. } => "Clip",
            Op::ToInt8 { .. } => "Quantize",
            Op::LayerNormFp16 { .. } => "LayerNormFp16",
            Op::Lut(function) => function.name(),
            Op::Move(_) => "Move",
            Op::Island(island) => &island.op_type,
        }
    }
}

/// Which reduction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReduceKind {
    /// Sum.
    Sum,
    /// Arithmetic mean.
    Mean,
    /// Maximum (keeps the scale).
    Max,
}

/// A fully connected layer.
#[derive(Debug, Clone)]
pub struct Linear {
    /// `[O, K]`.
    pub weight: ArcArray2<f32>,
    /// `[O]`.
    pub bias: Option<Arc<Array1<f32>>>,
    /// What each output was divided by after the model was observed and integers were fitted; weight and
    /// bias have it in them already.
    pub divided: Option<Arc<Vec<f64>>>,
}

impl Linear {
    /// How much larger than observed a tensor inside may be: 1 unless outputs were divided, by less than 1
    /// perhaps.
    pub(crate) fn room(&self) -> f32 {
        let factors = self.divided.iter().flat_map(|factors| factors.iter());
        factors.fold(1.0_f64, |room, factor| room.max(factor.recip())) as f32
    }

    /// Multiplies the columns of the weight.
    fn multiply_columns(&mut self, factors: &[f64]) {
        let mut weight = self.weight.to_owned();
        for (mut column, factor) in weight.columns_mut().into_iter().zip(factors) {
            column.mapv_inplace(|w| (f64::from(w) * factor) as f32);
        }
        self.weight = weight.into_shared();
    }

    /// Divides the outputs.
    fn divide(&mut self, factors: &Arc<Vec<f64>>) {
        let mut weight = self.weight.to_owned();
        for (mut row, factor) in weight.rows_mut().into_iter().zip(factors.iter()) {
            row.mapv_inplace(|w| (f64::from(w) / factor) as f32);
        }
        self.weight = weight.into_shared();
        if let Some(bias) = &mut self.bias {
            let divided = bias.iter().zip(factors.iter());
            let divided = divided.map(|(&b, factor)| (f64::from(b) / factor) as f32);
            *bias = Arc::new(divided.collect());
        }
        self.divided = Some(Arc::clone(factors));
    }
}

/// An operation that only moves values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Move {
    /// Same elements in the same order (Reshape, Squeeze, Unsqueeze, Flatten, Identity, Dropout);
    /// the new shape is the one the float run gives.
    Reshape,
    /// A new axis of length 1.
    Unsqueeze {
        /// Where it is then, in [0, rank].
        axis: usize,
    },
    /// Permutation of axes.
    Transpose {
        /// Output axis i is input axis `perm[i]`.
        perm: Vec<usize>,
    },
    /// ONNX Slice with constant bounds: one entry for each axis it cuts. Bounds mean what they mean
    /// in ONNX, for the length of an axis may differ between batches.
    Slice {
        /// Each in [0, rank).
        axes: Vec<usize>,
        /// First index taken; negative counts from the back, out of range is clamped.
        starts: Vec<i64>,
        /// First index not taken, likewise; `i64::MAX` and `i64::MIN` = to the very end.
        ends: Vec<i64>,
        /// Never 0.
        steps: Vec<i64>,
    },
    /// ONNX Gather with constant indices.
    Gather {
        /// In [0, rank).
        axis: usize,
        /// In row-major order; negative counts from the back, for the length of the axis may differ
        /// between batches.
        indices: Vec<i64>,
        /// Shape of the indices.
        shape: Vec<usize>,
    },
    /// Broadcast to the shape that the float run gives.
    Expand,
    /// Cut along an axis into consecutive parts, one an output.
    Split {
        /// In [0, rank).
        axis: usize,
        /// How long they are.
        parts: Parts,
    },
}

/// Lengths of the parts of a Split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parts {
    /// Stated.
    Lengths(Vec<usize>),
    /// So many of one length, the last with what is left (ONNX, Split-18).
    Equal(usize),
}

impl Parts {
    /// The lengths for an axis; None where it cannot be cut so.
    pub fn of(&self, length: usize) -> Option<Vec<usize>> {
        match self {
            Parts::Lengths(lengths) => {
                (lengths.iter().sum::<usize>() == length).then(|| lengths.clone())
            }
            &Parts::Equal(count) => {
                let part = length.div_ceil(count.max(1));
                let start = |index: usize| (index * part).min(length);
                Some(
                    (0..count)
                        .map(|index| start(index + 1) - start(index))
                        .collect(),
                )
            }
        }
    }
}

/// A node that runs in float, or on integers as they are. Its node's inputs are the values of the
/// graph among what it consumes, its outputs those that follow from activations, in order.
#[derive(Debug, Clone)]
pub struct Island {
    /// Index of the node in the ONNX graph.
    pub onnx_node: usize,
    /// ONNX operator type: "Erf", "Conv".
    pub op_type: String,
    /// ONNX names of everything else it must be fed: shapes, indices, masks, folded constants.
    /// They are no values of the graph; the float run of the same batch has them.
    pub from_float_run: Vec<String>,
    /// For each output of the node, where it is among what the ONNX node makes.
    pub made: Vec<usize>,
    /// One of its constants is a number that masks, such as -inf.
    pub beside_mask: bool,
}

impl Graph {
    /// A graph of nodes in execution order, all of which run.
    fn new(
        values: Vec<Value>,
        nodes: Vec<Node>,
        inputs: Vec<ValueId>,
        outputs: Vec<ValueId>,
        exact_outputs: Vec<ValueId>,
    ) -> Self {
        let order = (0..nodes.len()).map(NodeId).collect();
        let graph = Self {
            links: Links::default(),
            masks: Masks::default(),
            values,
            nodes,
            order,
            inputs,
            outputs,
            exact_outputs,
            left_out: Vec::new(),
        };
        graph.linked()
    }

    /// The graph with what follows from its nodes and their order found anew.
    fn linked(mut self) -> Self {
        self.links = Links::of(&self);
        self.masks = Masks::of(&self);
        self
    }

    /// The nodes that run, each after those that make its inputs.
    pub fn running(&self) -> impl DoubleEndedIterator<Item = (NodeId, &Node)> + Clone {
        self.order.iter().map(|&id| (id, self.node(id)))
    }

    /// The value with this id.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.0]
    }

    /// The node with this id.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }

    /// Multiply-accumulates of a product over one batch of the graph's shapes; 0 of anything else.
    pub fn macs(&self, node: &Node) -> u64 {
        let (Some(a), Some(y)) = (node.inputs.first(), node.outputs.first()) else {
            return 0;
        };
        let lengths = |id: &ValueId| self.value(*id).shape.iter().map(|&length| length as u64);
        match node.op {
            Op::Linear(_) | Op::MatMul => {
                let inner = lengths(a).next_back().unwrap_or(1);
                lengths(y).fold(inner, u64::saturating_mul)
            }
            Op::Dot { .. } => lengths(a).fold(1, u64::saturating_mul),
            _ => 0,
        }
    }

    /// Every Linear with its node, in execution order.
    pub fn linears(&self) -> impl Iterator<Item = (NodeId, &Node, &Linear)> {
        self.running().filter_map(|(id, node)| match &node.op {
            Op::Linear(linear) => Some((id, node, linear)),
            _ => None,
        })
    }
}

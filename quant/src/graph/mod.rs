//! A model as the operations NASH_M has. Lowering ([`lower`]) recognises Linear, LayerNorm,
//! Softmax and Gelu in the ONNX graph and decomposes them as the chip does; an ONNX node that has
//! no integer kernel becomes an [`Op::Island`], run in float and listed.
//!
//! A graph knows names, shapes and constants. It knows no scale, no dtype and no batch.

mod links;
mod lower;
mod masks;

use std::sync::Arc;

use dual16_nash::lut::LutFunction;
use ndarray::{Array1, Array2};

use crate::tensor::Tensor;

use links::Links;
use masks::Masks;

pub use lower::lower;
pub use masks::Side;

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
    /// Every operation, in execution order.
    pub nodes: Vec<Node>,
    /// The model's float inputs.
    pub inputs: Vec<ValueId>,
    /// The model's float outputs.
    pub outputs: Vec<ValueId>,
    links: Links,
    masks: Masks,
}

/// One float tensor of the model.
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
}

/// Where a value comes from.
#[derive(Debug, Clone)]
pub enum ValueKind {
    /// An input of the model.
    Input,
    /// A parameter or literal; quantized per tensor where an operation consumes it.
    Constant(Arc<Tensor>),
    /// Output of a node.
    Activation,
}

/// One operation.
#[derive(Debug, Clone)]
pub struct Node {
    /// Unique; the PyTorch module name where the node is all there is of its module, the module
    /// name and the function's name otherwise, the ONNX node name where there is no metadata.
    pub name: String,
    /// PyTorch module path, shared by the nodes of one module; empty at the root.
    pub module: String,
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
    /// A function of one variable, by table on the chip.
    Lut(LutFunction),
    /// Values move, none changes; the scale is kept.
    Move(Move),
    /// No integer kernel: runs in float between dequantize and quantize.
    Island(Island),
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
    pub weight: Arc<Array2<f32>>,
    /// `[O]`.
    pub bias: Option<Arc<Array1<f32>>>,
}

/// An operation that only moves values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Move {
    /// Same elements in the same order (Reshape, Squeeze, Unsqueeze, Flatten, Identity, Dropout);
    /// the new shape is the one the float run gives.
    Reshape,
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
        /// Each in [0, length of the axis), in row-major order.
        indices: Vec<usize>,
        /// Shape of the indices.
        shape: Vec<usize>,
    },
    /// Broadcast to the shape that the float run gives.
    Expand,
    /// Cut along an axis into consecutive parts, one an output.
    Split {
        /// In [0, rank).
        axis: usize,
        /// Length of each part.
        sizes: Vec<usize>,
    },
}

/// A node that runs in float. Its node's inputs are the activations among what it consumes, its
/// outputs all its float outputs in order.
#[derive(Debug, Clone)]
pub struct Island {
    /// Index of the node in the ONNX graph.
    pub onnx_node: usize,
    /// ONNX operator type: "Erf", "Conv".
    pub op_type: String,
    /// ONNX names of everything else it must be fed: shapes, indices, masks, folded constants.
    /// They are no values of the graph; the float run of the same batch has them.
    pub from_float_run: Vec<String>,
}

impl Graph {
    /// A graph of nodes in execution order.
    fn new(
        values: Vec<Value>,
        nodes: Vec<Node>,
        inputs: Vec<ValueId>,
        outputs: Vec<ValueId>,
    ) -> Self {
        let mut graph = Self {
            links: Links::of(&values, &nodes, &outputs),
            masks: Masks::default(),
            values,
            nodes,
            inputs,
            outputs,
        };
        graph.masks = Masks::of(&graph);
        graph
    }

    /// The value with this id.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.0]
    }

    /// The node with this id.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }

    /// Every Linear with its node, in execution order.
    pub fn linears(&self) -> impl Iterator<Item = (NodeId, &Node, &Linear)> {
        self.nodes
            .iter()
            .enumerate()
            .filter_map(|(i, node)| match &node.op {
                Op::Linear(linear) => Some((NodeId(i), node, linear)),
                _ => None,
            })
    }
}

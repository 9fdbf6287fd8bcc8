//! Which nodes calculate with doubles in a way that can lose what f32 has not: the form holds every
//! float in f32, and a float run looks at the operands of these as it meets them.

use std::collections::{BTreeMap, HashSet};

use super::known::{Known, is_float};
use crate::onnx::{DataType, NodeProto};

/// How a node can lose what its doubles were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// A sum of two that nearly cancel.
    Sum,
    /// A difference, or a comparison of two.
    Difference,
    /// What depends on how the elements of one tensor differ.
    Spread,
    /// What depends on how elements along an axis differ, absolutely.
    Exponent,
    /// The integer next to a number.
    Integer,
    /// The rest of a division.
    Rest,
    /// A function of an angle.
    Angle,
    /// A number beyond the largest f32.
    Overflow,
    /// A number below the least f32, which another is divided by, or whose logarithm is taken: operand by place.
    Underflow(usize),
    /// A sum over the axes of one tensor, that nearly cancels.
    Total,
    /// A sum of products.
    Product,
    /// Integers that become doubles.
    Widened,
}

/// A node to look at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Watch {
    pub(crate) loss: Loss,
    /// Whether its first operands are what the model was given, only moved: integers among them are
    /// those that were given, up to 24 bits.
    pub(crate) given: [bool; 2],
}

/// Notes of what a node makes that it is of doubles, which its type in the form does not say: a Cast to
/// doubles is one to floats there.
pub(super) fn infer(node: &NodeProto, known: &mut Known<'_>) {
    let casts = matches!(
        node.op_type.as_str(),
        "Cast" | "Narrow" | "DequantizeLinear"
    );
    if casts || !node.input.iter().any(|name| known.is_double(name)) {
        return;
    }
    for name in &node.output {
        if is_float(known.elem(name)) {
            known.is_double_now(name);
        }
    }
}

/// The nodes to look at, by their places.
pub(super) fn watched(
    nodes: &[NodeProto],
    inputs: &[String],
    known: &Known<'_>,
) -> BTreeMap<usize, Watch> {
    let mut given: HashSet<&str> = inputs.iter().map(String::as_str).collect();
    let mut watched = BTreeMap::new();
    for (index, node) in nodes.iter().enumerate() {
        let is_given = |place: usize| {
            let name = node.input.get(place).map(String::as_str);
            name.is_some_and(|name| given.contains(name) || known.is_constant(name))
        };
        if let Some(loss) = loss(node, known) {
            let given = [is_given(0), is_given(1)];
            watched.insert(index, Watch { loss, given });
        }
        let moves = matches!(
            node.op_type.as_str(),
            "Identity"
                | "Reshape"
                | "Flatten"
                | "Squeeze"
                | "Unsqueeze"
                | "Transpose"
                | "Slice"
                | "Gather"
                | "Split"
                | "Expand"
        );
        // Integers up to 24 bits stay themselves as doubles.
        let widens = node.op_type == "Cast" && node.input.iter().all(|x| known.is_integer(x));
        if (moves && is_given(0)) || widens {
            given.extend(node.output.iter().map(String::as_str));
        }
    }
    watched
}

fn loss(node: &NodeProto, known: &Known<'_>) -> Option<Loss> {
    let double = |place: usize| {
        let name = node.input.get(place);
        name.is_some_and(|name| known.is_double(name))
    };
    let output = node.output.first()?;
    if node.op_type == "Cast" {
        let whole = known.is_integer(output);
        let widened = known.is_double(output) && known.is_integer(node.input.first()?);
        return match (double(0) && whole, widened) {
            (true, _) => Some(Loss::Integer),
            (_, true) => Some(Loss::Widened),
            _ => None,
        };
    }
    if !double(0) && !double(1) {
        return None;
    }
    Some(match node.op_type.as_str() {
        "Add" => Loss::Sum,
        "Sub" | "Equal" | "Less" | "LessOrEqual" | "Greater" | "GreaterOrEqual" => Loss::Difference,
        "ArgMax" | "ArgMin" | "TopK" | "LayerNormalization" | "InstanceNormalization" => {
            Loss::Spread
        }
        "Softmax" | "LogSoftmax" => Loss::Exponent,
        "Floor" | "Ceil" | "Round" => Loss::Integer,
        "Mod" => Loss::Rest,
        "Sin" | "Cos" | "Tan" => Loss::Angle,
        "Exp" | "Pow" | "Mul" | "ReduceProd" | "ReduceSumSquare" | "ReduceL2" => Loss::Overflow,
        "Log" | "Reciprocal" => Loss::Underflow(0),
        "Div" => Loss::Underflow(1),
        "ReduceSum" | "ReduceMean" | "CumSum" => Loss::Total,
        "MatMul" | "Gemm" | "Conv" | "ConvTranspose" | "Einsum" => Loss::Product,
        _ => return None,
    })
}

/// Whether a node of the file makes doubles of whatever it is given.
pub(super) fn makes_doubles(node: &NodeProto, known: &Known<'_>) -> bool {
    let to = node
        .attribute
        .iter()
        .find(|attribute| attribute.name == "to");
    match node.op_type.as_str() {
        "Cast" => to.and_then(|to| to.i) == Some(i32::from(DataType::Double).into()),
        "CastLike" => node.input.get(1).is_some_and(|like| known.is_double(like)),
        _ => false,
    }
}

//! Types and shapes of what a node makes, as far as they follow from what it is given. Only used to
//! choose rewrites: whatever is not known here is unknown, never guessed.

use super::known::{Known, ValueType, counted};
use crate::onnx::{DataType, NodeProto};

type Shape = Option<Vec<Option<usize>>>;

/// Notes what is known of the outputs of a node that is in canonical form.
pub(super) fn infer(node: &NodeProto, known: &mut Known<'_>) {
    let types: Vec<ValueType> = (0..node.output.len())
        .map(|index| ValueType {
            elem: elem(node, known, index),
            shape: shape(node, known, index),
        })
        .collect();
    let lengths = makes_lengths(node, known);
    for (name, of) in node.output.iter().zip(types) {
        if !name.is_empty() {
            known.made(name, of);
            if lengths {
                known.is_length_now(name);
            }
        }
    }
    known.moves(node);
    known.follows(node);
}

/// Whether what a node makes follows from lengths and small constants alone.
fn makes_lengths(node: &NodeProto, known: &Known<'_>) -> bool {
    match node.op_type.as_str() {
        "Shape" | "Size" | "ArgMax" | "ArgMin" | "NonZero" | "NonMaxSuppression"
        | "ConstantOfShape" | "EyeLike" | "SequenceLength" => true,
        "Identity" | "Cast" | "Gather" | "Slice" | "Concat" | "Squeeze" | "Unsqueeze"
        | "Reshape" | "Flatten" | "Transpose" | "Expand" | "Tile" | "Split" | "Add" | "Sub"
        | "Mul" | "Div" | "Mod" | "Neg" | "Abs" | "Min" | "Max" | "Clip" | "Floor" | "Ceil"
        | "Round" | "Sqrt" | "Where" | "Range" | "ReduceProd" | "ReduceSum" | "ReduceMax"
        | "ReduceMin" | "ReduceMean" | "CumSum" | "GatherElements" | "GatherND"
        | "ScatterElements" | "ScatterND" | "Trilu" | "OneHot" | "Pad" | "Relu" => {
            let mut inputs = node.input.iter().filter(|name| !name.is_empty());
            inputs.all(|name| known.is_length(name))
        }
        _ => false,
    }
}

fn elem(node: &NodeProto, known: &Known<'_>, output: usize) -> DataType {
    let input = |index: usize| {
        node.input
            .get(index)
            .map_or(DataType::Undefined, |name| known.elem(name))
    };
    let first = output == 0 && !node.op_type.starts_with("Arg");
    if node.domain == super::OWN_DOMAIN && first {
        let stated = attribute_elem(node, "elem");
        if !matches!(node.op_type.as_str(), "DequantizeLinear" | "Narrow")
            && stated != DataType::Undefined
        {
            return stated;
        }
    }
    match node.op_type.as_str() {
        "Shape" | "Size" | "NonZero" | "ArgMax" | "ArgMin" | "NonMaxSuppression" => DataType::Int64,
        "TopK" if output == 1 => DataType::Int64,
        "Unique" if output > 0 => DataType::Int64,
        "SequenceLength" => DataType::Int64,
        "HannWindow" | "HammingWindow" | "BlackmanWindow" | "MelWeightMatrix" => {
            match attribute_elem(node, "output_datatype") {
                DataType::Undefined => DataType::Float,
                of => of,
            }
        }
        "MaxPool" if output == 1 => DataType::Int64,
        "Equal" | "Less" | "LessOrEqual" | "Greater" | "GreaterOrEqual" | "And" | "Or" | "Xor"
        | "Not" | "IsNaN" | "IsInf" => DataType::Bool,
        "Dropout" if output == 1 => DataType::Bool,
        "Cast" => attribute_elem(node, "to"),
        "ConstantOfShape" => {
            let value = node
                .attribute
                .iter()
                .find_map(|attribute| attribute.t.as_ref());
            value.map_or(DataType::Float, |tensor| tensor.element_type())
        }
        "EyeLike" => match attribute_elem(node, "dtype") {
            DataType::Undefined => input(0),
            of => of,
        },
        "Where" => input(1),
        "OneHot" => input(2),
        "QuantizeLinear" | "DynamicQuantizeLinear" => match output {
            0 => DataType::Undefined,
            2 => DataType::Uint8,
            _ => DataType::Float,
        },
        "DequantizeLinear" => DataType::Float,
        "MatMulInteger" | "ConvInteger" => DataType::Int32,
        "If" | "Loop" => of_body(node, output),
        "Scan" | "SequenceAt" => DataType::Undefined,
        _ => input(0),
    }
}

/// Length of a vector between constant bounds.
fn slice_length(node: &NodeProto, known: &Known<'_>, length: Option<usize>) -> Option<usize> {
    let one = |index: usize| match known.ints(node.input.get(index)?)?.as_slice() {
        &[one] => Some(one),
        _ => None,
    };
    let step = match node.input.get(4).filter(|name| !name.is_empty()) {
        Some(_) => one(4)?,
        None => 1,
    };
    let (start, end, length) = (one(1)?, one(2)?, i64::try_from(length?).ok()?);
    let within = |bound: i64| {
        if bound < 0 {
            bound.saturating_add(length)
        } else {
            bound
        }
        .clamp(0, length)
    };
    let taken = (within(end) - within(start)).max(0);
    (step == 1).then(|| usize::try_from(taken).ok()).flatten()
}

/// Rank on which both branches of an If agree, as they declare it.
fn of_branches(node: &NodeProto, output: usize) -> Shape {
    let declared = node.attribute.iter().filter_map(|attribute| {
        let body = attribute.g.as_ref()?;
        Some(ValueType::declared(body.output.get(output)?)?.shape?.len())
    });
    let ranks: Vec<usize> = declared.collect();
    match ranks.as_slice() {
        &[one, other] if one == other => Some(vec![None; one]),
        _ => None,
    }
}

/// What the body of a node declares its output to be; the first a Loop's body makes is its condition.
fn of_body(node: &NodeProto, output: usize) -> DataType {
    let place = output + usize::from(node.op_type == "Loop");
    let declared = node
        .attribute
        .iter()
        .find_map(|attribute| attribute.g.as_ref())
        .and_then(|body| ValueType::declared(body.output.get(place)?));
    declared.map_or(DataType::Undefined, |of| of.elem)
}

fn attribute_elem(node: &NodeProto, name: &str) -> DataType {
    let found = node
        .attribute
        .iter()
        .find(|attribute| attribute.name == name);
    found
        .and_then(|attribute| DataType::try_from(attribute.i? as i32).ok())
        .unwrap_or(DataType::Undefined)
}

fn shape(node: &NodeProto, known: &Known<'_>, output: usize) -> Shape {
    let of = |index: usize| known.value(node.input.get(index)?).shape;
    let unknown = |rank: usize| Some(vec![None; rank]);
    let rank = |index: usize| of(index).map(|shape| shape.len());
    match node.op_type.as_str() {
        "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Mod" | "Equal" | "Less" | "LessOrEqual"
        | "Greater" | "GreaterOrEqual" | "And" | "Or" | "Xor" | "Max" | "Min" | "Where"
        | "PRelu" | "Sum" | "Mean" => {
            let shapes: Option<Vec<_>> = (0..node.input.len()).map(of).collect();
            shapes?.into_iter().reduce(|a, b| broadcast(&a, &b))
        }
        "MatMul" => product(&of(0)?, &of(1)?),
        "Gemm" => unknown(2),
        "Slice" if rank(0) == Some(1) => Some(vec![slice_length(node, known, of(0)?[0])]),
        "Conv" | "MaxPool" | "AveragePool" | "Resize" | "Slice" | "Pad" | "Tile"
        | "ConvTranspose" | "GlobalAveragePool" | "GlobalMaxPool" | "ConvInteger" | "LpPool" => {
            let mut shape: Vec<Option<usize>> = vec![None; rank(0)?];
            if node.op_type != "Slice" && node.op_type != "Tile" && node.op_type != "Pad" {
                shape[..1].copy_from_slice(&of(0)?[..1.min(rank(0)?)]);
            }
            Some(shape)
        }
        "Transpose" => {
            let x = of(0)?;
            match ints(node, "perm") {
                Some(perm) => perm
                    .iter()
                    .map(|&axis| x.get(usize::try_from(axis).ok()?).copied())
                    .collect(),
                None => Some(x.into_iter().rev().collect()),
            }
        }
        "Reshape" => {
            let name = node.input.get(1)?;
            if let Some(dims) = known.ints(name) {
                let x = of(0);
                let length = |(index, &dim): (usize, &i64)| match dim {
                    0 => x.as_ref().and_then(|x| *x.get(index)?),
                    dim => usize::try_from(dim).ok(),
                };
                return Some(dims.iter().enumerate().map(length).collect());
            }
            unknown((*known.value(name).shape?.first()?)?)
        }
        "Expand" => {
            let target = (*known.value(node.input.get(1)?).shape?.first()?)?;
            unknown(target.max(rank(0)?))
        }
        "ConstantOfShape" => unknown((*of(0)?.first()?)?),
        "Flatten" => unknown(2),
        "Shape" => Some(vec![rank(0)]),
        "Size" => Some(Vec::new()),
        "Unsqueeze" => {
            let axes = known.ints(node.input.get(1)?)?;
            unknown(rank(0)? + axes.len())
        }
        "Squeeze" => {
            let axes = known.ints(node.input.get(1)?)?;
            unknown(rank(0)?.checked_sub(axes.len())?)
        }
        "Gather" => {
            let (x, indices) = (of(0)?, of(1)?);
            let axis = counted(int(node, "axis").unwrap_or(0), x.len())?;
            let mut shape = x[..axis].to_vec();
            shape.extend(indices);
            shape.extend(&x[axis + 1..]);
            Some(shape)
        }
        "Concat" => {
            let mut shape = of(0)?;
            let axis = counted(int(node, "axis")?, shape.len())?;
            let length = |index: usize| of(index)?.get(axis).copied().flatten();
            let lengths: Option<Vec<usize>> = (0..node.input.len()).map(length).collect();
            shape[axis] = lengths.map(|lengths| lengths.iter().sum());
            Some(shape)
        }
        "Split" => {
            let mut shape = of(0)?;
            let axis = counted(int(node, "axis").unwrap_or(0), shape.len())?;
            shape[axis] = None;
            Some(shape)
        }
        op if op.starts_with("Reduce") || op == "ArgMax" || op == "ArgMin" => {
            let x = of(0)?;
            if int(node, "keepdims").unwrap_or(1) != 0 {
                return unknown(x.len());
            }
            if op.starts_with("Arg") {
                return unknown(x.len().checked_sub(1)?);
            }
            let axes = node.input.get(1).filter(|name| !name.is_empty());
            unknown(x.len().checked_sub(known.ints(axes?)?.len())?)
        }
        "LayerNormalization" | "Dropout" if output > 0 => None,
        "Identity"
        | "Relu"
        | "Softmax"
        | "LogSoftmax"
        | "Cast"
        | "Sigmoid"
        | "Tanh"
        | "Erf"
        | "Exp"
        | "Log"
        | "Sqrt"
        | "Neg"
        | "Abs"
        | "Not"
        | "Clip"
        | "LeakyRelu"
        | "Elu"
        | "Gelu"
        | "Dropout"
        | "LayerNormalization"
        | "InstanceNormalization"
        | "BatchNormalization"
        | "Trilu"
        | "CumSum"
        | "Reciprocal"
        | "Softplus"
        | "Floor"
        | "Ceil"
        | "Round"
        | "Sin"
        | "Cos"
        | "HardSigmoid"
        | "QuantizeLinear"
        | "DequantizeLinear"
        | "IsNaN"
        | "IsInf"
        | "ScatterND"
        | "ScatterElements"
        | "Round16"
        | "Sign" => match output {
            0 => of(0),
            _ => None,
        },
        "RNN" | "GRU" | "LSTM" => unknown(if output == 0 { 4 } else { 3 }),
        "TopK" => unknown(rank(0)?),
        "Range" => unknown(1),
        "NonZero" => unknown(2),
        "OneHot" => unknown(rank(0)? + 1),
        "GatherElements" => of(1),
        "GatherND" => {
            let within =
                (*of(1)?.last()?)? + usize::try_from(int(node, "batch_dims").unwrap_or(0)).ok()?;
            unknown((rank(1)? + rank(0)?).checked_sub(within + 1)?)
        }
        "DepthToSpace" | "SpaceToDepth" | "GridSample" => unknown(rank(0)?),
        "If" => of_branches(node, output),
        "Einsum" => {
            let text = node
                .attribute
                .iter()
                .find(|found| found.name == "equation")?;
            let text = std::str::from_utf8(text.s.as_ref()?).ok()?;
            let (_, made) = text.split_once("->")?;
            let letters = made.chars().filter(char::is_ascii_alphabetic).count();
            (!made.contains('.')).then(|| vec![None; letters])
        }
        "EyeLike" | "LpNormalization" | "Softsign" | "RMSNormalization" | "Sinh" | "Cosh"
        | "Tan" => of(0),
        _ => None,
    }
}

fn broadcast(a: &[Option<usize>], b: &[Option<usize>]) -> Vec<Option<usize>> {
    let rank = a.len().max(b.len());
    let at = |shape: &[Option<usize>], index: usize| match (index + shape.len()).checked_sub(rank) {
        Some(index) => shape[index],
        None => Some(1),
    };
    (0..rank)
        .map(|index| match (at(a, index), at(b, index)) {
            (Some(1), other) | (other, Some(1)) => other,
            (Some(length), _) | (_, Some(length)) => Some(length),
            _ => None,
        })
        .collect()
}

fn product(a: &[Option<usize>], b: &[Option<usize>]) -> Shape {
    match (a, b) {
        ([], _) | (_, []) => None,
        ([_], [_]) => Some(Vec::new()),
        ([_], [batch @ .., _, n]) => Some(batch.iter().chain([n]).copied().collect()),
        ([batch @ .., m, _], [_]) => Some(batch.iter().chain([m]).copied().collect()),
        ([a_batch @ .., m, _], [b_batch @ .., _, n]) => {
            let mut shape = broadcast(a_batch, b_batch);
            shape.extend([m, n]);
            Some(shape)
        }
    }
}

fn int(node: &NodeProto, name: &str) -> Option<i64> {
    node.attribute
        .iter()
        .find(|attribute| attribute.name == name)?
        .i
}

fn ints<'n>(node: &'n NodeProto, name: &str) -> Option<&'n [i64]> {
    let found = node
        .attribute
        .iter()
        .find(|attribute| attribute.name == name)?;
    Some(&found.ints)
}

//! Arithmetic on integers. rten holds them in 32 bits, so what may leave those, or wraps in a
//! narrower type, goes to kernels of our own that notice. What follows from the lengths of tensors
//! and constants alone stays: lengths and numbers of elements are far from 32 bits. So does what only
//! counts in the body of a Loop; what else calculates there with 64-bit integers is refused.

use super::{
    Node, Rewritten,
    kernels::{elem_attribute, nowhere_nested, to_kernel},
};
use crate::{
    canonical::{
        known::{Known, is_float, is_integer},
        replacement::{Replacement, int_attribute},
    },
    onnx::DataType,
};

pub(super) fn rewrite(known: &Known<'_>, node: &Node<'_>) -> Rewritten {
    use DataType as T;
    let op = node.op();
    match op {
        "Add" | "Sub" | "Mul" | "Div" | "Mod" | "Neg" | "Abs" | "CumSum" | "ReduceSum"
        | "ReduceMean" | "ReduceProd" | "ReduceL1" | "ReduceSumSquare" | "MatMul" | "Range"
        | "Pow" => {}
        "ScatterND" if matches!(node.text("reduction"), Some("add" | "mul")) => {}
        "BitShift" | "BitwiseAnd" | "BitwiseOr" | "BitwiseXor" | "BitwiseNot" => {
            return to_kernel(known, node, vec![elem_attribute(elem(known, node))]);
        }
        "Max" | "Min" | "Clip" | "Equal" | "Less" | "LessOrEqual" | "Greater"
        | "GreaterOrEqual" | "Where" | "ReduceMax" | "ReduceMin" | "ArgMax" | "ArgMin" | "TopK"
        | "PRelu" | "Trilu" | "OneHot" | "Gemm" | "EyeLike" => return bytes(known, node),
        "Relu" if known.is_integer(node.needs(0)?) => {
            let mut new = Replacement::of(node.proto);
            let zero = new.number(0, known.elem(node.needs(0)?));
            return Ok(Some(new.last("Max", &[node.needs(0)?, &zero])));
        }
        _ => return Ok(None),
    }
    let elem = elem(known, node);
    if !is_integer(elem) {
        return Ok(None);
    }
    let wide = matches!(elem, T::Int64 | T::Int32);
    // These two make nothing larger than they are given; only a divisor of 0 is to be noticed.
    let lengths = node
        .inputs()
        .iter()
        .filter(|name| !name.is_empty())
        .all(|name| known.is_length(name));
    if wide && lengths && op != "ReduceMean" {
        return Ok(None);
    }
    if elem == T::Int32 && matches!(op, "Add" | "Sub" | "Mul" | "Neg" | "Abs") {
        // It wraps, as ONNX's does.
        return Ok(None);
    }
    to_kernel(known, node, vec![elem_attribute(elem)])
}

/// Type of a node's integers: a constant may have been widened.
fn elem(known: &Known<'_>, node: &Node<'_>) -> DataType {
    let operands = match node.op() {
        "CumSum" => 1,
        op if op.starts_with("Reduce") => 1,
        "Pow" | "ScatterND" => 1,
        _ => usize::MAX,
    };
    let elems: Vec<DataType> = node
        .inputs()
        .iter()
        .take(operands)
        .map(|name| known.elem(name))
        .collect();
    let narrow = elems
        .iter()
        .find(|&&elem| elem != DataType::Int64 && elem != DataType::Undefined);
    let any = elems.iter().find(|&&elem| elem != DataType::Undefined);
    narrow.or(any).copied().unwrap_or(DataType::Undefined)
}

/// Comparisons and choices of bytes, which rten has for wider integers only: the same in 32 bits.
fn bytes(known: &Known<'_>, node: &Node<'_>) -> Rewritten {
    use DataType as T;
    let is_byte = |name: &&str| matches!(known.elem(name), T::Int8 | T::Uint8);
    let inputs = node.inputs();
    let Some(byte) = inputs.iter().find(|name| is_byte(name)) else {
        return Ok(None);
    };
    let elem = known.elem(byte);
    let to = |elem: DataType| vec![int_attribute("to", i32::from(elem).into())];
    let mut new = Replacement::of(node.proto);
    let widened: Vec<String> = inputs
        .iter()
        .map(|name| match is_byte(name) {
            true => new.node_with("Cast", &[name], to(T::Int32)),
            false => (*name).to_owned(),
        })
        .collect();
    let widened: Vec<&str> = widened.iter().map(String::as_str).collect();
    let attributes = node.attributes_but(&[]);
    let same = match node.op() {
        "Equal" | "Less" | "LessOrEqual" | "Greater" | "GreaterOrEqual" | "ArgMax" | "ArgMin" => {
            return Ok(Some(new.last_with(node.op(), &widened, attributes)));
        }
        "OneHot" if !inputs.get(2).is_some_and(is_byte) => {
            return Ok(Some(new.last_with(node.op(), &widened, attributes)));
        }
        "Where" if !inputs.iter().skip(1).any(is_byte) => return Ok(None),
        op => op,
    };
    let outputs = node.proto.output.len();
    if outputs > 1 {
        let made = new.node_of(same, &widened, outputs, attributes);
        let parts = made.iter().enumerate().map(|(index, name)| match index {
            0 => ("Cast", vec![name.as_str()], to(elem)),
            _ => ("Identity", vec![name.as_str()], Vec::new()),
        });
        let parts = parts.collect();
        return Ok(Some(new.last_each(parts)));
    }
    let made = new.node_with(same, &widened, attributes);
    Ok(Some(new.last_with("Cast", &[&made], to(elem))))
}

/// Whether a Cast has to be exact about its types; see `cast`.
pub(super) fn exact_cast(known: &Known<'_>, x: &str, to: DataType) -> bool {
    use DataType as T;
    let from = known.elem(x);
    if from == T::Bool || from == to {
        return false;
    }
    let whole = known.is_length(x);
    match to {
        // Inside a body none of our kernels runs. ONNX does not say what floats beyond the type become,
        // and rten wraps integers as it does.
        T::Int32 | T::Int8 | T::Uint8 if known.nested => false,
        T::Int64 | T::Int32 => (is_float(from) || from == T::Undefined) && !whole,
        T::Int16 => !matches!(from, T::Int8 | T::Uint8),
        T::Uint16 => from != T::Uint8,
        T::Uint32 | T::Uint64 => !matches!(from, T::Uint8 | T::Uint16),
        T::Int8 | T::Uint8 | T::Int4 | T::Uint4 => true,
        _ => false,
    }
}

/// A Cast by our own kernel.
pub(super) fn to_integer(known: &Known<'_>, node: &Node<'_>, x: &str, to: DataType) -> Rewritten {
    nowhere_nested(known)?;
    let new = Replacement::of(node.proto);
    Ok(Some(new.last_own("Cast", &[x], vec![elem_attribute(to)])))
}

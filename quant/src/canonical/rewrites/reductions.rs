//! Reductions over no axis at all (`noop_with_empty_axes`): what they do to one element (ONNX,
//! ReduceSum-13 and the like since 18). And the extremes of no element, which are the least and the largest
//! of the type (ReduceMax-20, ReduceMin-20); narrow types are held in 32 bits here, whose are others.

use super::{Node, Rewritten};
use crate::{
    canonical::{
        known::Known,
        replacement::{Replacement, int_attribute},
    },
    onnx::DataType,
};

pub(super) fn rewrite(known: &Known<'_>, node: &Node<'_>) -> Rewritten {
    let none = match node.input(1) {
        Some(axes) => known.ints(axes).is_some_and(|axes| axes.is_empty()),
        None => true,
    };
    let is_reduction = node.op().starts_with("Reduce");
    if let Some(nodes) = narrow_extreme(known, node)? {
        return Ok(Some(nodes));
    }
    if !is_reduction || !none || node.int("noop_with_empty_axes").unwrap_or(0) == 0 {
        return Ok(None);
    }
    let x = node.needs(0)?;
    let new = Replacement::of(node.proto);
    Ok(Some(match node.op() {
        "ReduceL1" | "ReduceL2" => new.last("Abs", &[x]),
        "ReduceSumSquare" => new.last("Mul", &[x, x]),
        "ReduceLogSum" => new.last("Log", &[x]),
        _ => new.last("Identity", &[x]),
    }))
}

/// In 32 bits, bounded by what the type holds.
fn narrow_extreme(known: &Known<'_>, node: &Node<'_>) -> Rewritten {
    let largest = match node.op() {
        "ReduceMax" => true,
        "ReduceMin" => false,
        _ => return Ok(None),
    };
    let x = node.needs(0)?;
    let elem = known.elem(x);
    let (low, high) = match elem {
        DataType::Bool => (0, 1),
        DataType::Int8 => (i8::MIN.into(), i8::MAX.into()),
        DataType::Uint8 => (0, u8::MAX.into()),
        DataType::Int16 => (i16::MIN.into(), i16::MAX.into()),
        DataType::Uint16 => (0, u16::MAX.into()),
        _ => return Ok(None),
    };
    let mut new = Replacement::of(node.proto);
    let to = |elem: DataType| vec![int_attribute("to", i32::from(elem).into())];
    let wide = new.node_with("Cast", &[x], to(DataType::Int32));
    let axes = node.inputs();
    let inputs: Vec<&str> = [wide.as_str()]
        .into_iter()
        .chain(axes.iter().skip(1).copied())
        .collect();
    let extreme = new.node_with(node.op(), &inputs, node.attributes_but(&[]));
    let (bound, by) = if largest { (low, "Max") } else { (high, "Min") };
    let bound = new.number(bound, DataType::Int32);
    let bounded = new.node(by, &[&extreme, &bound]);
    Ok(Some(new.last_with("Cast", &[&bounded], to(elem))))
}

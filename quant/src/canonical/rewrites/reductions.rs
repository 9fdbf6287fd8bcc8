//! Reductions over no axis at all (`noop_with_empty_axes`): what they do to one element (ONNX,
//! ReduceSum-13 and the like since 18).

use super::{Node, Rewritten};
use crate::canonical::{known::Known, replacement::Replacement};

pub(super) fn rewrite(known: &Known<'_>, node: &Node<'_>) -> Rewritten {
    let none = match node.input(1) {
        Some(axes) => known.ints(axes).is_some_and(|axes| axes.is_empty()),
        None => true,
    };
    let is_reduction = node.op().starts_with("Reduce");
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

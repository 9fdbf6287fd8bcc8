//! Sums, means and maxima over axes.

use super::build::{Build, Unit};
use crate::{
    error::Result,
    graph::{Op, ReduceKind},
    model::OnnxNode,
};

/// Lowers a node alone, if its operator is one of these and its axes are constant.
pub(super) fn lower<'a>(build: &mut Build<'a>, unit: &Unit<'a>) -> Result<bool> {
    let node = unit.node;
    let kind = match node.standard_op() {
        "ReduceSum" => ReduceKind::Sum,
        "ReduceMean" | "GlobalAveragePool" => ReduceKind::Mean,
        "ReduceMax" => ReduceKind::Max,
        _ => return Ok(false),
    };
    let Some(x) = node.input(0).filter(|x| build.facts.is_activation(x)) else {
        return Ok(false);
    };
    let Some(axes) = axes(build, node, x).filter(|axes| !axes.is_empty()) else {
        return Ok(false);
    };
    let keepdims = node.int("keepdims").unwrap_or(1) != 0;
    let x = build.input(x)?;
    build.output(
        unit,
        Op::Reduce {
            kind,
            axes,
            keepdims,
        },
        vec![x],
    )?;
    Ok(true)
}

/// Axes are an attribute in older operator sets and an input in newer ones; none at all means
/// every one, unless the node says that it means none.
fn axes(build: &Build<'_>, node: &OnnxNode, x: &str) -> Option<Vec<usize>> {
    let rank = build.facts.rank(x)?;
    if node.standard_op() == "GlobalAveragePool" {
        return Some((2..rank).collect());
    }
    let given = match node.input(1) {
        Some(name) => build.facts.integers(name)?,
        None => node.ints("axes").unwrap_or_default(),
    };
    if given.is_empty() {
        let none = node.int("noop_with_empty_axes").unwrap_or(0) != 0;
        return Some(if none {
            Vec::new()
        } else {
            (0..rank).collect()
        });
    }
    let mut axes: Vec<usize> = given
        .iter()
        .map(|&axis| build.facts.axis(x, axis))
        .collect::<Option<_>>()?;
    axes.sort_unstable();
    axes.dedup();
    Some(axes)
}

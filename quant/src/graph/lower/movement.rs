//! Operations that only move values.

use super::build::{Build, Unit};
use crate::{
    error::Result,
    graph::{Move, Op, ValueId},
    model::OnnxNode,
};

/// Lowers a node alone, if its operator is one of these and its parameters are constant.
pub(super) fn lower<'a>(build: &mut Build<'a>, unit: &Unit<'a>) -> Result<bool> {
    let node = unit.node;
    if node.standard_op() == "Concat" {
        return concat(build, unit);
    }
    let Some(x) = node.input(0).filter(|x| build.facts.is_activation(x)) else {
        return Ok(false);
    };
    let movement = match node.standard_op() {
        // A Cast that ends here makes floats of floats.
        "Reshape" | "Squeeze" | "Unsqueeze" | "Flatten" | "Identity" | "Dropout" | "Cast" => {
            Some(Move::Reshape)
        }
        "Transpose" => transpose(build, node, x),
        "Slice" => slice(build, node, x),
        "Gather" => gather(build, node, x),
        "Expand" => Some(Move::Expand),
        "Split" => split(build, node, x)?,
        _ => None,
    };
    let Some(movement) = movement else {
        return Ok(false);
    };
    // All the parts of a Split are there, used or not, so that each has its place.
    let outputs: Vec<&str> = match movement {
        Move::Split { .. } => node.made().collect(),
        _ => vec![unit.output()],
    };
    let x = build.input(x)?;
    build.outputs(unit, Op::Move(movement), vec![x], &outputs)?;
    Ok(true)
}

fn concat<'a>(build: &mut Build<'a>, unit: &Unit<'a>) -> Result<bool> {
    let axis = unit
        .node
        .int("axis")
        .and_then(|axis| build.facts.axis(unit.output(), axis));
    let Some(axis) = axis else { return Ok(false) };
    let parts = unit
        .node
        .uses()
        .map(|name| build.input(name))
        .collect::<Result<Vec<ValueId>>>()?;
    build.output(unit, Op::Concat { axis }, parts)?;
    Ok(true)
}

fn transpose(build: &Build<'_>, node: &OnnxNode, x: &str) -> Option<Move> {
    let rank = build.facts.rank(x)?;
    let perm = match node.ints("perm") {
        Some(perm) => perm
            .iter()
            .map(|&axis| build.facts.axis(x, axis))
            .collect::<Option<_>>()?,
        None => (0..rank).rev().collect::<Vec<usize>>(),
    };
    Some(Move::Transpose { perm })
}

/// Bounds are inputs since opset 10, attributes before.
fn slice(build: &Build<'_>, node: &OnnxNode, x: &str) -> Option<Move> {
    let facts = build.facts;
    let bounds = |index: usize, attribute: &str| match node.input(index) {
        Some(name) => facts.integers(name).map(<[i64]>::to_vec),
        None => node.ints(attribute).map(<[i64]>::to_vec),
    };
    let (starts, ends) = (bounds(1, "starts")?, bounds(2, "ends")?);
    let axes = match bounds(3, "axes") {
        Some(axes) => axes,
        None if node.input(3).is_none() => (0..).take(starts.len()).collect(),
        None => return None,
    };
    let steps = match bounds(4, "steps") {
        Some(steps) => steps,
        None if node.input(4).is_none() => vec![1; starts.len()],
        None => return None,
    };
    let axes: Vec<usize> = axes
        .iter()
        .map(|&axis| facts.axis(x, axis))
        .collect::<Option<_>>()?;
    let same = [ends.len(), axes.len(), steps.len()]
        .iter()
        .all(|&length| length == starts.len());
    (same && !steps.contains(&0)).then_some(Move::Slice {
        axes,
        starts,
        ends,
        steps,
    })
}

fn gather(build: &Build<'_>, node: &OnnxNode, x: &str) -> Option<Move> {
    let facts = build.facts;
    let axis = facts.axis(x, node.int("axis").unwrap_or(0))?;
    let name = node.input(1)?;
    let length = i64::try_from(*facts.shape(x).ok()?.get(axis)?).ok()?;
    let from_front = |&index: &i64| {
        let index = if index < 0 { index + length } else { index };
        usize::try_from(index).ok().filter(|_| index < length)
    };
    let indices = facts
        .integers(name)?
        .iter()
        .map(from_front)
        .collect::<Option<Vec<usize>>>()?;
    Some(Move::Gather {
        axis,
        indices,
        shape: facts.constant_shape(name)?.to_vec(),
    })
}

/// The sizes are what the float run has, unless they change with the input.
fn split(build: &Build<'_>, node: &OnnxNode, x: &str) -> Result<Option<Move>> {
    let facts = build.facts;
    let fixed = node.input(1).is_none_or(|sizes| facts.is_constant(sizes));
    let axis = facts
        .axis(x, node.int("axis").unwrap_or(0))
        .filter(|_| fixed);
    let Some(axis) = axis else { return Ok(None) };
    let mut sizes = Vec::new();
    for part in node.made() {
        sizes.extend(facts.shape(part)?.get(axis));
    }
    let whole = facts.shape(x)?.get(axis).copied();
    let complete = sizes.len() == node.outputs.len() && Some(sizes.iter().sum()) == whole;
    Ok(complete.then_some(Move::Split { axis, sizes }))
}

//! Operations that only move values.

use super::build::{Build, Unit};
use crate::{
    error::Result,
    graph::{Move, Op, Parts, ValueId},
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
        // No chip's number is rounded to those of float16 in between.
        _ if node.rounds_to_f16() => Some(Move::Reshape),
        // A Cast that ends here makes floats of floats.
        "Reshape" | "Squeeze" | "Unsqueeze" | "Flatten" | "Identity" | "Dropout" | "Cast" => {
            Some(Move::Reshape)
        }
        "Transpose" => transpose(build, node, x),
        "Slice" => slice(build, node, x),
        "Gather" => gather(build, node, x),
        "Expand" => Some(Move::Expand),
        "Split" => split(build, node, x),
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
    Some(Move::Gather {
        axis,
        indices: facts.integers(name)?.to_vec(),
        shape: facts.constant_shape(name)?.to_vec(),
    })
}

/// Lengths that are stated and constant, or equal ones; an island cuts by any other.
fn split(build: &Build<'_>, node: &OnnxNode, x: &str) -> Option<Move> {
    let facts = build.facts;
    let axis = facts.axis(x, node.int("axis").unwrap_or(0))?;
    let parts = match node.input(1) {
        Some(lengths) => {
            let lengths = facts.integers(lengths)?.iter();
            Parts::Lengths(
                lengths
                    .map(|&length| usize::try_from(length).ok())
                    .collect::<Option<_>>()?,
            )
        }
        None => Parts::Equal(node.outputs.len()),
    };
    let complete = node.made().count() == node.outputs.len()
        && node.made().all(|part| facts.is_activation(part));
    complete.then_some(Move::Split { axis, parts })
}

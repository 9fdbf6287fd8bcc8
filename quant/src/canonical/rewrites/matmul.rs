//! MatMul as the form has it: matrices on both sides, and a constant matrix `[K, N]` on the right.
//! A vector gets the dimension that numpy gives it; a constant on the left is the product of the
//! transposes; one of `[1, .., K, N]` is one matrix.

use super::{Node, Rewritten};
use crate::{
    canonical::{
        known::Known,
        replacement::{Replacement, ints_attribute},
    },
    onnx::f32_initializer,
};

pub(super) fn rewrite(known: &Known<'_>, node: &Node<'_>) -> Rewritten {
    if node.op() != "MatMul" {
        return Ok(None);
    }
    let (a, b) = (node.needs(0)?, node.needs(1)?);
    let (rank_a, rank_b) = (known.rank(a), known.rank(b));
    if rank_a == Some(1) || rank_b == Some(1) {
        return Ok(Some(vectors(node, (a, b), (rank_a, rank_b))));
    }
    if let Some(nodes) = single_matrix(known, node, a, b) {
        return Ok(Some(nodes));
    }
    let on_left = known.is_constant(a) && known.is_float(a) && !known.is_constant(b);
    match (on_left, known.dims(a).as_deref(), rank_b) {
        (true, Some(&[ref ones @ .., m, k]), Some(rank_b))
            if ones.iter().all(|&one| one == 1) && ones.len() + 2 <= rank_b =>
        {
            Ok(transposed(known, node, (a, b), (m, k), rank_b))
        }
        _ => Ok(None),
    }
}

/// numpy's rule: a vector on the left is a row, on the right a column, and the dimension goes again.
fn vectors(
    node: &Node<'_>,
    (a, b): (&str, &str),
    (rank_a, rank_b): (Option<usize>, Option<usize>),
) -> Vec<crate::onnx::NodeProto> {
    let mut new = Replacement::of(node.proto);
    let mut gone = Vec::new();
    let mut row = a.to_owned();
    let mut column = b.to_owned();
    if rank_a == Some(1) {
        let axes = new.ints(&[0]);
        row = new.node("Unsqueeze", &[a, &axes]);
        gone.push(-2);
    }
    if rank_b == Some(1) {
        let axes = new.ints(&[1]);
        column = new.node("Unsqueeze", &[b, &axes]);
        gone.push(-1);
    }
    if gone.len() == 2 {
        // The same as both from the front, which every engine counts alike.
        gone = vec![0, 1];
    }
    let y = new.node("MatMul", &[&row, &column]);
    let axes = new.ints(&gone);
    new.last("Squeeze", &[&y, &axes])
}

/// A constant of `[1, .., K, N]` with a left operand of as many dimensions or more.
fn single_matrix(
    known: &Known<'_>,
    node: &Node<'_>,
    a: &str,
    b: &str,
) -> Option<Vec<crate::onnx::NodeProto>> {
    if !known.is_constant(b) || !known.is_float(b) || known.is_constant(a) {
        return None;
    }
    let dims = known.dims(b)?;
    let [ones @ .., k, n] = dims.as_slice() else {
        return None;
    };
    if ones.is_empty() || ones.iter().any(|&one| one != 1) || known.rank(a)? < dims.len() {
        return None;
    }
    let weight = known.all_floats(b)?;
    let matrix = weight.into_shape_with_order(vec![*k, *n]).ok()?;
    let mut new = Replacement::of(node.proto);
    let matrix = new.constant_of(b, f32_initializer("", matrix.view()));
    Some(new.last("MatMul", &[a, &matrix]))
}

/// `W x = (x^T W^T)^T`.
fn transposed(
    known: &Known<'_>,
    node: &Node<'_>,
    (a, b): (&str, &str),
    (m, k): (usize, usize),
    rank: usize,
) -> Option<Vec<crate::onnx::NodeProto>> {
    let weight = known
        .all_floats(a)?
        .into_shape_with_order(vec![m, k])
        .ok()?;
    let mut perm: Vec<i64> = (0..rank as i64).collect();
    perm.swap(rank - 1, rank - 2);
    let mut new = Replacement::of(node.proto);
    let turn = || vec![ints_attribute("perm", &perm)];
    let x = new.node_with("Transpose", &[b], turn());
    let weight = new.turned(known, a, &weight);
    let y = new.node("MatMul", &[&x, &weight]);
    Some(new.last_with("Transpose", &[&y], turn()))
}

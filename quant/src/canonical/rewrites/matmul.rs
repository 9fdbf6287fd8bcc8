//! MatMul as the form has it: matrices on both sides, and a constant matrix `[K, N]` on the right.
//! A vector gets the dimension that numpy gives it; a constant on the left is the product of the
//! transposes; one of `[1, .., K, N]` is one matrix.

use super::{Node, Rewritten};
use crate::{
    canonical::{
        known::Known,
        replacement::{Replacement, int_attribute, ints_attribute},
    },
    onnx::{DataType, f32_initializer},
    tensor::Tensor,
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
    if known.is_weight(a) && !known.is_weight(b) {
        return Ok(transposed(known, node, a, b));
    }
    Ok(None)
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

/// A constant of `[1, .., K, N]`: one matrix, and the dimensions that it has beyond those of the left operand.
fn single_matrix(
    known: &Known<'_>,
    node: &Node<'_>,
    a: &str,
    b: &str,
) -> Option<Vec<crate::onnx::NodeProto>> {
    if !known.is_weight(b) || known.is_weight(a) {
        return None;
    }
    // What is known of a moved constant's rank may be less than what it has.
    if known.rank(b).is_some_and(|rank| rank < 3) {
        return None;
    }
    let (matrix, ones) = matrix(known, b)?;
    if ones == 0 {
        return None;
    }
    let rank = known.rank(a);
    let mut new = Replacement::of(node.proto);
    let matrix = new.constant_of(b, f32_initializer("", matrix.view()));
    if rank.is_some_and(|rank| rank >= ones + 2) {
        return Some(new.last("MatMul", &[a, &matrix]));
    }
    let y = new.node("MatMul", &[a, &matrix]);
    let shape = match rank {
        Some(_) => new.ints(&vec![1; ones + 2]),
        None => as_many_ones(&mut new, a, ones + 2),
    };
    // Broadcasting against ones adds dimensions and stretches none.
    Some(new.last("Expand", &[&y, &shape]))
}

/// The matrix of a constant `[1, .., M, N]`, and how many ones are before it.
fn matrix(known: &Known<'_>, name: &str) -> Option<(Tensor, usize)> {
    let weight = known.all_floats(name)?;
    let [ones @ .., m, n] = weight.shape() else {
        return None;
    };
    let (shape, count) = ([*m, *n], ones.len());
    if ones.iter().any(|&one| one != 1) {
        return None;
    }
    let matrix = weight.into_shape_with_order(shape.as_slice()).ok()?;
    Some((matrix, count))
}

/// Ones as many as what a constant of so many dimensions makes has: one less of a vector, which loses the
/// dimension that it was given.
fn as_many_ones(new: &mut Replacement<'_>, x: &str, dimensions: usize) -> String {
    let shape = new.node("Shape", &[x]);
    let rank = new.node("Shape", &[&shape]);
    let one = new.ints(&[1]);
    let vector = new.node("Equal", &[&rank, &one]);
    let vector = new.node_with(
        "Cast",
        &[&vector],
        vec![int_attribute("to", DataType::Int64 as i64)],
    );
    let dimensions = new.ints(&[dimensions as i64]);
    let count = new.node("Sub", &[&dimensions, &vector]);
    new.node("Expand", &[&one, &count])
}

/// `W x = (x^T W^T)^T`, with the dimensions that W has beyond those of x.
fn transposed(
    known: &Known<'_>,
    node: &Node<'_>,
    a: &str,
    b: &str,
) -> Option<Vec<crate::onnx::NodeProto>> {
    let rank = known.rank(b)?;
    let (weight, ones) = matrix(known, a)?;
    let mut perm: Vec<i64> = (0..rank as i64).collect();
    perm.swap(rank - 1, rank.checked_sub(2)?);
    let mut new = Replacement::of(node.proto);
    let turn = || vec![ints_attribute("perm", &perm)];
    let x = new.node_with("Transpose", &[b], turn());
    let weight = new.turned(known, a, &weight);
    let y = new.node("MatMul", &[&x, &weight]);
    if rank >= ones + 2 {
        return Some(new.last_with("Transpose", &[&y], turn()));
    }
    let y = new.node_with("Transpose", &[&y], turn());
    let shape = new.ints(&vec![1; ones + 2]);
    Some(new.last("Expand", &[&y, &shape]))
}

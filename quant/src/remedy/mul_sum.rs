//! MatMul of two int16 activations on the vector unit, where the toolchain allows one int16 operand in a
//! GEMM: every product by itself, then their sum, everything int16.
//!
//! Σ_k a[m, k] · b[k, n]
//!
//! Each product is rounded to one scale before the sum, as in a Linear's `mul_sum`. The dearest of what
//! there is, and offered only where its products stay on the chip.

use dual16_nash::cost::Chip;

use super::{Place, Remedy, is_int16};
use crate::{
    graph::{Extension, Move, Op, ReduceKind, Stated, ValueId},
    plan::ScaleSource,
};

/// Bytes of a product.
const BYTES: u64 = 2;

/// Adds an alternative for every MatMul whose operands are both to be int16 and whose products fit.
pub(super) fn extend(
    source: &ScaleSource<'_>,
    chip: &Chip,
    extension: &mut Extension,
    places: &mut Vec<Place>,
) {
    let graph = source.graph;
    for (id, node) in graph.running() {
        let (Op::MatMul, &[a, b]) = (&node.op, node.inputs.as_slice()) else {
            continue;
        };
        let bytes = graph.macs(node).saturating_mul(BYTES);
        if !is_int16(source, a) || !is_int16(source, b) || bytes > chip.on_chip_bytes() {
            continue;
        }
        let output = node.outputs[0];
        let shape = |id: ValueId| graph.value(id).shape.clone();
        let (of_a, of_b, made) = (shape(a), shape(b), shape(output));
        let &[.., k] = of_a.as_slice() else { continue };
        if of_a.len() < 2 || of_b.len() < 2 || made.len() < 2 {
            continue;
        }
        let (of_k, rows_of_b) = (made.len() - 1, of_b.len() - 2);
        let Some(mut fragment) = extension.instead_of(output, Remedy::MulSum.name()) else {
            continue;
        };
        let mut add = |suffix: &str, op, inputs: &[ValueId], shape: Vec<usize>| {
            fragment.node(suffix, op, inputs.to_vec(), shape, Stated::default())
        };
        let inserted = |mut shape: Vec<usize>, axis, length| {
            shape.insert(axis, length);
            shape
        };
        let unsqueeze = |axis| Op::Move(Move::Unsqueeze { axis });
        // a [.., M, K, 1] and b [.., 1, K, N], whose products are [.., M, K, N].
        let last = of_a.len();
        let a = add("a", unsqueeze(last), &[a], inserted(of_a, last, 1));
        let b = add(
            "b",
            unsqueeze(rows_of_b),
            &[b],
            inserted(of_b, rows_of_b, 1),
        );
        let products = inserted(made.clone(), of_k, k);
        let products = add("mul", Op::Mul, &[a, b], products);
        let sum = Op::Reduce {
            kind: ReduceKind::Sum,
            axes: vec![of_k],
            keepdims: false,
        };
        let sum = add("sum", sum, &[products], made);
        fragment.end(sum);
        places.push(Place {
            remedy: Remedy::MulSum,
            node: id,
            with: Vec::new(),
            alternative: places.len(),
        });
    }
}

//! Sums of squares as products of a row with itself: a batch of `[1, K] x [K, 1]` matrix products. No square
//! is rounded on the way, for accumulators are exact; the sum alone has a scale.
//!
//! Σ x² = x · x
//!
//! Where the toolchain allows one int16 operand, the second is split into two int8 planes as that of a
//! MatMul is: x · x = x · hi + x · lo.

use super::{Place, Remedy, is_int16, planes, two_range::sums_of_squares};
use crate::{
    graph::{Extension, Op, ReduceKind, Stated, ValueId},
    plan::ScaleSource,
};

/// Adds an alternative for every sum or mean of squares: one product where a GEMM takes so many int16
/// operands, two otherwise.
pub(super) fn extend(
    source: &ScaleSource<'_>,
    max_int16_operands: u32,
    extension: &mut Extension,
    places: &mut Vec<Place>,
) {
    for (id, square, x) in sums_of_squares(source.graph) {
        let node = source.graph.node(id);
        let Op::Reduce {
            kind,
            axes,
            keepdims,
        } = &node.op
        else {
            continue;
        };
        let product = Op::Dot {
            mean: *kind == ReduceKind::Mean,
            axes: axes.clone(),
            keepdims: *keepdims,
        };
        let reduced = node.outputs[0];
        let short = source.graph.value(reduced).shape.clone();
        let Some(mut fragment) = extension.instead_of(reduced, Remedy::Dot.name()) else {
            continue;
        };
        let made = if is_int16(source, x) && max_int16_operands < 2 {
            let Some([high, low]) = planes(source, &mut fragment, x) else {
                continue;
            };
            let mut add = |suffix: &str, op, inputs: [ValueId; 2]| {
                let (inputs, free) = (inputs.to_vec(), Stated::default());
                fragment.node(suffix, op, inputs, short.clone(), free)
            };
            let high = add("hi_matmul", product.clone(), [x, high]);
            let low = add("lo_matmul", product, [x, low]);
            add("add", Op::Add, [high, low])
        } else {
            fragment.node("matmul", product, vec![x, x], short, Stated::default())
        };
        fragment.end(made);
        places.push(Place {
            remedy: Remedy::Dot,
            node: id,
            with: vec![square],
            alternative: places.len(),
        });
    }
}

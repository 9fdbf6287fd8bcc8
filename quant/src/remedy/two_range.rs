//! Sums of squares in two ranges, as in LayerNorm and RMSNorm. One outlier sets the scale of a tensor of
//! squares, in which all others then round to 0: with int16 squares, whatever is below 1/256 of the
//! largest magnitude. With lo = clip(x, -T, T),
//!
//! x² = lo² + (x - lo) · (x + lo)
//!
//! exactly, and the second term is 0 wherever |x| <= T. Each tensor has a scale of its own, and so have
//! the two sums, which are added at last.

use super::{Place, Remedy, largest, maker};
use crate::{
    graph::{Extension, NodeId, Op, ReduceKind, Stated, ValueId},
    plan::ScaleSource,
};

/// T is the largest magnitude divided by this: on sums of squares of transformers any power of two from 8
/// to 64 does as well, and none is worse than one range.
const BELOW_LARGEST: f32 = 16.0;

/// Adds an alternative for every sum or mean of squares.
pub(super) fn extend(source: &ScaleSource<'_>, extension: &mut Extension, places: &mut Vec<Place>) {
    for (id, square, x) in sums_of_squares(source.graph) {
        let Some(threshold) = largest(source, x).map(|largest| largest / BELOW_LARGEST) else {
            continue;
        };
        let node = source.graph.node(id);
        let (sum, reduced) = (node.op.clone(), node.outputs[0]);
        let whole = source.graph.value(x).shape.clone();
        let short = source.graph.value(reduced).shape.clone();
        let Some(mut fragment) = extension.instead_of(reduced, Remedy::TwoRange.name()) else {
            continue;
        };
        let mut add = |suffix: &str, op, inputs: &[ValueId], shape: &[usize]| {
            fragment.node(
                suffix,
                op,
                inputs.to_vec(),
                shape.to_vec(),
                Stated::default(),
            )
        };
        let clip = Op::Clip {
            min: -threshold,
            max: threshold,
        };
        let low = add("lo", clip, &[x], &whole);
        let low_square = add("lo_mul", Op::Mul, &[low, low], &whole);
        let beyond = add("sub", Op::Sub, &[x, low], &whole);
        let both = add("add", Op::Add, &[x, low], &whole);
        let high_square = add("hi_mul", Op::Mul, &[beyond, both], &whole);
        let low_sum = add("lo_sum", sum.clone(), &[low_square], &short);
        let high_sum = add("hi_sum", sum, &[high_square], &short);
        let made = add("sum", Op::Add, &[low_sum, high_sum], &short);
        fragment.end(made);
        places.push(Place {
            remedy: Remedy::TwoRange,
            node: id,
            with: vec![square],
            alternative: places.len(),
        });
    }
}

/// Reductions of x · x: the reduction, the product, x.
pub(super) fn sums_of_squares(graph: &crate::graph::Graph) -> Vec<(NodeId, NodeId, ValueId)> {
    let found = graph.running().filter_map(|(id, node)| {
        let Op::Reduce {
            kind: ReduceKind::Sum | ReduceKind::Mean,
            ..
        } = node.op
        else {
            return None;
        };
        let square = maker(graph, *node.inputs.first()?)?;
        match (&graph.node(square).op, graph.node(square).inputs.as_slice()) {
            (Op::Mul, &[a, b]) if a == b => Some((id, square, a)),
            _ => None,
        }
    });
    found.collect()
}

//! The mean of a LayerNorm taken away after the scaling. An activation with outliers has a coarse step, and
//! x - mean is rounded to it; as an integer subtraction, the mean is rounded to it once for a whole row, so
//! that every element of the row is off by the same amount. With r = 1 / sqrt(var + eps),
//!
//! (x - mean) · r = x · r - mean · r
//!
//! exactly, and both products have the finer step of what is normalized.

use super::{Place, Remedy, maker};
use crate::{
    graph::{Extension, Graph, NodeId, Op, ReduceKind, Stated, ValueId},
    plan::ScaleSource,
};

/// Adds an alternative for every product of centred values with one factor for each of their rows.
pub(super) fn extend(source: &ScaleSource<'_>, extension: &mut Extension, places: &mut Vec<Place>) {
    for found in scaled_after_centring(source.graph) {
        let node = source.graph.node(found.product);
        let output = node.outputs[0];
        let whole = source.graph.value(output).shape.clone();
        let short = source.graph.value(found.mean).shape.clone();
        let Some(mut fragment) = extension.instead_of(output, Remedy::LateMean.name()) else {
            continue;
        };
        let mut add = |suffix: &str, op, inputs: [ValueId; 2], shape: &[usize]| {
            fragment.node(
                suffix,
                op,
                inputs.to_vec(),
                shape.to_vec(),
                Stated::default(),
            )
        };
        let scaled = add("mul", Op::Mul, [found.x, found.factor], &whole);
        let mean = add("mean_mul", Op::Mul, [found.mean, found.factor], &short);
        let made = add("sub", Op::Sub, [scaled, mean], &whole);
        fragment.end(made);
        places.push(Place {
            remedy: Remedy::LateMean,
            node: found.product,
            with: vec![found.centring],
            alternative: places.len(),
        });
    }
}

/// (x - mean(x)) · factor.
pub(super) struct Found {
    pub(super) product: NodeId,
    pub(super) centring: NodeId,
    pub(super) x: ValueId,
    pub(super) mean: ValueId,
    pub(super) factor: ValueId,
}

pub(super) fn scaled_after_centring(graph: &Graph) -> Vec<Found> {
    let found = graph.running().filter_map(|(product, node)| {
        let (Op::Mul, &[a, b]) = (&node.op, node.inputs.as_slice()) else {
            return None;
        };
        [(a, b), (b, a)].into_iter().find_map(|(centred, factor)| {
            let centring = maker(graph, centred)?;
            let (Op::Sub, &[x, mean]) = (
                &graph.node(centring).op,
                graph.node(centring).inputs.as_slice(),
            ) else {
                return None;
            };
            let reduction = graph.node(maker(graph, mean)?);
            let is_mean = matches!(
                reduction.op,
                Op::Reduce {
                    kind: ReduceKind::Mean,
                    keepdims: true,
                    ..
                }
            );
            let of_rows = graph.value(factor).shape == graph.value(mean).shape;
            (is_mean && reduction.inputs.first() == Some(&x) && of_rows && factor != centred)
                .then_some(Found {
                    product,
                    centring,
                    x,
                    mean,
                    factor,
                })
        })
    });
    found.collect()
}

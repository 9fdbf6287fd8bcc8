//! The core of a LayerNorm in fp16: one operator from x to (x - mean) / sqrt(var + eps), between a
//! dequantize and a quantize. That the chip has it is an assumption from public notes, and what it costs
//! is not public; so it is offered only where a job allows it.

use dual16_nash::lut::LutFunction;

use super::{Place, Remedy, late_mean::scaled_after_centring, maker, two_range::sums_of_squares};
use crate::{
    graph::{Extension, Graph, NodeId, Op, ReduceKind, Stated, ValueId},
    plan::ScaleSource,
};

/// Adds an alternative for every product of centred values with the inverse root of their mean square.
pub(super) fn extend(source: &ScaleSource<'_>, extension: &mut Extension, places: &mut Vec<Place>) {
    for found in layer_norms(source.graph) {
        let output = source.graph.node(found.product).outputs[0];
        let shape = source.graph.value(output).shape.clone();
        let Some(mut fragment) = extension.instead_of(output, Remedy::Fp16.name()) else {
            continue;
        };
        let op = Op::LayerNormFp16 {
            axes: found.axes,
            eps: found.eps,
        };
        let made = fragment.node("layer_norm", op, vec![found.x], shape, Stated::default());
        fragment.end(made);
        // Beside what else there is for its squares, which cost an integer LayerNorm most.
        places.push(Place {
            remedy: Remedy::Fp16,
            node: found.variance,
            with: vec![found.square],
            alternative: places.len(),
        });
    }
}

/// (x - mean(x)) · 1 / sqrt(mean((x - mean(x))²) + eps).
struct Found {
    product: NodeId,
    variance: NodeId,
    square: NodeId,
    x: ValueId,
    /// How many, the last ones.
    axes: usize,
    eps: f64,
}

fn layer_norms(graph: &Graph) -> Vec<Found> {
    let squares = sums_of_squares(graph);
    let found = scaled_after_centring(graph).into_iter().filter_map(|norm| {
        let rsqrt = graph.node(maker(graph, norm.factor)?);
        let Op::Lut(LutFunction::Rsqrt { eps }) = rsqrt.op else {
            return None;
        };
        let variance = maker(graph, *rsqrt.inputs.first()?)?;
        let (_, square, centred) = squares.iter().copied().find(|(id, ..)| *id == variance)?;
        let Op::Reduce { kind, axes, .. } = &graph.node(variance).op else {
            return None;
        };
        let is_mean = *kind == ReduceKind::Mean;
        let mean = graph.node(maker(graph, norm.mean)?);
        let same_axes = matches!(&mean.op, Op::Reduce { axes: own, .. } if own == axes);
        let rank = graph.value(norm.x).shape.len();
        let last = axes.iter().copied().eq(rank - axes.len().min(rank)..rank);
        let of_it = graph.node(norm.centring).outputs.contains(&centred);
        (is_mean && same_axes && last && of_it && !axes.is_empty()).then_some(Found {
            product: norm.product,
            variance,
            square,
            x: norm.x,
            axes: axes.len(),
            eps,
        })
    });
    found.collect()
}

//! Sums of exp in two tables, as in a Softmax over many classes. The largest of exp sets its scale, and what
//! is below half a step of it rounds to 0: of one such value nothing is lost, of thousands in one sum a part
//! of everything that is divided by it. With e = exp(x) and T below the largest x,
//!
//! Σ e = Σ exp(min(x, T)) + Σ (e - min(e, exp(T)))
//!
//! exactly up to the rounding of T to f32; the first sum has the step of exp(T), and the second is of 0
//! wherever x <= T, whatever e was rounded to there.

use dual16_nash::lut::LutFunction;

use super::{Place, Remedy, largest, maker};
use crate::{
    graph::{Extension, Graph, NodeId, Op, ReduceKind, Stated, ValueId},
    plan::ScaleSource,
};

/// exp(T) is the largest value divided by this: the step of small values is so many times finer.
const BELOW_LARGEST: f32 = 64.0;

/// Adds an alternative for every sum of exponentials of which some are far below the largest.
pub(super) fn extend(source: &ScaleSource<'_>, extension: &mut Extension, places: &mut Vec<Place>) {
    for found in sums_of_exp(source.graph) {
        let Found { sum, exp, x, e } = found;
        // What is masked would set the scale of the small values; its exp is 0 as it is.
        if source.masked(x).is_some() {
            continue;
        }
        let Some(knee) = largest(source, e).map(|largest| largest / BELOW_LARGEST) else {
            continue;
        };
        let threshold = libm::logf(knee);
        let seen = source.observed_range(x);
        if !seen.is_some_and(|(min, max)| min < threshold && threshold < max) {
            continue;
        }
        let node = source.graph.node(sum);
        let (reduce, reduced) = (node.op.clone(), node.outputs[0]);
        let whole = source.graph.value(x).shape.clone();
        let short = source.graph.value(reduced).shape.clone();
        let Some(mut fragment) = extension.instead_of(reduced, Remedy::TwoTables.name()) else {
            continue;
        };
        let mut add = |suffix: &str, op, inputs: &[ValueId], shape: &[usize]| {
            let (inputs, shape) = (inputs.to_vec(), shape.to_vec());
            fragment.node(suffix, op, inputs, shape, Stated::default())
        };
        let below = |max| Op::Clip { min: f32::MIN, max };
        let low = add("lo", below(threshold), &[x], &whole);
        let low_exp = add("lo_exp", Op::Lut(LutFunction::Exp), &[low], &whole);
        let cut = add("cut", below(knee), &[e], &whole);
        let high = add("hi", Op::Sub, &[e, cut], &whole);
        let low_sum = add("lo_sum", reduce.clone(), &[low_exp], &short);
        let high_sum = add("hi_sum", reduce, &[high], &short);
        let made = add("sum", Op::Add, &[low_sum, high_sum], &short);
        fragment.end(made);
        places.push(Place {
            remedy: Remedy::TwoTables,
            node: sum,
            with: vec![exp],
            alternative: places.len(),
        });
    }
}

/// A sum or mean of e = exp(x).
struct Found {
    sum: NodeId,
    exp: NodeId,
    x: ValueId,
    e: ValueId,
}

fn sums_of_exp(graph: &Graph) -> Vec<Found> {
    let found = graph.running().filter_map(|(sum, node)| {
        let Op::Reduce {
            kind: ReduceKind::Sum | ReduceKind::Mean,
            ..
        } = node.op
        else {
            return None;
        };
        let &e = node.inputs.first()?;
        let exp = maker(graph, e)?;
        let &x = graph.node(exp).inputs.first()?;
        let is_exp = matches!(graph.node(exp).op, Op::Lut(LutFunction::Exp));
        is_exp.then_some(Found { sum, exp, x, e })
    });
    found.collect()
}

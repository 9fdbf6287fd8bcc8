//! Linears of one weight: the same elements of the same initializer, read the same way. (A weight
//! that one reads turned has its channels elsewhere, so its integers are others.)

use std::collections::BTreeMap;

use super::{InnerParams, LinearPlan, Plan};
use crate::graph::{Graph, Linear};

/// Where a weight lies and how it is read: address, dimensions and strides. It never leaves the
/// process, and no order follows from it.
type Place = (usize, [usize; 2], [isize; 2]);

fn place(linear: &Linear) -> Place {
    let weight = &linear.weight;
    let strides = weight.strides();
    let strides = [0, 1].map(|axis| strides.get(axis).copied().unwrap_or_default());
    (weight.as_ptr() as usize, weight.dim().into(), strides)
}

/// Every Linear by node index, those of one weight together: sets in the order of their first, each
/// in the order of the graph.
pub(crate) fn by_weight(graph: &Graph) -> Vec<Vec<usize>> {
    let mut sets: Vec<Vec<usize>> = Vec::new();
    let mut known: BTreeMap<Place, usize> = BTreeMap::new();
    for (id, _, linear) in graph.linears() {
        let set = *known.entry(place(linear)).or_insert(sets.len());
        match sets.get_mut(set) {
            Some(set) => set.push(id.0),
            None => sets.push(vec![id.0]),
        }
    }
    sets
}

/// Whose integers a Linear's weight has, where an earlier one of the same weight has the same: by node
/// index of the later one.
pub(crate) fn owners(graph: &Graph, plan: &Plan) -> BTreeMap<usize, usize> {
    let mut owners = BTreeMap::new();
    for set in by_weight(graph) {
        let mut first: BTreeMap<Form, usize> = BTreeMap::new();
        for id in set {
            // What was fitted to the inputs of one is nobody else's.
            let plain = |linear: &&LinearPlan| linear.params.fit.is_none();
            let Some(linear) = plan.linears.get(&id).filter(plain) else {
                continue;
            };
            let owner = *first.entry(Form::of(linear)).or_insert(id);
            if owner != id {
                owners.insert(id, owner);
            }
        }
    }
    owners
}

/// What the integers of a weight depend on beside its elements.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Form {
    /// A scale for each channel, from its elements; bits of the integers.
    Channels(u32),
    /// One scale, which may be given; its bits.
    Tensor(u32),
    /// Two planes, from its elements.
    Planes,
}

impl Form {
    fn of(linear: &LinearPlan) -> Form {
        match linear.params.inner {
            InnerParams::Gemm | InnerParams::LowRank { .. } => {
                Form::Channels(linear.way.weight_dtype().bits())
            }
            InnerParams::MulSum { weight, .. } => Form::Tensor(weight.to_bits()),
            InnerParams::Split { .. } => Form::Planes,
        }
    }
}

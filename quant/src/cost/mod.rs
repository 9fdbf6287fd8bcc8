//! What a plan costs on the chip: the work of every operator, and an estimate of its time
//! ([`dual16_nash::cost`] says what the estimate is worth).
//!
//! Knows graph and plan, no data and no job. Everything is for one batch of the shapes that the graph
//! has. Where a tensor lies follows one rule [our]: weights, constants and the model's inputs come from
//! memory outside the chip, an input once, and its outputs go there; an activation stays on the chip unless it alone is
//! larger than `on_chip_mib`.

mod operator;

use std::collections::BTreeMap;

pub use dual16_nash::cost::{Bound, Chip, Estimate, Work};

use dual16_nash::{cost::LinearSite, dtype::IntDtype, linear::GemmShape, ways::Way};
use serde::{Deserialize, Serialize};

use crate::{
    fit::Fit,
    graph::{Graph, Linear, Node, NodeId, ValueId, ValueKind},
    plan::{Plan, Request},
};

/// Bytes of an element that is not quantized: a high-precision output, a float, an exact integer.
const FLOAT_BYTES: u64 = 4;

/// What an operator, or a plan, costs for one batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct OpCost {
    /// In counts.
    pub work: Work,
    /// In time, an estimate.
    pub estimate: Estimate,
}

/// What a plan costs for one batch.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanCost {
    /// By node index; nothing for a node that does not run.
    pub nodes: Vec<OpCost>,
    /// One operator after the other; bound by what bounds most of the time.
    pub total: OpCost,
}

impl PlanCost {
    /// Counts and estimates the whole plan.
    pub fn of(graph: &Graph, plan: &Plan, chip: &Chip) -> Self {
        let site = Site { graph, plan, chip };
        let mut nodes = vec![OpCost::default(); graph.nodes.len()];
        for (id, _) in graph.running() {
            nodes[id.0] = OpCost::of(site.work(id.0), chip);
        }
        let work: Work = nodes.iter().map(|node| node.work).sum();
        let mut total = OpCost {
            work,
            estimate: nodes
                .iter()
                .fold(Estimate::default(), |all, node| all.then(node.estimate)),
        };
        // By name, so that the first of equals is the same always.
        let mut shares: BTreeMap<&'static str, (f64, _)> = BTreeMap::new();
        for OpCost { estimate, .. } in &nodes {
            let share = shares
                .entry(estimate.bound.name())
                .or_insert((0.0, estimate.bound));
            share.0 += estimate.latency_us;
        }
        let most = shares
            .into_values()
            .reduce(|a, b| if b.0 > a.0 { b } else { a });
        if let Some((_, bound)) = most {
            total.estimate.bound = bound;
        }
        Self { nodes, total }
    }
}

impl OpCost {
    fn of(work: Work, chip: &Chip) -> Self {
        Self {
            work,
            estimate: Estimate::of(&work, chip),
        }
    }

    /// A Linear in a way and a fit of it, before there is a plan: its input has the dtype asked for, raised to int16
    /// where the way reads int16 and nobody set the dtype by name, as a plan would have it.
    /// `output` is `None` for a high-precision output.
    pub(crate) fn of_way(
        (graph, request): (&Graph, &Request),
        (id, node, linear): (NodeId, &Node, &Linear),
        (way, fit): (Way, Option<Fit>),
        output: Option<IntDtype>,
        chip: &Chip,
    ) -> Self {
        let asked = &request.values[graph.origin(node.inputs[0]).0];
        let input = match (way.activation_dtype(), asked.explicit) {
            (IntDtype::Int16, false) => IntDtype::Int16,
            _ => asked.dtype,
        };
        let site = linear_site(graph, (id, node, linear), Some(input), output, chip);
        Self::of(linear_work(site, way, fit), chip)
    }
}

/// A way's work, and what a fit adds: a bias always, a low-rank branch perhaps.
fn linear_work(mut site: LinearSite, way: Way, fit: Option<Fit>) -> Work {
    site.bias |= fit.is_some();
    let work = site.work(way);
    match fit.map_or(0, |fit| fit.rank) {
        0 => work,
        rank => work.plus(site.low_rank(way, rank.into())),
    }
}

/// What the work of one operator depends on.
struct Site<'a> {
    graph: &'a Graph,
    plan: &'a Plan,
    chip: &'a Chip,
}

impl Site<'_> {
    fn dtype(&self, id: ValueId) -> Option<IntDtype> {
        self.plan.params(id).map(|params| params.dtype)
    }

    fn bytes(&self, id: ValueId) -> u64 {
        let each = self
            .dtype(id)
            .map_or(FLOAT_BYTES, |dtype| dtype.bytes() as u64);
        elements(self.graph, id).saturating_mul(each)
    }

    fn is_large(&self, id: ValueId) -> bool {
        self.bytes(id) > self.chip.on_chip_bytes()
    }
}

/// Whether a node brings a value of the model's into the chip: a constant, or an input that no node
/// before it has brought in.
fn brings_in(graph: &Graph, node: NodeId, id: ValueId) -> bool {
    match graph.value(id).kind {
        ValueKind::Constant(_) => true,
        ValueKind::Input => graph.consumers(id).first() == Some(&node),
        ValueKind::Activation | ValueKind::Exact => false,
    }
}

fn elements(graph: &Graph, id: ValueId) -> u64 {
    let shape = graph.value(id).shape.iter();
    shape.fold(1, |product: u64, &length| {
        product.saturating_mul(length as u64)
    })
}

fn linear_site(
    graph: &Graph,
    (id, node, linear): (NodeId, &Node, &Linear),
    input: Option<IntDtype>,
    output: Option<IntDtype>,
    chip: &Chip,
) -> LinearSite {
    let (o, k) = linear.weight.dim();
    let (x, y) = (node.inputs[0], node.outputs[0]);
    let on_chip_bytes = chip.on_chip_bytes();
    let width = |dtype: Option<IntDtype>| dtype.map_or(FLOAT_BYTES, |dtype| dtype.bytes() as u64);
    let large = |id, dtype| elements(graph, id).saturating_mul(width(dtype)) > on_chip_bytes;
    let n = elements(graph, x) / (k.max(1) as u64);
    LinearSite {
        shape: GemmShape {
            n: usize::try_from(n).unwrap_or(usize::MAX),
            k,
            o,
        },
        input,
        bias: linear.bias.is_some(),
        loads_input: brings_in(graph, id, x) || large(x, input),
        stores_output: graph.is_output(y) || large(y, output),
        output_bytes: width(output),
        on_chip_bytes,
    }
}

//! What saturates, or is lost, in a plan whatever its input is: an operand whose way to the scale of
//! its node's output needs a multiplier beyond the chip's, or one that leaves nothing of it. Linears
//! tell of themselves ([`QuantizedLinear`](crate::ways::QuantizedLinear)).

use std::collections::BTreeMap;

use dual16_nash::{
    reduce::reduced_count,
    requant::Rescale,
    scale::{MIN_SCALE, Scale},
};

use super::{Floor, Plan, QParams};
use crate::{
    graph::{Graph, Node, NodeId, Op, ReduceKind},
    notice::Notice,
};

/// Code of the notice of an operand that reaches beyond what integers stand for.
pub(crate) const SATURATED: &str = "SATURATED";
/// Code of the notice of an operand that nothing is left of.
pub(crate) const ROUNDS_TO_ZERO: &str = "ROUNDS_TO_ZERO";

/// One notice for each operand that saturates or is lost. A product that holds masked elements has a
/// floor: saturating is what it is to do.
pub(crate) fn notices(graph: &Graph, plan: &Plan, floors: &BTreeMap<usize, Floor>) -> Vec<Notice> {
    let mut notices = Vec::new();
    for (id, node) in graph.running() {
        for operand in 0..node.inputs.len() {
            if let Some(fate) = fate(graph, plan, id, operand) {
                let operand = &graph.value(node.inputs[operand]).name;
                notices.push(fate.notice(node, operand));
            }
        }
        if let Some(rescale) = product(graph, plan, id)
            && rescale == Rescale::LARGEST
            && !node.outputs.iter().any(|id| floors.contains_key(&id.0))
        {
            let operands: Vec<&str> = node
                .inputs
                .iter()
                .map(|id| graph.value(*id).name.as_str())
                .collect();
            notices.push(Fate::Saturates.notice(node, &operands.join("' times '")));
        }
    }
    notices
}

/// What becomes of an operand at the scale it is brought to.
enum Fate {
    Saturates,
    Vanishes,
}

impl Fate {
    fn notice(&self, node: &Node, operand: &str) -> Notice {
        let (code, message) = match self {
            Fate::Saturates => (
                SATURATED,
                format!(
                    "its operand '{operand}' needs a multiplier beyond the chip's largest, 16383.5, \
                     and saturates"
                ),
            ),
            Fate::Vanishes => (
                ROUNDS_TO_ZERO,
                format!(
                    "its operand '{operand}' is below half a step of the scale it is brought to: \
                     all of it becomes 0"
                ),
            ),
        };
        Notice {
            warning: true,
            code: code.to_owned(),
            subject: node.name.clone(),
            message,
        }
    }
}

/// Where an operand is brought to a scale by itself: its own requantization first, then the node's.
fn fate(graph: &Graph, plan: &Plan, id: NodeId, operand: usize) -> Option<Fate> {
    let node = graph.node(id);
    let made = plan.params(node.inputs[operand])?;
    let taken = plan.operand(graph, id, operand)?;
    let output = node.outputs.first().and_then(|output| plan.params(*output));
    let to = match &node.op {
        Op::Add | Op::Sub | Op::Concat { .. } | Op::Relu => output,
        Op::Reduce {
            kind: ReduceKind::Sum,
            ..
        } => output,
        _ => None,
    };
    let own = rescale(made, taken);
    let next = to.and_then(|to| rescale(taken, to));
    let mean = match (&node.op, output) {
        (
            Op::Reduce {
                kind: ReduceKind::Mean,
                axes,
                ..
            },
            Some(to),
        ) => {
            let axes: Vec<i64> = axes.iter().map(|&axis| axis as i64).collect();
            let count = reduced_count(&graph.value(node.inputs[operand]).shape, &axes).ok()?;
            Some(Rescale::of_mean(scale(taken)?, count.max(1), scale(to)?))
        }
        _ => None,
    };
    let steps = [own, next, mean];
    if steps.contains(&Some(Rescale::LARGEST)) {
        return Some(Fate::Saturates);
    }
    // A sum may be far above its terms, and what is at the smallest scale is next to 0 anyway: an
    // epsilon, for one.
    let alone = !matches!(node.op, Op::Reduce { .. }) && taken.scale > MIN_SCALE;
    let lost = own.is_some_and(|rescale| rescale.vanishes(made.dtype))
        || next.is_some_and(|rescale| rescale.vanishes(taken.dtype));
    (alone && lost).then_some(Fate::Vanishes)
}

/// The multiplier of a product of two operands.
fn product(graph: &Graph, plan: &Plan, id: NodeId) -> Option<Rescale> {
    let node = graph.node(id);
    if !matches!(node.op, Op::Mul | Op::MatMul) {
        return None;
    }
    let of = |operand| plan.operand(graph, id, operand).and_then(scale);
    let to = node.outputs.first().and_then(|id| plan.params(*id));
    Some(Rescale::of_product(of(0)?, of(1)?, to.and_then(scale)?))
}

fn rescale(from: QParams, to: QParams) -> Option<Rescale> {
    Some(Rescale::between(scale(from)?, scale(to)?))
}

fn scale(params: QParams) -> Option<Scale> {
    Scale::new(params.scale).ok()
}

//! Which nodes of a graph are no longer what the canonical form has, and are written from the graph.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use dual16_nash::lut::LutFunction;

use super::source::Source;
use crate::{
    graph::{Node, NodeId, Op, ValueId},
    plan::InnerParams,
};

/// Nodes that are not what the canonical form has: those of an operation of which anything runs otherwise,
/// or whose inner values are read from outside.
pub(super) fn changed(source: &Source<'_>) -> HashSet<NodeId> {
    let graph = source.graph;
    let key = |node: &Node| Arc::as_ptr(&node.names) as usize;
    let mut changed: HashSet<usize> = HashSet::new();
    let running: HashSet<NodeId> = graph.running().map(|(id, _)| id).collect();
    for (id, _) in source.plain.running() {
        if !running.contains(&id) {
            changed.insert(key(graph.node(id)));
        }
    }
    let made_by: HashMap<ValueId, &Node> = graph
        .running()
        .flat_map(|(_, node)| node.outputs.iter().map(move |&id| (id, node)))
        .collect();
    for (id, node) in graph.running() {
        let otherwise = match &node.op {
            Op::Linear(_) => linear_changed(source, id),
            Op::Lut(LutFunction::Gelu | LutFunction::GeluTanh) => true,
            _ => false,
        };
        if otherwise || !source.is_plain(id) {
            changed.insert(key(node));
        }
        for input in &node.inputs {
            let Some(maker) = made_by.get(input) else {
                continue;
            };
            if graph.value(*input).onnx.is_none() && key(maker) != key(node) {
                changed.extend([key(maker), key(node)]);
            }
        }
    }
    let of_changed = graph
        .running()
        .filter(|(_, node)| changed.contains(&key(node)));
    of_changed.map(|(id, _)| id).collect()
}

/// Whether a Linear is anything but the product that the model has.
fn linear_changed(source: &Source<'_>, id: NodeId) -> bool {
    let Some(planned) = source.plan.linears.get(&id.0) else {
        return false;
    };
    let same_weight = match (&source.graph.node(id).op, source.plain.nodes.get(id.0)) {
        (Op::Linear(own), Some(plain)) => match &plain.op {
            Op::Linear(plain) => own.weight.as_ptr() == plain.weight.as_ptr(),
            _ => false,
        },
        _ => false,
    };
    planned.params.fit.is_some()
        || !same_weight
        || !matches!(planned.params.inner, InnerParams::Gemm)
}

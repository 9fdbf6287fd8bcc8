//! Who uses what: answers that would cost a look at every node, found once for the whole graph.

use super::{Graph, NodeId, Op, ReduceKind, ValueId};

/// What follows from the nodes of a graph.
#[derive(Debug, Clone, Default)]
pub(super) struct Links {
    /// By value, in execution order, each node once.
    consumers: Vec<Vec<NodeId>>,
    /// By value.
    origins: Vec<ValueId>,
    /// By value.
    is_output: Vec<bool>,
    /// By value: an input, made by a node that runs, or read by one.
    is_running: Vec<bool>,
}

impl Links {
    /// Those of a graph.
    pub(super) fn of(graph: &Graph) -> Self {
        let values = graph.values.len();
        let mut links = Links {
            consumers: vec![Vec::new(); values],
            origins: (0..values).map(ValueId).collect(),
            is_output: vec![false; values],
            is_running: vec![false; values],
        };
        for (id, node) in graph.running() {
            for value in node.inputs.iter().chain(&node.outputs) {
                links.is_running[value.0] = true;
            }
            for input in &node.inputs {
                let consumers = &mut links.consumers[input.0];
                if consumers.last() != Some(&id) {
                    consumers.push(id);
                }
            }
            let from = node.inputs.first().filter(|_| keeps_scale(&node.op));
            if let Some(from) = from {
                for output in &node.outputs {
                    links.origins[output.0] = links.origins[from.0];
                }
            }
        }
        for input in &graph.inputs {
            links.is_running[input.0] = true;
        }
        for output in &graph.outputs {
            links.is_output[output.0] = true;
        }
        links
    }
}

/// Whether a node's outputs share the scale of its first input.
fn keeps_scale(op: &Op) -> bool {
    matches!(
        op,
        Op::Move(_)
            | Op::Reduce {
                kind: ReduceKind::Max,
                ..
            }
    )
}

impl Graph {
    /// The nodes that consume a value, in execution order.
    pub fn consumers(&self, id: ValueId) -> &[NodeId] {
        &self.links.consumers[id.0]
    }

    /// The value whose scale a value shares: itself, or what a move or a maximum was made from.
    pub fn origin(&self, id: ValueId) -> ValueId {
        self.links.origins[id.0]
    }

    /// Whether a value is there when the graph runs: an input, or made or read by a node that runs.
    pub fn is_running(&self, id: ValueId) -> bool {
        self.links.is_running[id.0]
    }

    /// Whether a value is an output of the model.
    pub fn is_output(&self, id: ValueId) -> bool {
        self.links.is_output[id.0]
    }
}

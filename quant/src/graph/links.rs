//! Who uses what: answers that would cost a look at every node, found once for the whole graph.

use super::{Graph, Node, NodeId, Op, ReduceKind, Value, ValueId};

/// What follows from the nodes of a graph.
#[derive(Debug, Clone, Default)]
pub(super) struct Links {
    /// By value, in execution order, each node once.
    consumers: Vec<Vec<NodeId>>,
    /// By value.
    origins: Vec<ValueId>,
    /// By value.
    is_output: Vec<bool>,
}

impl Links {
    /// The nodes must be in execution order.
    pub(super) fn of(values: &[Value], nodes: &[Node], outputs: &[ValueId]) -> Self {
        let mut links = Links {
            consumers: vec![Vec::new(); values.len()],
            origins: (0..values.len()).map(ValueId).collect(),
            is_output: vec![false; values.len()],
        };
        for (index, node) in nodes.iter().enumerate() {
            let id = NodeId(index);
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
        for output in outputs {
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

    /// Whether a value is an output of the model.
    pub fn is_output(&self, id: ValueId) -> bool {
        self.links.is_output[id.0]
    }
}

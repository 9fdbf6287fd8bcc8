//! The rows of a sensitivity table: every fake quant that a plan has, and every table.

use std::collections::BTreeSet;

use crate::{
    exec::has_segments,
    graph::{Graph, Node, NodeId, Op, ReduceKind, ValueId, ValueKind},
    plan::Plan,
};

/// One fake quant or table, everything else being float.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Row {
    /// A value that has a scale of its own, quantized where it is made.
    Activation(ValueId),
    /// Weight and bias of a Linear, as its way runs them on a float input.
    Weight(NodeId),
    /// A parameter or literal that an operation consumes.
    Constant(ValueId),
    /// An operand that a node takes in another dtype or scale than its producer gives.
    Operand(NodeId, usize),
    /// What a node's integers make in CONVERTED less what VALIDATION makes of the same quantized inputs:
    /// the error of a table, the roundings of a rescale.
    Converted(NodeId),
}

/// What the vendor's tables call `sensitive_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RowKind {
    /// Follows from the model's inputs.
    Activation,
    /// A parameter.
    Weight,
    /// A look-up table, which acts in CONVERTED only; the vendor's tables have none.
    Table,
    /// Integers on their way from one scale to another, which act in CONVERTED only.
    Rescale,
}

impl RowKind {
    /// "activation", "weight", "table" or "rescale".
    pub const fn name(self) -> &'static str {
        match self {
            RowKind::Activation => "activation",
            RowKind::Weight => "weight",
            RowKind::Table => "table",
            RowKind::Rescale => "rescale",
        }
    }
}

impl Row {
    /// Which kind of row it is.
    pub fn kind(self, graph: &Graph) -> RowKind {
        let of_constant = |id: ValueId| {
            let origin = graph.value(graph.origin(id));
            matches!(origin.kind, ValueKind::Constant(_))
        };
        match self {
            Row::Activation(_) => RowKind::Activation,
            Row::Weight(_) | Row::Constant(_) => RowKind::Weight,
            Row::Converted(id) => match graph.node(id).op {
                Op::Lut(_) => RowKind::Table,
                _ => RowKind::Rescale,
            },
            Row::Operand(id, operand) => match graph.node(id).inputs.get(operand) {
                Some(&input) if of_constant(input) => RowKind::Weight,
                _ => RowKind::Activation,
            },
        }
    }

    /// The node that a table names the row by: the one that makes the value, has the weight or
    /// consumes the constant or the operand. An input of the model has none.
    pub fn node(self, graph: &Graph) -> Option<NodeId> {
        match self {
            Row::Activation(value) => in_order(graph)
                .find(|(_, node)| node.outputs.contains(&value))
                .map(|(id, _)| id),
            Row::Weight(id) | Row::Operand(id, _) | Row::Converted(id) => Some(id),
            Row::Constant(value) => user(graph, value),
        }
    }

    /// What a table calls the operation: the value's own name for an activation (the node's, where
    /// it makes one value), the node's otherwise.
    pub fn name(self, graph: &Graph) -> &str {
        match (self, self.node(graph)) {
            (Row::Activation(value), _) => &graph.value(value).name,
            (_, Some(id)) => &graph.node(id).name,
            (Row::Constant(value), None) => &graph.value(value).name,
            (Row::Weight(_) | Row::Operand(..) | Row::Converted(_), None) => "",
        }
    }
}

/// Every row of a plan in execution order: of each node the operands that are requantized, its
/// outputs, its table or what fp16 adds, then its weights. A table from int8 to int8 is exact and has none. A value that shares the scale of another (moves, maxima) has none of
/// its own, for it is on the same grid already.
///
/// ```
/// use dual16_quant::{graph::Graph, plan::Plan, sensitivity::{RowKind, rows}};
///
/// /// How many rows there are of weights and of anything else.
/// fn counts(graph: &Graph, plan: &Plan) -> (usize, usize) {
///     let kinds = rows(graph, plan).into_iter().map(|row| row.kind(graph));
///     let (weights, others): (Vec<_>, Vec<_>) =
///         kinds.partition(|kind| *kind == RowKind::Weight);
///     (weights.len(), others.len())
/// }
/// ```
pub fn rows(graph: &Graph, plan: &Plan) -> Vec<Row> {
    let own_scale = |id: &ValueId| graph.origin(*id) == *id && plan.params(*id).is_some();
    let mut rows = Vec::new();
    let mut constants = BTreeSet::new();
    let inputs = graph.inputs.iter().copied().filter(own_scale);
    rows.extend(inputs.map(Row::Activation));
    for (id, node) in in_order(graph) {
        let requantized = |operand: &usize| {
            let plan = plan.operands.get(&(id.0, *operand));
            plan.is_some_and(|plan| plan.effective.is_some())
        };
        let operands = (0..node.inputs.len()).filter(requantized);
        rows.extend(operands.map(|operand| Row::Operand(id, operand)));
        let outputs = node.outputs.iter().copied().filter(own_scale);
        rows.extend(outputs.map(Row::Activation));
        if has_table(graph, plan, id, node) || matches!(node.op, Op::LayerNormFp16 { .. }) {
            rows.push(Row::Converted(id));
        }
        if matches!(node.op, Op::Linear(_)) && plan.linears.contains_key(&id.0) {
            rows.push(Row::Weight(id));
        }
        let of_node = node.inputs.iter().copied().filter(own_scale);
        let new = of_node.filter(|id| is_constant(graph, *id) && constants.insert(*id));
        rows.extend(new.map(Row::Constant));
    }
    rows
}

/// A row for what CONVERTED adds at each node that computes with integers, over VALIDATION.
pub fn converted_rows(graph: &Graph, plan: &Plan) -> Vec<Row> {
    let computes = |op: &Op| {
        !matches!(
            op,
            Op::Move(_)
                | Op::Island(_)
                | Op::Reduce {
                    kind: ReduceKind::Max,
                    ..
                }
        )
    };
    in_order(graph)
        .filter(|(id, node)| match node.op {
            Op::Lut(_) => has_table(graph, plan, *id, node),
            _ => computes(&node.op),
        })
        .map(|(id, _)| Row::Converted(id))
        .collect()
}

/// Whether a node runs as a table that differs from its function.
fn has_table(graph: &Graph, plan: &Plan, id: NodeId, node: &Node) -> bool {
    let output = node.outputs.first().and_then(|id| plan.params(*id));
    let formats = plan.operand(graph, id, 0).zip(output);
    let differs = formats.is_some_and(|(x, y)| has_segments(x.dtype, y.dtype));
    matches!(node.op, Op::Lut(_)) && differs
}

/// Nodes in execution order.
pub(super) fn in_order(graph: &Graph) -> impl DoubleEndedIterator<Item = (NodeId, &Node)> {
    graph.running()
}

pub(super) fn is_constant(graph: &Graph, id: ValueId) -> bool {
    matches!(graph.value(id).kind, ValueKind::Constant(_))
}

/// The first node that computes with a value rather than moving it.
fn user(graph: &Graph, value: ValueId) -> Option<NodeId> {
    let &first = graph.consumers(value).first()?;
    let node = graph.node(first);
    let moved = match (&node.op, node.outputs.as_slice()) {
        (Op::Move(_), &[output]) => user(graph, output),
        _ => None,
    };
    moved.or(Some(first))
}

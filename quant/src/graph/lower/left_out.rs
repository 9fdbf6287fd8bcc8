//! Products with constant weights that did not become a Linear, and why: no layer of a file is
//! missing without a word.

use std::collections::HashSet;

use super::{facts::Facts, units::LiveUnit, units::Pattern};
use crate::{graph::LeftOut, model::OnnxNode, onnx::GraphProto};

/// Such products, in the order of the file.
pub(super) fn found(facts: &Facts<'_>, units: &[LiveUnit<'_>]) -> Vec<LeftOut> {
    let nodes = facts.model.nodes();
    let mut linears: HashSet<&str> = HashSet::new();
    let mut live: HashSet<usize> = HashSet::new();
    for unit in units {
        live.insert(unit.last);
        if let Pattern::Linear(parts) = &unit.pattern {
            linears.extend(parts.product.made());
        }
    }
    let mut found = Vec::new();
    for (index, node) in nodes.iter().enumerate() {
        for (loop_name, graph) in node.bodies() {
            inside(facts, node, loop_name, graph, &mut found);
        }
        if !is_product(node.standard_op()) || node.made().any(|name| linears.contains(name)) {
            continue;
        }
        if let Some(reason) = reason(facts, node, live.contains(&index)) {
            found.push(LeftOut {
                name: node.label(),
                reason,
            });
        }
    }
    found
}

fn is_product(op: &str) -> bool {
    matches!(op, "MatMul" | "Gemm" | "Einsum")
}

/// Why a product of the model's own graph is no Linear; None where it has no constant operand.
fn reason(facts: &Facts<'_>, node: &OnnxNode, live: bool) -> Option<String> {
    let weight = node.uses().take(2).find(|name| facts.is_constant(name))?;
    let shape = facts.constant_shape(weight).unwrap_or_default();
    let other = node.uses().take(2).find(|name| *name != weight);
    Some(match other {
        None => return None,
        // A weight that is made of weights is told with its Linear.
        Some(other)
            if facts.model.is_constant(weight) == facts.model.is_constant(other)
                && facts.is_constant(other) =>
        {
            return None;
        }
        Some(other) if facts.is_constant(other) => {
            format!(
                "'{weight}' and '{other}', which it multiplies, follow from constants alone, and so does what it makes"
            )
        }
        Some(other) if !facts.is_activation(other) => {
            format!("'{other}', which it multiplies by '{weight}', holds no activations")
        }
        Some(_) if node.standard_op() == "Einsum" => format!(
            "its equation multiplies by the constant '{weight}' of shape {shape:?} and is no product with one \
             matrix, or the rank of '{}' is not known; it runs in float",
            other.unwrap_or_default()
        ),
        Some(_) if shape.contains(&0) => {
            format!("its constant '{weight}' of shape {shape:?} has no element")
        }
        Some(_) if shape.len() > 2 => format!(
            "its constant '{weight}' has the shape {shape:?}: batched weights, a matrix for each of \
             a batch, run as a product of activations"
        ),
        Some(_) if !live => "no output of the model needs it".to_owned(),
        Some(_) => {
            format!("its constant '{weight}' of shape {shape:?} is on the left of the product")
        }
    })
}

/// Products in the body of a Loop, an If or a Scan.
fn inside(
    facts: &Facts<'_>,
    node: &OnnxNode,
    attribute: &str,
    graph: &GraphProto,
    found: &mut Vec<LeftOut>,
) {
    let own: HashSet<&str> = graph
        .initializer
        .iter()
        .map(|tensor| tensor.name.as_str())
        .collect();
    for inner in &graph.node {
        let constant = inner
            .input
            .iter()
            .take(2)
            .any(|name| own.contains(name.as_str()) || facts.is_constant(name));
        if is_product(&inner.op_type) && inner.domain.is_empty() && constant {
            found.push(LeftOut {
                name: inner.label(),
                reason: format!(
                    "it is in the {attribute} of {} '{}', which runs in float as a whole; unroll it, \
                     or export the model without it",
                    node.op_type,
                    node.label()
                ),
            });
        }
        let graphs = inner.attribute.iter().flat_map(|attribute| {
            let graphs = attribute.g.iter().chain(&attribute.graphs);
            graphs.map(|graph| (attribute.name.as_str(), graph))
        });
        for (attribute, graph) in graphs {
            inside(facts, node, attribute, graph, found);
        }
    }
}

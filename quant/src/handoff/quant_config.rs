//! `quant_config.json`: the dtypes of the nodes of `mended.onnx`, for the vendor's tool that calibrates ONNX
//! models. Its file has no place for thresholds; those are in `modules.json` and `plan.json`.

use std::collections::BTreeMap;

use dual16_nash::{dtype::IntDtype, ways::Way};
use serde_json::{Map, Value, json};

use super::{emit::Emitter, source::Source};
use crate::{
    Result,
    graph::{Node, NodeId, Op},
    model::OnnxNode,
    observe::ObserverKind,
    plan::{InnerParams, LinearPlan},
    settings::Template,
};

/// The file's text, for the nodes that the emitter of `mended.onnx` wrote.
///
/// # Errors
/// None that a caller can cause.
pub(super) fn text(emitter: &Emitter<'_, '_>) -> Result<String> {
    let source = emitter.source;
    let template = match source.settings.template {
        Template::A8W8 => IntDtype::Int8,
        Template::A16W8 | Template::A16W16 => IntDtype::Int16,
    };
    let mut nodes: BTreeMap<String, Value> = BTreeMap::new();
    for (id, node) in source.graph.running() {
        for (name, op) in onnx_nodes(emitter, id, node) {
            let config = match &node.op {
                Op::Linear(_) => source
                    .plan
                    .linears
                    .get(&id.0)
                    .and_then(|planned| of_linear(planned, &name, &op, template)),
                Op::MatMul | Op::Dot { .. } if op == "MatMul" => operands(source, id),
                _ => of_other(source, id, template),
            };
            if let Some(config) = config {
                nodes.insert(name, config);
            }
        }
    }
    let mut activation = Map::new();
    activation.insert("per_channel".to_owned(), false.into());
    activation.insert("asymmetric".to_owned(), false.into());
    let calibration = match source.settings.observer {
        ObserverKind::MinMax => Some("max"),
        ObserverKind::Kl => Some("kl"),
        _ => None,
    };
    if let Some(kind) = calibration {
        activation.insert("calibration_type".to_owned(), kind.into());
    }
    let config = json!({
        "model_config": {
            "all_node_type": template.to_string(),
            "activation": activation,
        },
        "op_config": {},
        "node_config": nodes,
        "subgraph_config": {},
    });
    super::pretty("quant_config.json", &config)
}

/// Names and operators of the nodes of the file that a node of the graph became.
fn onnx_nodes(emitter: &Emitter<'_, '_>, id: NodeId, node: &Node) -> Vec<(String, String)> {
    let written = emitter.writer.nodes();
    let named = |name: &String| {
        let found = written.iter().find(|node| node.name == *name)?;
        Some((name.clone(), found.op_type.clone()))
    };
    if let Some(names) = emitter.written.get(&id) {
        return names.iter().filter_map(named).collect();
    }
    // As the canonical form has it: the node that makes its output, and of a Linear its product.
    let model = emitter.source.model;
    let output = node.outputs.first();
    let output = output.and_then(|id| emitter.source.graph.value(*id).onnx.as_deref());
    let made = |name: &str| {
        let mut nodes = model.nodes().iter().enumerate();
        nodes.find(|(_, node)| node.made().any(|made| made == name))
    };
    let Some((index, last)) = output.and_then(made) else {
        return Vec::new();
    };
    let is_product = |node: &OnnxNode| matches!(node.standard_op(), "MatMul" | "Gemm");
    let index = match (&node.op, is_product(last)) {
        (Op::Linear(_), false) => {
            let product = last
                .uses()
                .filter_map(made)
                .find(|(_, node)| is_product(node));
            product.map(|(index, _)| index)
        }
        _ => Some(index),
    };
    let name = index.and_then(|index| emitter.kept.get(&index));
    name.and_then(named).into_iter().collect()
}

/// The product or products of a Linear.
fn of_linear(planned: &LinearPlan, name: &str, op: &str, template: IntDtype) -> Option<Value> {
    if !matches!(op, "MatMul" | "Gemm") {
        // Products, sums and additions of a way are int16.
        let is_operation = matches!(op, "Mul" | "ReduceSum" | "Add");
        return (is_operation && template != IntDtype::Int16).then(|| json!({"qtype": "int16"}));
    }
    let (x, w) = match planned.params.inner {
        InnerParams::Split { .. } => (IntDtype::Int16, IntDtype::Int8),
        // What is between the factors of a branch is int16.
        InnerParams::LowRank { .. } if name.ends_with("lowrank_up") => {
            (IntDtype::Int16, IntDtype::Int8)
        }
        InnerParams::LowRank { .. } => (planned.params.input.dtype, IntDtype::Int8),
        _ => (planned.way.activation_dtype(), planned.way.weight_dtype()),
    };
    Some(match planned.way {
        Way::A16W16 => json!({"qtype": "dual-int16"}),
        _ => product(x, w),
    })
}

fn product(a: IntDtype, b: IntDtype) -> Value {
    match (a, b) {
        (IntDtype::Int16, IntDtype::Int16) => json!({"qtype": "dual-int16"}),
        (a, b) if a == b => json!({"qtype": a.to_string()}),
        (a, b) => json!({"qtype": "int16", "input0": a.to_string(), "input1": b.to_string()}),
    }
}

/// A product of two activations.
fn operands(source: &Source<'_>, id: NodeId) -> Option<Value> {
    let dtype = |operand| Some(source.plan.operand(source.graph, id, operand)?.dtype);
    Some(product(dtype(0)?, dtype(1)?))
}

/// Any other operation, where its input is not what the template gives it.
fn of_other(source: &Source<'_>, id: NodeId, template: IntDtype) -> Option<Value> {
    let dtype = source.plan.operand(source.graph, id, 0)?.dtype;
    (dtype != template).then(|| json!({"qtype": dtype.to_string()}))
}

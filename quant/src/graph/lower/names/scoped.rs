//! Names by where the exporter says a node is from, whatever its parameters say.

use std::collections::{HashMap, HashSet};

use super::Modules;
use crate::{
    graph::lower::units::{LiveUnit, Pattern},
    model::OnnxNode,
};

/// The name wanted for each unit, in order:
/// - without metadata, the ONNX node name, or the name of its first output;
/// - the module's name, if the module has no modules inside and calls one function only;
/// - the module's and the function's name otherwise;
/// - where a function is several units, the last has that name and the others have their operator
///   appended.
pub(super) fn names(
    units: &[LiveUnit<'_>],
    nodes: &[&OnnxNode],
    modules: &Modules<'_>,
) -> Vec<String> {
    let mut functions: HashMap<&str, HashSet<&str>> = HashMap::new();
    let mut last: HashMap<(&str, &str), usize> = HashMap::new();
    for (index, node) in nodes.iter().enumerate() {
        if let Some(function) = &node.scope.function {
            functions
                .entry(&node.scope.module)
                .or_default()
                .insert(function);
            last.insert((&node.scope.module, function), index);
        }
    }
    let name = |(index, (unit, node)): (usize, (&LiveUnit<'_>, &&OnnxNode))| {
        let module = node.scope.module.as_str();
        let Some(function) = &node.scope.function else {
            return without_metadata(unit, node);
        };
        let alone = functions.get(module).is_some_and(|all| all.len() == 1);
        let base = match module {
            "" => function.clone(),
            _ if alone && modules.is_leaf(module) => module.to_owned(),
            _ => format!("{module}.{function}"),
        };
        match last.get(&(module, function.as_str())) == Some(&index) {
            true => base,
            false => format!("{base}.{}", node.op_type.to_lowercase()),
        }
    };
    units.iter().zip(nodes).enumerate().map(name).collect()
}

fn without_metadata(unit: &LiveUnit<'_>, node: &OnnxNode) -> String {
    // Of a MatMul and its Add, the MatMul is the layer.
    let named = match &unit.pattern {
        Pattern::Linear(parts) => parts.product,
        _ => node,
    };
    match (named.name.as_str(), node.outputs.first()) {
        ("", Some(output)) => output.clone(),
        ("", None) => node.op_type.clone(),
        (name, _) => name.to_owned(),
    }
}

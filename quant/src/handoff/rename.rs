//! Nodes whose values have other names.

use std::collections::{HashMap, HashSet};

use crate::onnx::{GraphProto, NodeProto};

/// Gives values other names, within graphs inside the node as well.
pub(super) fn rename(node: &mut NodeProto, renamed: &HashMap<String, String>) {
    let new = |name: &mut String| {
        if let Some(new) = renamed.get(name) {
            name.clone_from(new);
        }
    };
    node.input.iter_mut().for_each(new);
    node.output.iter_mut().for_each(new);
    for attribute in &mut node.attribute {
        let graphs = attribute.g.iter_mut().chain(&mut attribute.graphs);
        graphs.for_each(|graph| rename_within(graph, renamed));
    }
}

fn rename_within(graph: &mut GraphProto, renamed: &HashMap<String, String>) {
    // What the inner graph makes is its own, whatever it is called.
    let own: HashSet<String> = graph
        .node
        .iter()
        .flat_map(|node| node.output.clone())
        .chain(graph.input.iter().map(|value| value.name.clone()))
        .chain(graph.initializer.iter().map(|tensor| tensor.name.clone()))
        .collect();
    let outer = renamed.iter().filter(|(name, _)| !own.contains(*name));
    let outer: HashMap<String, String> = outer
        .map(|(name, new)| (name.clone(), new.clone()))
        .collect();
    for node in &mut graph.node {
        rename(node, &outer);
    }
    for output in &mut graph.output {
        if let Some(new) = outer.get(&output.name) {
            output.name.clone_from(new);
        }
    }
}

//! Which values a graph reads, in the bodies of its nodes as well.

use std::collections::HashSet;

use super::{GraphProto, NodeProto};

/// What a graph reads or gives.
pub(crate) fn reads(graph: &GraphProto) -> HashSet<&str> {
    let mut read = HashSet::new();
    of_graph(graph, &mut read);
    read
}

/// Adds what a node reads.
pub(crate) fn of_node<'g>(node: &'g NodeProto, read: &mut HashSet<&'g str>) {
    read.extend(node.input.iter().map(String::as_str));
    of_bodies(node, read);
}

/// Adds what the bodies of a node read and give.
pub(crate) fn of_bodies<'g>(node: &'g NodeProto, read: &mut HashSet<&'g str>) {
    for attribute in &node.attribute {
        let bodies = attribute.g.iter().chain(&attribute.graphs);
        bodies.for_each(|body| of_graph(body, read));
    }
}

fn of_graph<'g>(graph: &'g GraphProto, read: &mut HashSet<&'g str>) {
    read.extend(graph.output.iter().map(|value| value.name.as_str()));
    graph.node.iter().for_each(|node| of_node(node, read));
}

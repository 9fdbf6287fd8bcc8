//! Which ONNX nodes are one operation, and which are needed at all.

use std::collections::HashSet;

use dual16_nash::lut::LutFunction;

use super::{
    activation,
    facts::{Facts, operands},
    linear,
    linear::LinearParts,
    norm,
    norm::LayerNormParts,
};
use crate::model::OnnxNode;

/// What a group of nodes is.
#[derive(Debug)]
pub(super) enum Pattern<'a> {
    /// A fully connected layer.
    Linear(LinearParts<'a>),
    /// A function of one variable.
    Lut {
        /// Its argument.
        x: &'a str,
        /// The function.
        function: LutFunction,
    },
    /// LayerNorm, written as one node or as many.
    LayerNorm(LayerNormParts<'a>),
    /// Softmax.
    Softmax {
        /// Its argument.
        x: &'a str,
        /// In [0, rank).
        axis: usize,
    },
    /// One node, whatever it is.
    Single,
}

/// A group of nodes, known by its last.
#[derive(Debug)]
pub(super) struct LiveUnit<'a> {
    /// The node whose outputs are the group's.
    pub(super) last: usize,
    /// What it is.
    pub(super) pattern: Pattern<'a>,
}

/// The units that the outputs need, in the order of the file. Going backwards, a unit needs only
/// its own arguments: what lies between them and its last node is needed by nobody else, or is a
/// unit of its own besides.
pub(super) fn live<'a>(facts: &Facts<'a>, outputs: &[&'a str]) -> Vec<LiveUnit<'a>> {
    let mut needed: HashSet<&str> = outputs.iter().copied().collect();
    let mut units = Vec::new();
    for (last, node) in facts.model.nodes().iter().enumerate().rev() {
        let carried = |name: &str| needed.contains(name) && facts.is_carried(name);
        if !node.made().any(carried) {
            continue;
        }
        // What is made of integers alone is the float run's, whatever is made of it.
        if !operands(node).any(|name| facts.is_carried(name)) {
            continue;
        }
        let pattern = recognise(facts, node);
        needed.extend(arguments(facts, node, &pattern));
        units.push(LiveUnit { last, pattern });
    }
    units.reverse();
    units
}

fn recognise<'a>(facts: &Facts<'a>, node: &'a OnnxNode) -> Pattern<'a> {
    None.or_else(|| linear::recognise(facts, node).map(Pattern::Linear))
        .or_else(|| norm::recognise_layer_norm(facts, node).map(Pattern::LayerNorm))
        .or_else(|| norm::recognise_softmax(facts, node))
        .or_else(|| activation::recognise(facts, node))
        .unwrap_or(Pattern::Single)
}

/// Activations that a unit consumes, in no particular order.
fn arguments<'a>(facts: &Facts<'a>, node: &'a OnnxNode, pattern: &Pattern<'a>) -> Vec<&'a str> {
    let all: Vec<&str> = match pattern {
        Pattern::Linear(parts) => vec![parts.x],
        Pattern::Lut { x, .. } | Pattern::Softmax { x, .. } => vec![x],
        Pattern::LayerNorm(parts) => [Some(parts.x), parts.weight, parts.bias]
            .into_iter()
            .flatten()
            .collect(),
        Pattern::Single => operands(node).collect(),
    };
    all.into_iter()
        .filter(|name| facts.is_carried(name))
        .collect()
}

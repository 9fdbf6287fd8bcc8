//! Names of nodes. A person types them and tables print them, so they are the PyTorch module's
//! wherever the file tells, unique, and the same for every job on the same model.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::{facts::Facts, units::LiveUnit, units::Pattern};
use crate::model::OnnxNode;

/// Names given so far.
#[derive(Debug, Default)]
pub(super) struct Unique {
    taken: HashSet<String>,
    /// The number to try next after a name: the ones below are taken, and stay so.
    next: HashMap<String, u64>,
}

impl Unique {
    /// The name itself, or with the first free `_1`, `_2` … appended.
    pub(super) fn take(&mut self, wanted: &str) -> String {
        if self.taken.insert(wanted.to_owned()) {
            return wanted.to_owned();
        }
        let next = self.next.entry(wanted.to_owned()).or_insert(1);
        loop {
            let name = format!("{wanted}_{next}");
            *next += 1;
            if self.taken.insert(name.clone()) {
                return name;
            }
        }
    }
}

/// A name for each unit, in order:
/// - without metadata, the ONNX node name, or the name of its first output;
/// - the module's name, if the module has no modules inside and calls one function only;
/// - the module's and the function's name otherwise;
/// - where a function is several units, the last has that name and the others have their operator
///   appended.
pub(super) fn assign(facts: &Facts<'_>, units: &[LiveUnit<'_>]) -> Vec<String> {
    let nodes: Vec<&OnnxNode> = units
        .iter()
        .filter_map(|unit| facts.model.nodes().get(unit.last))
        .collect();
    let modules: BTreeSet<&str> = facts
        .model
        .nodes()
        .iter()
        .map(|node| node.scope.module.as_str())
        .collect();
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
    let is_leaf = |module: &str| {
        let prefix = format!("{module}.");
        !modules
            .range(prefix.as_str()..)
            .next()
            .is_some_and(|next| next.starts_with(&prefix))
    };

    let mut unique = Unique::default();
    // A graph input keeps its name, and so does the value of a node: they must not collide.
    for input in facts.float_inputs() {
        unique.take(input);
    }
    let mut named = Vec::with_capacity(units.len());
    for (index, (unit, node)) in units.iter().zip(&nodes).enumerate() {
        let module = node.scope.module.as_str();
        let wanted = match &node.scope.function {
            None => without_metadata(unit, node),
            Some(function) => {
                let alone = functions.get(module).is_some_and(|all| all.len() == 1);
                let base = match module {
                    "" => function.clone(),
                    _ if alone && is_leaf(module) => module.to_owned(),
                    _ => format!("{module}.{function}"),
                };
                let is_last = last.get(&(module, function.as_str())) == Some(&index);
                if is_last {
                    base
                } else {
                    format!("{base}.{}", node.op_type.to_lowercase())
                }
            }
        };
        named.push(unique.take(&wanted));
    }
    named
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_taken_gets_the_first_free_number() {
        let mut unique = Unique::default();
        let names = ["a", "a_2", "a", "a", "a_1", "a", "a_1"].map(|wanted| unique.take(wanted));
        assert_eq!(names, ["a", "a_2", "a_1", "a_3", "a_1_1", "a_4", "a_1_2"]);
    }
}

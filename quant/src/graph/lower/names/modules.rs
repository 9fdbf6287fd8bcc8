//! The modules that a file's nodes were written for.

use std::collections::{BTreeSet, HashMap};

use crate::{graph::lower::facts::Facts, model::OnnxNode};

/// Which modules there are, and what is in them.
pub(super) struct Modules<'a> {
    all: BTreeSet<&'a str>,
    /// Units directly in a module.
    units: HashMap<&'a str, usize>,
}

impl<'a> Modules<'a> {
    /// `nodes` are the last ones of the units.
    pub(super) fn of(facts: &Facts<'a>, nodes: &[&'a OnnxNode]) -> Modules<'a> {
        let mut units = HashMap::new();
        for node in nodes {
            *units.entry(node.scope.module.as_str()).or_default() += 1;
        }
        let all = facts.model.nodes().iter();
        Modules {
            all: all.map(|node| node.scope.module.as_str()).collect(),
            units,
        }
    }

    /// Whether a module has no modules inside.
    pub(super) fn is_leaf(&self, module: &str) -> bool {
        let prefix = format!("{module}.");
        !self
            .all
            .range(prefix.as_str()..)
            .next()
            .is_some_and(|next| next.starts_with(&prefix))
    }

    /// Whether a module, not the root, is nothing but one unit.
    pub(super) fn is_one_unit(&self, module: &str) -> bool {
        !module.is_empty() && self.units.get(module) == Some(&1) && self.is_leaf(module)
    }
}

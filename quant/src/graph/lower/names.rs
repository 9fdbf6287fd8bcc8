//! Names of nodes. A person types them and tables print them, so they are the PyTorch module's
//! wherever the file tells, unique, and the same for every job on the same model.

mod modules;
mod parameter;
mod scoped;

use std::collections::{HashMap, HashSet};

use super::{facts::Facts, linear::LinearParts, units::LiveUnit, units::Pattern};
use crate::{graph::Names, model::OnnxNode};

use modules::Modules;
use parameter::{Owner, is_within};

/// Names given so far.
#[derive(Debug, Default)]
pub(super) struct Unique {
    taken: HashSet<String>,
    /// The number to try next after a name: the ones below are taken, and stay so.
    next: HashMap<String, u64>,
}

impl Unique {
    /// A graph input keeps its name, and so does the value of a node: they must not collide.
    fn of_inputs(facts: &Facts<'_>) -> Unique {
        let mut unique = Unique::default();
        for input in facts.float_inputs() {
            unique.take(input);
        }
        unique
    }

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

/// Names for each unit, in order. A Linear has the path of its module, or of the parameter that
/// tells it (`blocks.0.attn.in_proj`). All others, and a Linear whose path is not told or not its
/// alone, have the name by [`scoped`].
pub(super) fn assign(facts: &Facts<'_>, units: &[LiveUnit<'_>]) -> Vec<Names> {
    let nodes: Vec<&OnnxNode> = units
        .iter()
        .filter_map(|unit| facts.model.nodes().get(unit.last))
        .collect();
    let modules = Modules::of(facts, &nodes);
    let owners: Vec<Option<Owner>> = units
        .iter()
        .map(|unit| match &unit.pattern {
            Pattern::Linear(parts) => owner(facts, parts, &modules),
            _ => None,
        })
        .collect();
    let scoped = scoped::names(units, &nodes, &modules);

    // A path is worth more than a running number, so it comes first.
    let mut unique = Unique::of_inputs(facts);
    let taken: Vec<Option<String>> = paths(&owners)
        .into_iter()
        .map(|path| path.map(|path| unique.take(&path)))
        .collect();
    let mut by_scope = Unique::of_inputs(facts);
    let all = units.iter().zip(nodes).zip(owners).zip(taken).zip(scoped);
    all.map(|((((unit, node), owner), path), scoped)| {
        let old = by_scope.take(&scoped);
        let name = path.unwrap_or_else(|| unique.take(&scoped));
        let (module, is_module) = match owner {
            Some(Owner { module, path }) => {
                let is_module = module == path;
                (module, is_module)
            }
            None => {
                let module = node.scope.module.clone();
                let is_module = modules.is_one_unit(&module);
                (module, is_module)
            }
        };
        let (op, product) = match &unit.pattern {
            Pattern::Linear(parts) => ("Linear", Some(parts.product)),
            _ => (node.op_type.as_str(), None),
        };
        let first = product.filter(|product| product.outputs != node.outputs);
        let parts: Vec<&OnnxNode> = first.into_iter().chain([node]).collect();
        let named = parts.iter().filter(|node| !node.name.is_empty());
        Names {
            scoped: (old != name).then_some(old),
            name,
            module,
            is_module,
            op: op.to_owned(),
            nodes: named.map(|node| node.name.clone()).collect(),
            outputs: parts
                .iter()
                .flat_map(|node| node.made().map(str::to_owned))
                .collect(),
        }
    })
    .collect()
}

/// Whose a Linear is by its weight, by its bias, or else the module that calls it where that calls
/// nothing besides. A parameter that two modules share has the name that it has in one of them, so
/// one that does not belong to the calling module tells nothing.
fn owner(facts: &Facts<'_>, parts: &LinearParts<'_>, modules: &Modules<'_>) -> Option<Owner> {
    let scope = &parts.product.scope;
    let node = Some(parts.product.name.as_str()).filter(|_| scope.function.is_none());
    [Some(parts.weight), parts.bias]
        .into_iter()
        .flatten()
        .filter_map(|constant| parameter::owner(facts, constant))
        .find(|owner| is_within(&owner.path, &scope.module, node))
        .or_else(|| {
            modules.is_one_unit(&scope.module).then(|| Owner {
                module: scope.module.clone(),
                path: scope.module.clone(),
            })
        })
}

/// The path of each Linear that has one to itself. One parameter that is several Linears
/// (`in_proj_weight`: query, key and value) numbers them; a module that is called several times has
/// its calls named by the scope.
fn paths(owners: &[Option<Owner>]) -> Vec<Option<String>> {
    let mut total: HashMap<&str, usize> = HashMap::new();
    for owner in owners.iter().flatten() {
        *total.entry(&owner.path).or_default() += 1;
    }
    let mut before: HashMap<&str, usize> = HashMap::new();
    owners
        .iter()
        .map(|owner| {
            let Owner { module, path } = owner.as_ref()?;
            if total.get(path.as_str()) == Some(&1) {
                return Some(path.clone());
            }
            let number = before.entry(path).or_default();
            *number += 1;
            (path != module).then(|| format!("{path}.{}", *number - 1))
        })
        .collect()
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

//! A run of a large model in pieces of consecutive nodes, what later pieces need handed on. rten
//! plans a run by recursion as deep as the graph, which a thread's stack must hold, and compares each
//! result that is wanted with each other one, and each node with all that could run. In pieces the
//! depth is bounded and the time goes with the number of nodes. The figures are the same: every
//! node runs once, on the same operands.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::{FloatModel, convert};
use crate::{batch::Batch, error::Result, model::OnnxNode};

/// Nodes of a piece, and of a model that is run as a whole.
pub(super) const NODES: usize = 1000;

/// When a value is needed that is a result of the run.
const AT_THE_END: usize = usize::MAX;

impl FloatModel {
    /// Runs the model and returns the values named, in their order.
    pub(super) fn execute_whole(
        &self,
        given: &Batch,
        outputs: &BTreeSet<&str>,
    ) -> Result<Vec<rten::Value>> {
        if self.nodes.len() > NODES {
            return self.execute_in_pieces(given, outputs);
        }
        let given = given
            .iter()
            .map(|(name, datum)| Ok((name.as_str(), convert::to_rten(datum)?)))
            .collect::<Result<Vec<_>>>()?;
        self.execute(&self.file, given, outputs)
    }

    fn execute_in_pieces(
        &self,
        given: &Batch,
        outputs: &BTreeSet<&str>,
    ) -> Result<Vec<rten::Value>> {
        let Needs { needed, live } = self.needs(given, outputs);
        let mut made: HashMap<&str, rten::Value> = HashMap::new();
        for (piece, (nodes, live)) in self.nodes.chunks(NODES).zip(live.chunks(NODES)).enumerate() {
            let nodes = || {
                let pairs = nodes.iter().zip(live);
                pairs.filter(|(_, live)| **live).map(|(node, _)| node)
            };
            let own: HashSet<&str> = nodes()
                .flat_map(OnnxNode::made)
                .filter(|name| !given.contains_key(*name))
                .collect();
            let later = |name: &&str| needed.get(name).is_some_and(|&last| last > piece);
            let mut wanted: BTreeSet<&str> = own.iter().copied().filter(later).collect();
            if piece == 0 {
                // Inputs and constants, which no piece makes; and names that nothing has.
                wanted.extend(outputs.iter().filter(|name| !self.makes(name, given)));
            }
            if wanted.is_empty() {
                continue;
            }
            let uses = nodes().flat_map(OnnxNode::uses);
            let uses: BTreeSet<&str> = uses
                .chain(wanted.iter().copied())
                .filter(|name| !own.contains(name))
                .collect();
            let mut operands = Vec::new();
            for name in uses {
                if let Some(datum) = given.get(name) {
                    operands.push((name, convert::to_rten(datum)?));
                } else if let Some(value) = made.get(name) {
                    operands.push((name, value.into()));
                }
            }
            let values = self.execute(&self.file, operands, &wanted)?;
            made.extend(wanted.into_iter().zip(values));
            made.retain(|name, _| later(name));
        }
        outputs
            .iter()
            .map(|name| made.remove(*name).ok_or_else(|| self.unknown(name)))
            .collect()
    }

    /// Which nodes the outputs need, and until when each value is needed.
    fn needs<'n>(&'n self, given: &Batch, outputs: &BTreeSet<&'n str>) -> Needs<'n> {
        let mut needed: HashMap<&str, usize> =
            outputs.iter().map(|&name| (name, AT_THE_END)).collect();
        let mut live = vec![false; self.nodes.len()];
        for (index, node) in self.nodes.iter().enumerate().rev() {
            let runs = node
                .made()
                .any(|name| needed.contains_key(name) && !given.contains_key(name));
            if !runs {
                continue;
            }
            live[index] = true;
            for name in node.uses().filter(|name| !self.constants.contains(*name)) {
                // Going backwards, the first use met is the last.
                needed.entry(name).or_insert(index / NODES);
            }
        }
        Needs { needed, live }
    }

    /// Whether a run makes a value, rather than having it.
    fn makes(&self, name: &str, given: &Batch) -> bool {
        !given.contains_key(name) && self.made.contains(name)
    }
}

struct Needs<'n> {
    /// The last piece that uses a value.
    needed: HashMap<&'n str, usize>,
    /// By node.
    live: Vec<bool>,
}

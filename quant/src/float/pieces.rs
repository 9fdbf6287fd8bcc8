//! A run in pieces, what later pieces need handed on. Pieces are cut where one of our own kernels
//! stands between rten's nodes, around a loop, so that one without an end is known by name, and where
//! there are many nodes: rten plans a run by recursion as
//! deep as the graph, which a thread's stack must hold, and compares each result that is wanted with
//! each other one, and each node with all that could run. In pieces the depth is bounded and the
//! time goes with the number of nodes. The figures are the same: every node runs once, on the same
//! operands.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::{FloatModel, convert, doubles, own};
use crate::{batch::Batch, error::Result, model::OnnxNode, place, tensor::Datum};

/// Nodes of a piece, at most.
const NODES: usize = 1000;

/// The same where operands are looked at, and kept for it until the piece has run.
const NODES_LOOKED_AT: usize = 50;

/// When a value is needed that is a result of the run.
const AT_THE_END: usize = usize::MAX;

/// Nodes that run together, by index.
#[derive(Debug)]
pub(super) enum Piece {
    /// By rten.
    Rten(Vec<usize>),
    /// By a kernel of our own.
    Own(usize),
}

/// Cuts a model: first all nodes that need none of our own kernels and no loop, then those that they
/// lead to, then what those lead to, and so on.
pub(super) fn cut(nodes: &[OnnxNode], looked_at: bool) -> Vec<Piece> {
    let longest = if looked_at { NODES_LOOKED_AT } else { NODES };
    let mut depths: HashMap<&str, usize> = HashMap::new();
    let mut by_depth: Vec<(Vec<usize>, Vec<Piece>)> = Vec::new();
    for (index, node) in nodes.iter().enumerate() {
        let depth = node
            .uses()
            .filter_map(|name| depths.get(name).copied())
            .max()
            .unwrap_or(0);
        if by_depth.len() <= depth {
            by_depth.resize_with(depth + 1, Default::default);
        }
        let apart = match node.op_type.as_str() {
            _ if own::is_own(node) => Some(Piece::Own(index)),
            "Loop" | "Scan" => Some(Piece::Rten(vec![index])),
            _ => None,
        };
        for name in node.made() {
            depths.insert(name, depth + usize::from(apart.is_some()));
        }
        let (rten, others) = &mut by_depth[depth];
        match apart {
            Some(piece) => others.push(piece),
            None => rten.push(index),
        }
    }
    let pieces = by_depth.into_iter().flat_map(|(rten, others)| {
        let rten: Vec<Piece> = rten
            .chunks(longest)
            .map(|nodes| Piece::Rten(nodes.to_vec()))
            .collect();
        rten.into_iter().chain(others)
    });
    pieces.collect()
}

impl FloatModel {
    /// Runs the model and returns the values named, in their order.
    pub(super) fn execute_whole(
        &self,
        given: &Batch,
        outputs: &BTreeSet<&str>,
    ) -> Result<Vec<rten::Value>> {
        let whole = matches!(self.pieces.as_slice(), [] | [Piece::Rten(_)]);
        if whole && self.doubles.is_empty() {
            let weights = self
                .weights
                .iter()
                .map(|(name, weight)| Ok((name.as_str(), convert::floats_to_rten(weight)?)));
            let given = given
                .iter()
                .map(|(name, datum)| Ok((name.as_str(), convert::to_rten(datum)?)))
                .chain(weights.filter(|weight| {
                    weight
                        .as_ref()
                        .is_ok_and(|(name, _)| !given.contains_key(*name))
                }))
                .collect::<Result<Vec<_>>>()?;
            place::at_made(|| run_of(self.nodes.iter()));
            return self.execute(&self.file, given, outputs);
        }
        self.execute_in_pieces(given, outputs)
    }

    fn execute_in_pieces(
        &self,
        given: &Batch,
        outputs: &BTreeSet<&str>,
    ) -> Result<Vec<rten::Value>> {
        let Needs { needed, live } = self.needs(given, outputs);
        let mut made: HashMap<&str, rten::Value> = HashMap::new();
        for (number, piece) in self.pieces.iter().enumerate() {
            let later = |name: &&str| needed.get(name).is_some_and(|&last| last > number);
            match piece {
                Piece::Own(index) if live[*index] => {
                    let node = &self.nodes[*index];
                    let operands = node
                        .inputs
                        .iter()
                        .map(|name| match name.as_str() {
                            "" => Ok(None),
                            name => self.operand(name, given, &made).map(Some),
                        })
                        .collect::<Result<Vec<Option<Datum>>>>()?;
                    let operands: Vec<Option<&Datum>> =
                        operands.iter().map(Option::as_ref).collect();
                    let results = own::run(node, &operands)?;
                    let named = node.outputs.iter().zip(results);
                    made.extend(
                        named
                            .filter(|(name, _)| !name.is_empty())
                            .map(|(name, result)| (name.as_str(), convert::into_rten(result))),
                    );
                    self.look_at_doubles(*index, given, &made)?;
                }
                Piece::Own(_) => {}
                Piece::Rten(nodes) => {
                    self.run_piece((number, nodes), given, &needed, &live, &mut made)?
                }
            }
            made.retain(|name, _| later(name));
        }
        outputs
            .iter()
            .map(|name| match made.remove(*name) {
                Some(value) => Ok(value),
                None => self.operand(name, given, &made).map(convert::into_rten),
            })
            .collect()
    }

    /// One piece of rten's nodes.
    fn run_piece<'n>(
        &'n self,
        (number, indices): (usize, &[usize]),
        given: &Batch,
        needed: &HashMap<&str, usize>,
        live: &[bool],
        made: &mut HashMap<&'n str, rten::Value>,
    ) -> Result<()> {
        let nodes = || {
            let live = indices.iter().filter(|index| live[**index]);
            live.map(|&index| &self.nodes[index])
        };
        let own: HashSet<&str> = nodes()
            .flat_map(OnnxNode::made)
            .filter(|name| !given.contains_key(*name))
            .collect();
        let later = |name: &&str| needed.get(name).is_some_and(|&last| last > number);
        let mut wanted: BTreeSet<&str> = own.iter().copied().filter(later).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let looked_at = || {
            let live = indices.iter().copied().filter(|&index| live[index]);
            live.filter(|index| self.doubles.contains_key(index))
        };
        for index in looked_at() {
            let node = &self.nodes[index];
            let names = node.uses().chain(node.made());
            wanted.extend(names.filter(|name| own.contains(name)));
        }
        let uses: BTreeSet<&str> = nodes()
            .flat_map(OnnxNode::uses)
            .filter(|name| !own.contains(name))
            .collect();
        place::at_made(|| run_of(nodes()));
        let mut operands = Vec::new();
        for name in uses {
            if let Some(datum) = given.get(name) {
                operands.push((name, convert::to_rten(datum)?));
            } else if let Some(value) = made.get(name) {
                operands.push((name, value.into()));
            } else if let Some(weight) = self.weights.get(name) {
                operands.push((name, convert::floats_to_rten(weight)?));
            }
        }
        let values = self.execute(&self.file, operands, &wanted)?;
        made.extend(wanted.into_iter().zip(values));
        looked_at().try_for_each(|index| self.look_at_doubles(index, given, made))
    }

    /// Refuses a node that has run and lost what its doubles were.
    fn look_at_doubles(
        &self,
        index: usize,
        given: &Batch,
        made: &HashMap<&str, rten::Value>,
    ) -> Result<()> {
        let Some(&watch) = self.doubles.get(&index) else {
            return Ok(());
        };
        let node = &self.nodes[index];
        let operands = node.inputs.iter().filter(|name| !name.is_empty());
        let operands = operands
            .map(|name| self.operand(name, given, made))
            .collect::<Result<Vec<Datum>>>()?;
        let result = node.made().next().and_then(|name| made.get(name));
        let result = result.and_then(|value| convert::from_rten(value.clone()));
        doubles::check(node, watch, &operands, result.as_ref())
    }

    /// A value that a run is given, has as a constant or has made.
    pub(super) fn operand(
        &self,
        name: &str,
        given: &Batch,
        made: &HashMap<&str, rten::Value>,
    ) -> Result<Datum> {
        if let Some(datum) = given.get(name) {
            return Ok(datum.clone());
        }
        if let Some(value) = made.get(name) {
            return convert::from_rten(value.clone()).ok_or_else(|| self.sequence(name));
        }
        if let Some(weight) = self.weights.get(name) {
            return Ok(Datum::F32(weight.to_owned()));
        }
        // A small constant, which rten has.
        let values = self.execute(&self.file, Vec::new(), &BTreeSet::from([name]))?;
        let value = values.into_iter().next().and_then(convert::from_rten);
        value.ok_or_else(|| self.sequence(name))
    }

    /// Which nodes the outputs need, and until when each value is needed.
    fn needs<'n>(&'n self, given: &Batch, outputs: &BTreeSet<&'n str>) -> Needs<'n> {
        let mut pieces = vec![0; self.nodes.len()];
        for (number, piece) in self.pieces.iter().enumerate() {
            match piece {
                Piece::Own(index) => pieces[*index] = number,
                Piece::Rten(nodes) => nodes.iter().for_each(|&index| pieces[index] = number),
            }
        }
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
                let last = needed.entry(name).or_default();
                *last = (*last).max(pieces[index]);
            }
        }
        Needs { needed, live }
    }
}

/// What a float run of some nodes is called: by the node, or by the first and the last.
fn run_of<'n>(nodes: impl IntoIterator<Item = &'n OnnxNode>) -> String {
    let mut nodes = nodes.into_iter();
    match (nodes.next(), nodes.last()) {
        (Some(first), Some(last)) => {
            format!("float run, '{}' to '{}'", first.label(), last.label())
        }
        (Some(only), None) => only.label(),
        (None, _) => "float run".to_owned(),
    }
}

struct Needs<'n> {
    /// The last piece that uses a value.
    needed: HashMap<&'n str, usize>,
    /// By node.
    live: Vec<bool>,
}

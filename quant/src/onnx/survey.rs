//! What a model's file holds, counted on the wire and held against the limits before any of it is
//! decoded: two bytes there can be a whole message in memory. Knows the field numbers of ONNX; that
//! a file makes no sense is for the decoder to say.

use super::Fields;
use crate::{
    error::{Error, Result},
    limits::{InputLimit, InputLimits, shown},
};

/// Subgraphs within one another that the decoder follows: it takes 100 messages, a level of subgraph
/// is three of them, and what lies below a graph up to five more.
const DECODED_NESTING: u64 = 31;
/// Nodes of one subgraph. rten plans its run by recursion, on a thread whose stack nobody else sets;
/// the model's own graph is run in pieces.
const SUBGRAPH_NODES: u64 = 4000;
/// Attributes and declared values for each node that may be. Real models have some five.
const PARTS_OF_NODE: u64 = 16;
/// Entries of lists for each node that may be: what it reads and makes, notes on it and on what is
/// declared, texts of attributes, dimensions. Real models have some fifteen.
const ENTRIES_OF_NODE: u64 = 64;
/// Where a tensor's data is. ONNX has five keys.
const EXTERNAL_ENTRIES: u64 = 8;
/// Dimensions of a tensor, NumPy's limit.
const DIMENSIONS: u64 = 64;

/// Refuses a model that holds more than the limits allow.
///
/// # Errors
/// [`Error::Limit`]; [`Error::TooMuch`] for a tensor of more dimensions or places than any has;
/// [`Error::Model`] for graphs nested deeper than can be decoded.
pub(crate) fn check(file: &str, model: &[u8], limits: &InputLimits) -> Result<()> {
    let mut survey = Survey {
        file,
        limits,
        nodes: 0,
        parts: 0,
        entries: 0,
        tensors: 0,
    };
    for (number, bytes) in Fields::of(model) {
        match number {
            7 => {
                survey.graph(bytes, 0)?;
            }
            8 | 14 => survey.entries += 1,
            25 => {
                survey.entries += 1;
                survey.function(bytes)?;
            }
            _ => {}
        }
    }
    survey.finish()
}

struct Survey<'a> {
    file: &'a str,
    limits: &'a InputLimits,
    nodes: u64,
    /// Attributes and declared values.
    parts: u64,
    /// Entries of the lists of all of them.
    entries: u64,
    tensors: u64,
}

impl Survey<'_> {
    fn finish(self) -> Result<()> {
        let Survey {
            file,
            limits,
            nodes,
            parts,
            entries,
            tensors,
        } = self;
        limits.check(InputLimit::ModelNodes, file, nodes, || {
            format!("the model has {nodes} nodes")
        })?;
        let as_nodes = parts.div_ceil(PARTS_OF_NODE);
        limits.check(InputLimit::ModelNodes, file, as_nodes, || {
            format!(
                "the model has {parts} attributes and declared values, as many as {as_nodes} nodes \
                 may have"
            )
        })?;
        let as_nodes = entries.div_ceil(ENTRIES_OF_NODE);
        limits.check(InputLimit::ModelNodes, file, as_nodes, || {
            format!(
                "the model has {entries} names, notes and dimensions, as many as {as_nodes} nodes \
                 may have"
            )
        })?;
        Ok(limits.check_tensors(file, tensors)?)
    }

    /// A graph within `depth` others; returns how many nodes are its own.
    fn graph(&mut self, graph: &[u8], depth: u64) -> Result<u64> {
        let mut own = 0;
        for (number, bytes) in Fields::of(graph) {
            match number {
                1 => {
                    own += 1;
                    self.node(bytes, depth)?;
                }
                5 => self.tensor(bytes, None)?,
                15 => self.sparse(bytes, None)?,
                11..=13 => {
                    self.parts += 1;
                    self.value(bytes)?;
                }
                16 => self.entries += 1,
                _ => {}
            }
        }
        Ok(own)
    }

    fn function(&mut self, function: &[u8]) -> Result<()> {
        for (number, bytes) in Fields::of(function) {
            match number {
                1 | 4 | 5 | 6 => {
                    self.entries += 1;
                    self.limits.check_name(self.file, "function", bytes)?;
                }
                7 => self.node(bytes, 0)?,
                9 => self.entries += 1,
                11 => {
                    self.parts += 1;
                    self.attribute(function, bytes, 0)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn node(&mut self, node: &[u8], depth: u64) -> Result<()> {
        self.nodes += 1;
        self.names("value", node, &[1, 2])?;
        self.names("node", node, &[3])?;
        self.names("operator", node, &[4, 7])?;
        for (number, bytes) in Fields::of(node) {
            match number {
                1 | 2 | 9 => self.entries += 1,
                5 => {
                    self.parts += 1;
                    self.attribute(node, bytes, depth)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// A declared value. Of a part that is there twice the decoder makes one with all the
    /// dimensions of both.
    fn value(&mut self, value: &[u8]) -> Result<()> {
        self.names("value", value, &[1])?;
        let notes = Fields::of(value).filter(|(number, _)| *number == 4);
        let dims = within(value, 2)
            .flat_map(|of_type| within(of_type, 1))
            .flat_map(|tensor_type| within(tensor_type, 2))
            .flat_map(|shape| within(shape, 1));
        let dims = dims.count() as u64;
        self.entries += notes.count() as u64 + dims;
        let name = || format!("value '{}'", text(value, 1).unwrap_or_default());
        self.few(dims, DIMENSIONS, || {
            format!("{} has {dims} dimensions", name())
        })
    }

    fn attribute(&mut self, node: &[u8], attribute: &[u8], depth: u64) -> Result<()> {
        for (number, bytes) in Fields::of(attribute) {
            match number {
                1 => self.limits.check_name(self.file, "attribute", bytes)?,
                5 | 10 => self.tensor(bytes, Some(node))?,
                22 | 23 => self.sparse(bytes, Some(node))?,
                9 => self.entries += 1,
                6 | 11 => {
                    self.entries += 1;
                    self.nest(node, depth + 1)?;
                    let nodes = self.graph(bytes, depth + 1)?;
                    if nodes > SUBGRAPH_NODES {
                        return Err(self.bad(format!(
                            "node '{}' has a subgraph of {nodes} nodes; at most {SUBGRAPH_NODES} \
                             can be run",
                            label(node)
                        )));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Values and indices, both tensors.
    fn sparse(&mut self, sparse: &[u8], node: Option<&[u8]>) -> Result<()> {
        for (number, bytes) in Fields::of(sparse) {
            if matches!(number, 1 | 2) {
                self.tensor(bytes, node)?;
            }
        }
        Ok(())
    }

    /// A tensor; `node` is the one whose attribute it is, if any.
    fn tensor(&mut self, tensor: &[u8], node: Option<&[u8]>) -> Result<()> {
        self.tensors += 1;
        self.names("tensor", tensor, &[8])?;
        let name = || match (text(tensor, 8).filter(|name| !name.is_empty()), node) {
            (None, Some(node)) => format!("a tensor of node '{}'", label(node)),
            (name, _) => format!("tensor '{}'", name.unwrap_or_default()),
        };
        let dims = Fields::varints(tensor, 1);
        self.few(dims, DIMENSIONS, || {
            format!("{} has {dims} dimensions", name())
        })?;
        let external = within(tensor, 13).count() as u64;
        self.few(external, EXTERNAL_ENTRIES, || {
            format!("{} has {external} entries of external data", name())
        })
    }

    /// Refuses more than `max`, which nothing sets.
    fn few(&self, found: u64, max: u64, what: impl FnOnce() -> String) -> Result<()> {
        match found <= max {
            true => Ok(()),
            false => Err(Error::TooMuch {
                file: self.file.to_owned(),
                what: what(),
                max,
            }),
        }
    }

    fn names(&self, of: &str, message: &[u8], fields: &[u64]) -> Result<()> {
        Fields::of(message)
            .filter(|(number, _)| fields.contains(number))
            .try_for_each(|(_, name)| Ok(self.limits.check_name(self.file, of, name)?))
    }

    /// A subgraph of `node`, itself within `depth - 1` others.
    fn nest(&self, node: &[u8], depth: u64) -> Result<()> {
        let what = || format!("node '{}' has a subgraph nested {depth} deep", label(node));
        self.limits
            .check(InputLimit::GraphNesting, self.file, depth, what)?;
        if depth > DECODED_NESTING {
            let beyond = format!("no model is read beyond {DECODED_NESTING}");
            return Err(self.bad(format!("{}; {beyond}", what())));
        }
        Ok(())
    }

    fn bad(&self, reason: String) -> Error {
        Error::Model {
            file: self.file.to_owned(),
            reason,
        }
    }
}

/// The messages in one field of a message.
fn within(message: &[u8], field: u64) -> impl Iterator<Item = &[u8]> {
    let fields = Fields::of(message);
    fields.filter_map(move |(number, bytes)| (number == field).then_some(bytes))
}

/// The text in a field, as a message shows it.
fn text(message: &[u8], field: u64) -> Option<String> {
    within(message, field).next().map(shown)
}

/// What an error calls a node: its name, else its operator.
fn label(node: &[u8]) -> String {
    let mut texts = [text(node, 3), text(node, 4)].into_iter().flatten();
    texts.find(|text| !text.is_empty()).unwrap_or_default()
}

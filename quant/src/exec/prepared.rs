//! What a plan's runs share over all batches: the quantized Linears and the tables.

use std::collections::BTreeMap;

use dual16_nash::quantize::Rounding;

use super::{Table, validation::unplanned};
use crate::{
    Error, Result,
    fit::Fits,
    graph::{Graph, Node, NodeId, Op},
    plan::{Plan, shared},
    settings::Settings,
    ways::{Integers, QuantizedLinear},
};

/// A plan made ready to run.
pub struct Prepared {
    /// By node index. The integers of a weight that several share are there once.
    pub linears: BTreeMap<usize, QuantizedLinear>,
    /// By node index; a node whose input or output stays float has none.
    pub tables: BTreeMap<usize, Table>,
    /// Rounding of quantize.
    pub rounding: Rounding,
    /// Nodes that could not be made ready, and why, by node index.
    refused: BTreeMap<usize, dual16_nash::Error>,
}

impl Prepared {
    /// Quantizes every weight that `fits` has no integers for, and builds every table. A node whose numbers do not let it is told of
    /// when it is to run.
    ///
    /// # Errors
    /// A plan that does not fit the graph.
    pub fn new(graph: &Graph, plan: &Plan, fits: &Fits, settings: &Settings) -> Result<Self> {
        let mut linears: BTreeMap<usize, QuantizedLinear> = BTreeMap::new();
        let mut tables = BTreeMap::new();
        let mut refused = BTreeMap::new();
        let owners = shared::owners(graph, plan);
        for (id, node) in graph.running() {
            let index = id.0;
            match &node.op {
                Op::Linear(linear) => {
                    if let Some(planned) = plan.linears.get(&index) {
                        let (way, params) = (planned.way, &planned.params);
                        let same = owners.get(&index).and_then(|owner| linears.get(owner));
                        let name = &node.name;
                        let integers = Integers {
                            linear,
                            fitted: fits.get(&index),
                        };
                        match QuantizedLinear::beside(name, integers, way, params, settings, same) {
                            Ok(made) => {
                                linears.insert(index, made);
                            }
                            Err(Error::Kernel { source, .. }) => {
                                refused.insert(index, source);
                            }
                            Err(error) => return Err(error),
                        }
                    }
                }
                Op::Lut(function) => {
                    if let Some(spec) = plan.table(graph, id, *function)? {
                        match Table::new(spec, plan.divisions.get(&index)) {
                            Ok(table) => {
                                tables.insert(index, table);
                            }
                            Err(error) => {
                                refused.insert(index, error);
                            }
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(Prepared {
            linears,
            tables,
            rounding: settings.rounding,
            refused,
        })
    }

    /// A Linear that is to run now.
    pub(crate) fn linear(&self, id: NodeId, node: &Node) -> Result<&QuantizedLinear> {
        self.linears
            .get(&id.0)
            .ok_or_else(|| self.refusal(id, node))
    }

    /// A table that is to run now.
    pub(crate) fn table(&self, id: NodeId, node: &Node) -> Result<&Table> {
        self.tables.get(&id.0).ok_or_else(|| self.refusal(id, node))
    }

    fn refusal(&self, id: NodeId, node: &Node) -> Error {
        match self.refused.get(&id.0) {
            Some(source) => Error::Kernel {
                subject: node.name.clone(),
                source: source.clone(),
            },
            None => unplanned(node),
        }
    }
}

//! A graph with other ways to make some of its values. What exists keeps its ids, so that whatever was
//! observed or planned of it stays true; nodes and values of the alternatives come after it. Which of
//! them run is a choice ([`Extended::choose`]).

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use super::{Graph, Names, Node, NodeId, Op, Stated, Value, ValueId, ValueKind};
use crate::tensor::Tensor;

/// Nodes that make a value of the graph in another way.
#[derive(Debug, Clone, PartialEq)]
pub struct Alternative {
    /// The value they stand in for.
    pub replaces: ValueId,
    /// The value they make instead of it, equal to it in exact arithmetic, `divided` aside.
    pub made: ValueId,
    /// In execution order.
    pub nodes: Vec<NodeId>,
    /// Where what they make is the value with each column divided by a factor.
    pub divided: Option<Divided>,
}

/// Who takes in the factors that the columns of a value are divided by.
#[derive(Debug, Clone, PartialEq)]
pub struct Divided {
    /// By column, > 0.
    pub factors: Arc<Vec<f64>>,
    /// The Linears that alone read the value: their weights are multiplied by the factors.
    pub readers: Vec<NodeId>,
    /// The Linear above which the alternative begins, if it is one: its weight and bias are divided in the
    /// place of the alternative's first node, a product that is there only to be observed.
    pub below: Option<NodeId>,
}

/// A graph and its alternatives.
#[derive(Debug, Clone)]
pub struct Extended {
    graph: Graph,
    alternatives: Vec<Alternative>,
}

impl Extended {
    /// The alternatives, by the number that [`Extended::choose`] takes.
    pub fn alternatives(&self) -> &[Alternative] {
        &self.alternatives
    }

    /// Everything runs: the original, and every alternative beside it. For observation.
    pub fn all(&self) -> Graph {
        let mut graph = self.graph.clone();
        let every: Vec<usize> = (0..self.alternatives.len()).collect();
        graph.order = self.order(&every);
        graph.linked()
    }

    /// The graph in which these alternatives run and what they replace does not. A number that there
    /// is none of chooses nothing.
    pub fn choose(&self, chosen: &[usize]) -> Graph {
        let mut graph = self.graph.clone();
        graph.order = self.order(chosen);
        let chosen = || {
            chosen
                .iter()
                .filter_map(|&index| self.alternatives.get(index))
        };
        let instead: BTreeMap<ValueId, ValueId> = chosen()
            .map(|alternative| (alternative.replaces, alternative.made))
            .collect();
        let own: BTreeMap<NodeId, ValueId> = chosen()
            .flat_map(|alternative| {
                alternative
                    .nodes
                    .iter()
                    .map(|&id| (id, alternative.replaces))
            })
            .collect();
        for (index, node) in graph.nodes.iter_mut().enumerate() {
            for input in &mut node.inputs {
                let is_own = own.get(&NodeId(index)) == Some(input);
                if let Some(&made) = instead.get(input).filter(|_| !is_own) {
                    *input = made;
                }
            }
        }
        for alternative in chosen() {
            if let Some(divided) = &alternative.divided {
                graph.divide(alternative, divided);
            }
        }
        for output in graph.outputs.iter_mut().chain(&mut graph.exact_outputs) {
            *output = instead.get(output).copied().unwrap_or(*output);
        }
        graph.without_dead().linked()
    }

    /// The original's order, each alternative right after the node that makes what it replaces.
    fn order(&self, chosen: &[usize]) -> Vec<NodeId> {
        let mut order = Vec::new();
        for (id, node) in self.graph.running() {
            order.push(id);
            for &index in chosen {
                let stands_in = self.alternatives.get(index);
                if let Some(alternative) =
                    stands_in.filter(|alternative| node.outputs.contains(&alternative.replaces))
                {
                    order.extend(&alternative.nodes);
                }
            }
        }
        order
    }
}

impl Graph {
    /// Lets the Linears on either side take factors in.
    fn divide(&mut self, alternative: &Alternative, divided: &Divided) {
        let Divided {
            factors,
            readers,
            below,
        } = divided;
        for reader in readers {
            if let Op::Linear(linear) = &mut self.nodes[reader.0].op {
                linear.multiply_columns(factors);
            }
        }
        let (Some(below), Some(&product)) = (below, alternative.nodes.first()) else {
            return;
        };
        if let Op::Linear(linear) = &mut self.nodes[below.0].op {
            linear.divide(factors);
        }
        // What the product was seen to make is what the Linear makes now, under the Linear's name.
        let made = std::mem::take(&mut self.nodes[product.0].outputs);
        let was = std::mem::replace(&mut self.nodes[below.0].outputs, made.clone());
        if let (&[made], &[was]) = (made.as_slice(), was.as_slice()) {
            let name = std::mem::take(&mut self.values[made.0].name);
            self.values[made.0].name = std::mem::replace(&mut self.values[was.0].name, name);
        }
        self.order.retain(|id| *id != product);
    }

    /// A graph to which alternatives can be added.
    pub fn extended(self) -> Extension {
        let values = self.values.iter().map(|value| value.name.clone());
        let nodes = self.nodes.iter().map(|node| node.name.clone());
        Extension {
            names: values.chain(nodes).collect(),
            extended: Extended {
                graph: self,
                alternatives: Vec::new(),
            },
        }
    }

    /// The graph without nodes that no output follows from.
    fn without_dead(mut self) -> Self {
        let wanted = self.outputs.iter().chain(&self.exact_outputs);
        let mut wanted: BTreeSet<ValueId> = wanted.copied().collect();
        let mut order = Vec::new();
        for (id, node) in self.running().rev() {
            if node.outputs.iter().any(|output| wanted.contains(output)) {
                wanted.extend(&node.inputs);
                order.push(id);
            }
        }
        order.reverse();
        self.order = order;
        self
    }
}

/// Alternatives under construction.
#[derive(Debug)]
pub struct Extension {
    extended: Extended,
    names: HashSet<String>,
}

impl Extension {
    /// The graph so far; none of its alternatives run.
    pub fn graph(&self) -> &Graph {
        &self.extended.graph
    }

    /// Starts another way to make a value; None where no node makes it.
    pub fn instead_of(&mut self, replaces: ValueId, remedy: &str) -> Option<Fragment<'_>> {
        let graph = &self.extended.graph;
        let maker = graph
            .running()
            .find(|(_, node)| node.outputs.contains(&replaces));
        let names = Arc::clone(&maker?.1.names);
        let prefix = self.free_name(&format!("{}.{remedy}", names.name));
        Some(Fragment {
            extension: self,
            replaces,
            prefix,
            names,
            nodes: Vec::new(),
        })
    }

    /// Ends the construction.
    pub fn finish(self) -> Extended {
        self.extended
    }

    /// A name that nothing's name begins with.
    fn free_name(&self, wanted: &str) -> String {
        let free = |name: &str| {
            let inner = format!("{name}.");
            let taken = |known: &String| known == name || known.starts_with(&inner);
            !self.names.iter().any(taken)
        };
        let numbered = (1u32..).map(|number| format!("{wanted}_{number}"));
        let mut names = std::iter::once(wanted.to_owned()).chain(numbered);
        names.find(|name| free(name)).unwrap_or_default()
    }
}

/// One alternative under construction.
#[derive(Debug)]
pub struct Fragment<'e> {
    extension: &'e mut Extension,
    replaces: ValueId,
    prefix: String,
    names: Arc<Names>,
    nodes: Vec<NodeId>,
}

impl Fragment<'_> {
    /// Adds a node whose one output has this shape in the probe batch.
    pub fn node(
        &mut self,
        suffix: &str,
        op: Op,
        inputs: Vec<ValueId>,
        shape: Vec<usize>,
        stated: Stated,
    ) -> ValueId {
        let name = format!("{}.{suffix}", self.prefix);
        let kind = ValueKind::Activation;
        let made = self.value(&name, kind, shape, stated);
        let graph = &mut self.extension.extended.graph;
        self.nodes.push(NodeId(graph.nodes.len()));
        graph.nodes.push(Node {
            name,
            names: Arc::clone(&self.names),
            op,
            inputs,
            outputs: vec![made],
        });
        made
    }

    /// Adds a constant.
    pub fn constant(&mut self, suffix: &str, tensor: Tensor) -> ValueId {
        let name = format!("{}.{suffix}", self.prefix);
        let shape = tensor.shape().to_vec();
        let kind = ValueKind::Constant(Arc::new(tensor));
        self.value(&name, kind, shape, Stated::default())
    }

    /// Ends with the value that stands in for the original, and has its place in the file.
    pub fn end(self, made: ValueId) {
        self.end_with(made, None);
    }

    /// Ends with the original, each column divided by a factor.
    pub fn end_divided(self, made: ValueId, divided: Divided) {
        self.end_with(made, Some(divided));
    }

    fn end_with(self, made: ValueId, divided: Option<Divided>) {
        let Fragment {
            extension,
            replaces,
            nodes,
            ..
        } = self;
        let extended = &mut extension.extended;
        if divided.is_none() {
            extended.graph.values[made.0].onnx = extended.graph.values[replaces.0].onnx.clone();
        }
        extended.alternatives.push(Alternative {
            replaces,
            made,
            nodes,
            divided,
        });
    }

    fn value(&mut self, name: &str, kind: ValueKind, shape: Vec<usize>, stated: Stated) -> ValueId {
        let values = &mut self.extension.extended.graph.values;
        values.push(Value {
            name: name.to_owned(),
            onnx: None,
            kind,
            shape,
            stated,
        });
        let id = ValueId(values.len() - 1);
        self.extension.names.insert(name.to_owned());
        id
    }
}

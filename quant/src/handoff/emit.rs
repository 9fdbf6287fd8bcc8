//! A graph as ONNX nodes, from the outputs backwards: what the graph has of its own is written from it, and
//! everything else (shapes, integers, operations that stayed as they are) from the canonical form.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{
    changed::changed,
    names::Names,
    rename::rename,
    source::Source,
    standard::standard,
    store::{Recipe, Store},
    writer::{Version, Writer, small},
};
use crate::{
    Error, Result,
    graph::{Graph, Node, NodeId, Op, ValueId, ValueKind},
    model::OnnxNode,
};

/// What the file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Floats, for a compiler that quantizes: operations that no remedy touches stay as they are.
    Float,
    /// VALIDATION: a fake quant after everything that has one.
    Quantized,
}

impl Dialect {
    /// What a file of it is written in: the vendor's compiler takes opset 19 at most, and int16 in
    /// QuantizeLinear is of opset 21.
    pub(super) fn version(self) -> Version {
        match self {
            Dialect::Float => Version { opset: 19, ir: 9 },
            Dialect::Quantized => Version { opset: 21, ir: 10 },
        }
    }
}

/// A node that cannot be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) node: String,
    pub(super) reason: String,
}

/// Something to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Item {
    /// A node of the graph.
    Graph(NodeId),
    /// A node of the canonical form, by its number.
    Canonical(usize),
}

/// Writes one file.
pub(super) struct Emitter<'a, 's> {
    pub(super) source: &'s Source<'a>,
    pub(super) names: &'s Names,
    pub(super) store: &'s mut Store,
    pub(super) dialect: Dialect,
    pub(super) writer: Writer,
    made_by: HashMap<ValueId, NodeId>,
    by_onnx: HashMap<&'a str, NodeId>,
    canonical: HashMap<&'a str, usize>,
    from_graph: HashSet<NodeId>,
    /// Constants by where their elements lie.
    pub(super) weights: HashMap<usize, &'a str>,
    /// Under which name each value is read.
    read: HashMap<ValueId, String>,
    /// Names of ONNX nodes that nodes of the graph became.
    pub(super) written: BTreeMap<NodeId, Vec<String>>,
    /// Names of nodes of the canonical form, by their number.
    pub(super) kept: BTreeMap<usize, String>,
    pub(super) refused: Vec<Refused>,
}

impl<'a, 's> Emitter<'a, 's> {
    pub(super) fn new(
        source: &'s Source<'a>,
        names: &'s Names,
        store: &'s mut Store,
        dialect: Dialect,
    ) -> Self {
        let (graph, model) = (source.graph, source.model);
        let mut made_by = HashMap::new();
        let mut by_onnx = HashMap::new();
        for (id, node) in graph.running() {
            for &output in &node.outputs {
                made_by.insert(output, id);
                if let Some(name) = &graph.value(output).onnx {
                    by_onnx.insert(name.as_str(), id);
                }
            }
        }
        let nodes = model.nodes().iter().enumerate();
        let canonical = nodes.flat_map(|(index, node)| node.made().map(move |name| (name, index)));
        let mut weights: Vec<(&str, usize)> = model
            .constants()
            .filter_map(|(name, constant)| Some((name, constant.floats()?.as_ptr() as usize)))
            .collect();
        weights.sort_unstable();
        Emitter {
            from_graph: match dialect {
                Dialect::Float => changed(source),
                Dialect::Quantized => graph.running().map(|(id, _)| id).collect(),
            },
            writer: Writer::new(names.taken.clone()),
            made_by,
            by_onnx,
            canonical: canonical.collect(),
            weights: weights
                .into_iter()
                .rev()
                .map(|(name, address)| (address, name))
                .collect(),
            read: HashMap::new(),
            written: BTreeMap::new(),
            kept: BTreeMap::new(),
            refused: Vec::new(),
            source,
            names,
            store,
            dialect,
        }
    }

    /// Writes everything that the model's outputs need.
    ///
    /// # Errors
    /// Integers of a Linear that cannot be read.
    pub(super) fn all(&mut self) -> Result<()> {
        let model = self.source.model;
        let mut done: HashSet<Item> = HashSet::new();
        for output in model.outputs() {
            // An entry is followed once its needs are: false the first time it is met.
            let mut open: Vec<(Item, bool)> = Vec::new();
            open.extend(self.item_of_name(output).map(|item| (item, false)));
            if model.is_constant(output) {
                self.constant(output);
            }
            while let Some((item, ready)) = open.pop() {
                if done.contains(&item) {
                    continue;
                }
                if ready {
                    done.insert(item);
                    self.write(item)?;
                    continue;
                }
                open.push((item, true));
                let needs = self.needs(item);
                let needs = needs.into_iter().rev().filter(|need| !done.contains(need));
                open.extend(needs.map(|need| (need, false)));
            }
        }
        Ok(())
    }

    /// What a value of the file comes from; None for inputs and constants.
    fn item_of_name(&self, name: &str) -> Option<Item> {
        let of_graph = self.by_onnx.get(name);
        match of_graph.filter(|id| self.from_graph.contains(id)) {
            Some(&id) => Some(Item::Graph(id)),
            None => self
                .canonical
                .get(name)
                .map(|&index| Item::Canonical(index)),
        }
    }

    fn item_of(&self, id: ValueId) -> Option<Item> {
        match self.made_by.get(&id) {
            Some(&node) if self.from_graph.contains(&node) => Some(Item::Graph(node)),
            _ => {
                let name = self.source.graph.value(id).onnx.as_ref()?;
                let index = self.canonical.get(name.as_str());
                index.map(|&index| Item::Canonical(index))
            }
        }
    }

    /// What must be there before an item, in order.
    fn needs(&self, item: Item) -> Vec<Item> {
        let model = self.source.model;
        let id = match item {
            Item::Canonical(index) => {
                let node = model.nodes().get(index);
                let uses = node.into_iter().flat_map(OnnxNode::uses);
                return uses.filter_map(|name| self.item_of_name(name)).collect();
            }
            Item::Graph(id) => id,
        };
        let graph = self.source.graph;
        let node = graph.node(id);
        let mut needs: Vec<Item> = node
            .inputs
            .iter()
            .filter_map(|&id| self.item_of(id))
            .collect();
        if let Some(onnx) = self.kept_node(id) {
            let own: HashSet<&str> = self.onnx_inputs(node).collect();
            let others = onnx.uses().filter(|name| !own.contains(name));
            needs.extend(others.filter_map(|name| self.item_of_name(name)));
        }
        needs
    }

    /// The node of the canonical form that a node of the graph is written as.
    fn kept_node(&self, id: NodeId) -> Option<&'a OnnxNode> {
        let node = self.source.graph.node(id);
        let index = match &node.op {
            Op::Island(island) => island.onnx_node,
            Op::Move(_) if self.source.is_plain(id) => {
                let output = self.source.graph.value(*node.outputs.first()?);
                *self.canonical.get(output.onnx.as_deref()?)?
            }
            _ => return None,
        };
        self.source.model.nodes().get(index)
    }

    fn onnx_inputs<'n>(&self, node: &'n Node) -> impl Iterator<Item = &'a str> + use<'a, 'n> {
        let graph: &'a Graph = self.source.graph;
        let inputs = node.inputs.iter();
        inputs.filter_map(move |id| graph.value(*id).onnx.as_deref())
    }

    fn write(&mut self, item: Item) -> Result<()> {
        match item {
            Item::Canonical(index) => {
                if let Some(node) = self.source.model.nodes().get(index) {
                    self.keep(index, node, &HashMap::new());
                }
                Ok(())
            }
            Item::Graph(id) => {
                let before = self.writer.nodes().len();
                self.graph_node(id)?;
                let new = self.writer.nodes().iter().skip(before);
                let names = new.map(|node| node.name.clone()).collect();
                self.written.insert(id, names);
                Ok(())
            }
        }
    }

    /// Writes a node of the canonical form, some of its values under other names.
    fn keep(&mut self, index: usize, node: &OnnxNode, renamed: &HashMap<String, String>) {
        for name in node.uses() {
            if !renamed.contains_key(name) && self.source.model.is_constant(name) {
                self.constant(name);
            }
        }
        match standard(node, self.dialect.version().opset) {
            Ok(mut proto) => {
                if !renamed.is_empty() {
                    rename(&mut proto, renamed);
                }
                let name = self.writer.push(proto);
                self.kept.insert(index, name);
            }
            Err(reason) => self.refused.push(Refused {
                node: format!("{} ({})", node.label(), node.op_type),
                reason,
            }),
        }
    }

    fn graph_node(&mut self, id: NodeId) -> Result<()> {
        let graph: &'a Graph = self.source.graph;
        let node = graph.node(id);
        let mut inputs = Vec::with_capacity(node.inputs.len());
        for (operand, &input) in node.inputs.iter().enumerate() {
            let name = self.value(input);
            inputs.push(self.operand(id, node, operand, name));
        }
        if let Some(onnx) = self.kept_node(id) {
            let targets: Vec<String> = node.outputs.iter().map(|id| self.target(*id)).collect();
            let mut renamed = HashMap::new();
            let made: Vec<&str> = match &node.op {
                Op::Island(island) => {
                    let made: Vec<&str> = onnx.made().collect();
                    let place = |&place: &usize| made.get(place).copied().unwrap_or_default();
                    island.made.iter().map(place).collect()
                }
                _ => onnx.made().collect(),
            };
            let read = match &node.op {
                // Its other inputs are lengths and indices.
                Op::Move(_) => onnx.input(0).into_iter().collect(),
                _ => self.onnx_inputs(node).collect::<Vec<_>>(),
            };
            let renaming = read.into_iter().zip(&inputs);
            for (from, to) in renaming.chain(made.into_iter().zip(&targets)) {
                if from != to {
                    renamed.insert(from.to_owned(), to.clone());
                }
            }
            let index = match &node.op {
                Op::Island(island) => island.onnx_node,
                _ => self.source.model.nodes().len(),
            };
            self.keep(index, onnx, &renamed);
            for (&id, target) in node.outputs.iter().zip(targets) {
                self.settle(id, &target);
            }
            return Ok(());
        }
        let Some(&output) = node.outputs.first() else {
            return Ok(());
        };
        let target = self.target(output);
        match &node.op {
            Op::Linear(_) => self.linear(id, &inputs, &target)?,
            op => self.operation(id, node, op, &inputs, &target),
        }
        self.settle(output, &target);
        Ok(())
    }

    /// Under which name a value is read; one that no node makes is written now.
    pub(super) fn value(&mut self, id: ValueId) -> String {
        if let Some(name) = self.read.get(&id) {
            return name.clone();
        }
        let value = self.source.graph.value(id);
        let raw = match (&value.kind, &value.onnx) {
            (ValueKind::Constant(_), Some(name)) if self.source.model.is_constant(name) => {
                self.constant(name);
                name.clone()
            }
            (ValueKind::Constant(tensor), _) => {
                let name = self.names.constant(id).unwrap_or(&value.name).to_owned();
                let shape = tensor.shape();
                let shared = (**tensor).clone().into_shared();
                self.store.add(&name, shape, Recipe::Held(shared));
                self.writer.stored(&name, shape);
                name
            }
            (_, Some(name)) => name.clone(),
            (_, None) => value.name.clone(),
        };
        let name = match (self.dialect, self.source.plan.params(id)) {
            (Dialect::Quantized, Some(params)) if value.kind.is_float() => {
                let wanted = self.writer.fresh(&format!("{raw}.dq"));
                self.fake(&raw, params, &wanted)
            }
            _ => raw,
        };
        self.read.insert(id, name.clone());
        name
    }

    /// The operand in the dtype that the node takes it in.
    fn operand(&mut self, id: NodeId, node: &Node, operand: usize, name: String) -> String {
        let planned = self.source.plan.operands.get(&(id.0, operand));
        match (self.dialect, planned.and_then(|planned| planned.effective)) {
            (Dialect::Quantized, Some(params)) => {
                let wanted = self
                    .writer
                    .fresh(&format!("{}.operand{operand}", node.name));
                self.fake(&name, params, &wanted)
            }
            _ => name,
        }
    }

    /// Under which name an operation makes a value, before its fake quant.
    fn target(&mut self, id: ValueId) -> String {
        let value = self.source.graph.value(id);
        let last = match &value.onnx {
            Some(name) => name.clone(),
            None => self.writer.fresh(&value.name),
        };
        let quantized = self.dialect == Dialect::Quantized
            && value.kind.is_float()
            && self.source.plan.params(id).is_some();
        self.read.insert(id, last.clone());
        match quantized {
            true => self.writer.fresh(&format!("{last}.raw")),
            false => last,
        }
    }

    /// Ends a value with its own fake quant, where it has one.
    fn settle(&mut self, id: ValueId, target: &str) {
        let Some(last) = self.read.get(&id).cloned() else {
            return;
        };
        if last != target
            && let Some(params) = self.source.plan.params(id)
        {
            self.fake(target, params, &last);
        }
    }

    /// Has a constant of the model in the file.
    pub(super) fn constant(&mut self, name: &str) {
        let Some(constant) = self.source.model.constant(name) else {
            return;
        };
        match (small(constant, name), constant.floats()) {
            (Some(tensor), _) => self.writer.inline(name, tensor),
            (None, Some(tensor)) => {
                self.store
                    .add(name, tensor.shape(), Recipe::Held(tensor.clone()));
                self.writer.stored(name, tensor.shape());
            }
            (None, None) => {}
        }
    }

    /// Says that a node cannot be written.
    pub(super) fn refuse(&mut self, node: &Node, reason: &str) {
        self.refused.push(Refused {
            node: format!("{} ({})", node.name, node.op.name()),
            reason: reason.to_owned(),
        });
    }
}

/// The error of a graph that is not one of this model.
pub(super) fn misfit(node: &Node) -> Error {
    Error::FloatRun {
        node: node.name.clone(),
        reason: "it has no operand".to_owned(),
    }
}

//! The walk that brings a graph into canonical form.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::{
    OPSET, Watch, branches, counters, decode, doubles, fold,
    functions::Functions,
    known::{Known, ValueType},
    open, operators,
    refusal::Refusal,
    replacement::encoded_len,
    rewrites, sparse, types,
};
use crate::{
    error::{Error, Result},
    limits::{InputLimit, InputLimits},
    onnx::{
        AttributeProto, ExternalData, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
        TensorProto, reads,
    },
};

/// Bytes of nodes that rewriting may add to a file, for each byte that it has and beside a constant.
const GROWTH: usize = 64;
const GROWTH_OF_ANY: usize = 16 << 20;

/// Brings a model into canonical form: no functions, no sparse constants, no Constant nodes, every
/// node of an operator in [`operators`].
///
/// # Errors
/// [`Error::Model`] naming the node, its operator and why it cannot be run rightly; [`Error::Limit`]
/// for functions that call one another more often than a model may have nodes;
/// [`Error::Cancelled`].
pub(crate) fn canonical(
    file: &str,
    mut proto: ModelProto,
    graph: GraphProto,
    external: &ExternalData,
    limits: &InputLimits,
    cancelled: &dyn Fn() -> bool,
) -> Result<Canonical> {
    let functions = std::mem::take(&mut proto.functions);
    let opset = standard_opset(&proto.opset_import);
    let mut form = Form {
        file,
        limits,
        cancelled,
        functions: Functions::new(functions, opset),
        nodes: 0,
        budget: GROWTH_OF_ANY
            .saturating_add(graph.node.iter().map(encoded_len).sum::<usize>() * GROWTH),
        named: HashSet::new(),
        applied: BTreeSet::new(),
        doubles: BTreeMap::new(),
    };
    let known = Known::new(opset, external);
    let graph = form.graph(graph, known, &[])?;
    Ok(Canonical {
        graph,
        applied: form.applied,
        doubles: form.doubles,
    })
}

/// A graph in canonical form.
pub(crate) struct Canonical {
    pub(crate) graph: GraphProto,
    /// Names of the rewrites that made it so, of those that [`rewrite_names`] lists.
    pub(crate) applied: BTreeSet<&'static str>,
    /// Nodes that calculate with doubles, to be looked at in a run.
    pub(crate) doubles: BTreeMap<usize, Watch>,
}

const FUNCTIONS: &str = "functions";
const BRANCHES: &str = "branches";
const FOLD: &str = "fold";

/// What a model may be rewritten by, by the names of the files of this module.
pub fn rewrite_names() -> impl Iterator<Item = &'static str> {
    let of_nodes = rewrites::ALL.iter().map(|(name, _)| *name);
    of_nodes.chain([FUNCTIONS, BRANCHES, FOLD])
}

/// Version of the standard operator set among those a model imports.
pub(super) fn standard_opset(imports: &[OperatorSetIdProto]) -> i64 {
    let standard = |domain: &str| domain.is_empty() || domain == "ai.onnx";
    let found = imports.iter().find(|set| standard(&set.domain));
    found.map_or(OPSET, |set| set.version)
}

struct Form<'m> {
    file: &'m str,
    limits: &'m InputLimits,
    cancelled: &'m dyn Fn() -> bool,
    functions: Functions,
    /// Nodes of the model that were looked at, called functions included.
    nodes: u64,
    /// Bytes of nodes that may still be made.
    budget: usize,
    /// Names that rewrites gave to values.
    named: HashSet<String>,
    /// Rewrites that applied.
    applied: BTreeSet<&'static str>,
    /// Nodes to be looked at in a run, by their places.
    doubles: BTreeMap<usize, Watch>,
}

impl Form<'_> {
    /// A graph; of its inputs `counters` stay small.
    fn graph<'a>(
        &mut self,
        mut graph: GraphProto,
        mut known: Known<'a>,
        counters: &[String],
    ) -> Result<GraphProto> {
        for value in &graph.value_info {
            known.declare(value);
        }
        for value in &graph.output {
            known.declare(value);
        }
        for value in &graph.input {
            known.given(value);
        }
        for name in counters {
            known.is_length_now(name);
        }
        for tensor in std::mem::take(&mut graph.initializer) {
            self.constant(&mut known, tensor)?;
        }
        for tensor in std::mem::take(&mut graph.sparse_initializer) {
            let tensor = sparse::dense(&tensor).map_err(|refusal| self.bad(refusal.0))?;
            self.constant(&mut known, tensor)?;
        }
        let mut done = Vec::with_capacity(graph.node.len());
        let needed = needed(&graph);
        for (node, needed) in std::mem::take(&mut graph.node).into_iter().zip(needed) {
            let made = (!needed).then(|| node.output.clone());
            match (self.nodes(node, &mut known, &mut done), made) {
                // What cannot be run and nothing needs is nobody's loss.
                (Err(Error::Model { .. }), Some(made)) => {
                    let unknown = |name: &String| known.made(name, ValueType::UNKNOWN);
                    made.iter().for_each(unknown);
                }
                (result, _) => result?,
            }
        }
        if !known.nested {
            let outputs: Vec<&str> = graph
                .output
                .iter()
                .map(|value| value.name.as_str())
                .collect();
            let norms = |nodes: &[NodeProto]| {
                let is = |node: &&NodeProto| node.op_type == "BatchNormalization";
                nodes.iter().filter(is).count()
            };
            let before = norms(&done);
            done = fold::batch_norms(done, &mut known, &outputs);
            if norms(&done) < before {
                self.applied.insert(FOLD);
            }
            let inputs: Vec<String> = graph.input.iter().map(|value| value.name.clone()).collect();
            self.doubles = doubles::watched(&done, &inputs, &known);
            open::mark(&mut done, &outputs, &known);
        }
        graph.node = done;
        graph.value_info.clear();
        graph.initializer = known.into_constants();
        Ok(graph)
    }

    fn constant(&self, known: &mut Known<'_>, tensor: TensorProto) -> Result<()> {
        let elem = tensor.element_type();
        let mut tensor = decode::plain(tensor, known).map_err(|refusal| self.bad(refusal.0))?;
        if known.nested && tensor.is_external() {
            // Float execution takes the body of a node whole.
            tensor.raw_data = Some(known.external.read(&tensor.name, &tensor)?.into());
            tensor.external_data.clear();
            tensor.data_location = 0;
        }
        if !tensor.name.is_empty() {
            if !known.nested && known.is_constant(&tensor.name) {
                let name = &tensor.name;
                let reason = format!("tensor '{name}' is there twice; names of values are unique");
                return Err(self.bad(reason));
            }
            if tensor.element_type() != elem {
                known.was(&tensor.name, elem);
            }
            known.constant(tensor);
        }
        Ok(())
    }

    /// One node of the file, and all that comes of it.
    fn nodes(
        &mut self,
        node: NodeProto,
        known: &mut Known<'_>,
        done: &mut Vec<NodeProto>,
    ) -> Result<()> {
        // Last to come first; with each the operator set that it was written for.
        let mut open = vec![(node, known.opset)];
        let mut made = 0_usize;
        while let Some((mut node, opset)) = open.pop() {
            made += 1;
            if made % 64 == 1 && (self.cancelled)() {
                return Err(Error::Cancelled);
            }
            if node.domain == "ai.onnx" {
                node.domain.clear();
            }
            if let Some(body) = self
                .functions
                .inlined(&node)
                .map_err(|refusal| self.refused(&node, &refusal))?
            {
                // Inside a call names grow with its depth.
                self.limits
                    .check_name(self.file, "node", node.name.as_bytes())?;
                self.count(body.nodes.len())?;
                self.spend(&node, &body.nodes)?;
                self.applied.insert(FUNCTIONS);
                open.extend(body.nodes.into_iter().rev().map(|node| (node, body.opset)));
                continue;
            }
            if doubles::makes_doubles(&node, known) {
                node.output
                    .iter()
                    .for_each(|name| known.is_double_now(name));
            }
            let outer = std::mem::replace(&mut known.opset, opset);
            let step = self.step(&mut node, known);
            known.opset = outer;
            match step.map_err(|refusal| self.refused(&node, &refusal))? {
                Step::Constant(tensor) => self.constant(known, *tensor)?,
                Step::Replaced(mut nodes, meaning, by) => {
                    self.applied.insert(by);
                    self.spend(&node, &nodes)?;
                    if meaning == Meaning::Canonical {
                        self.name_apart(&node, &mut nodes);
                    }
                    let opset = if meaning == Meaning::Canonical {
                        OPSET
                    } else {
                        opset
                    };
                    open.extend(nodes.into_iter().rev().map(|node| (node, opset)));
                }
                Step::Done => {
                    let outer = std::mem::replace(&mut known.opset, opset);
                    let bodied = self.bodies(node, known);
                    known.opset = outer;
                    let node = bodied?;
                    types::infer(&node, known);
                    doubles::infer(&node, known);
                    done.push(node);
                }
            }
        }
        Ok(())
    }

    /// Gives the values inside a replacement names that no other has: a rewrite names them after
    /// what the node makes, which several rewrites in turn may do.
    fn name_apart(&mut self, node: &NodeProto, nodes: &mut [NodeProto]) {
        let mut renamed: HashMap<String, String> = HashMap::new();
        for made in nodes {
            for name in &mut made.input {
                if let Some(new) = renamed.get(name) {
                    name.clone_from(new);
                }
            }
            for name in &mut made.output {
                if name.is_empty() || node.output.contains(name) {
                    continue;
                }
                let mut new = name.clone();
                let mut number = 1;
                while !self.named.insert(new.clone()) {
                    number += 1;
                    new = format!("{name}.{number}");
                }
                if new != *name {
                    renamed.insert(std::mem::replace(name, new.clone()), new);
                }
            }
        }
    }

    fn step(&self, node: &mut NodeProto, known: &Known<'_>) -> Result<Step, Refusal> {
        if let Some(tensor) = decode::constant_node(node)? {
            return Ok(Step::Constant(Box::new(tensor)));
        }
        if let Some(nodes) = branches::inlined(node, known)? {
            return Ok(Step::Replaced(nodes, Meaning::AsWritten, BRANCHES));
        }
        if let Some((by, nodes)) = rewrites::apply(known, node)? {
            return Ok(Step::Replaced(nodes, Meaning::Canonical, by));
        }
        operators::check(known, node)?;
        Ok(Step::Done)
    }

    /// The graphs inside a node.
    fn bodies(&mut self, mut node: NodeProto, known: &Known<'_>) -> Result<NodeProto> {
        let graphs =
            |attribute: &AttributeProto| attribute.g.is_some() || !attribute.graphs.is_empty();
        if !node.attribute.iter().any(graphs) {
            return Ok(node);
        }
        let mut attributes = std::mem::take(&mut node.attribute);
        for attribute in &mut attributes {
            for graph in attribute.g.iter_mut().chain(&mut attribute.graphs) {
                let counters = counters::counters(&node, graph, known);
                *graph = self.graph(std::mem::take(graph), known.within(), &counters)?;
            }
        }
        node.attribute = attributes;
        Ok(node)
    }

    fn count(&mut self, nodes: usize) -> Result<()> {
        self.nodes = self.nodes.saturating_add(nodes as u64);
        let nodes = self.nodes;
        Ok(self
            .limits
            .check(InputLimit::ModelNodes, self.file, nodes, || {
                format!("with its functions inlined the model has more than {nodes} nodes")
            })?)
    }

    fn spend(&mut self, node: &NodeProto, made: &[NodeProto]) -> Result<()> {
        let bytes: usize = made.iter().map(encoded_len).sum();
        self.budget = self.budget.checked_sub(bytes).ok_or_else(|| {
            self.refused(node, &Refusal::new("it and others become too many nodes"))
        })?;
        Ok(())
    }

    fn refused(&self, node: &NodeProto, refusal: &Refusal) -> Error {
        self.bad(format!(
            "node '{}' ({}): {}",
            node.label(),
            operators::shown(node),
            refusal.0
        ))
    }

    fn bad(&self, reason: String) -> Error {
        Error::Model {
            file: self.file.to_owned(),
            reason,
        }
    }
}

/// Whether each node leads to an output of its graph.
fn needed(graph: &GraphProto) -> Vec<bool> {
    let mut wanted: HashSet<&str> = graph
        .output
        .iter()
        .map(|value| value.name.as_str())
        .collect();
    let mut needed = vec![false; graph.node.len()];
    for (node, needed) in graph.node.iter().zip(&mut needed).rev() {
        *needed = node
            .output
            .iter()
            .any(|name| wanted.contains(name.as_str()));
        if *needed {
            reads::of_node(node, &mut wanted);
        }
    }
    needed
}

/// What became of a node.
enum Step {
    /// It is a constant.
    Constant(Box<TensorProto>),
    /// Others stand in for it, by a rewrite of this name.
    Replaced(Vec<NodeProto>, Meaning, &'static str),
    /// It is in the form.
    Done,
}

/// Which operator set gives nodes their meaning.
#[derive(PartialEq, Eq)]
enum Meaning {
    /// That of the form.
    Canonical,
    /// That of the node they come from.
    AsWritten,
}

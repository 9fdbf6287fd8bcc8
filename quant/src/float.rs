//! Float execution through rten: a whole model with any of its values as results, or one node.
//!
//! The model is loaded without graph optimization, so every value of the canonical form exists under
//! its name. Its weights are no part of what rten loads: they are held once, by whoever made them,
//! and shown to each run. What rten does otherwise than ONNX says is run by [`own`] kernels. Nothing
//! here knows of quantization or of the lowered graph.

mod convert;
mod cut;
mod doubles;
mod executable;
mod hidden;
mod own;
mod pieces;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use rten::{ModelOptions, NodeId, RunOptions, ThreadPool, ValueOrView};

use crate::{
    batch::Batch,
    canonical::Watch,
    error::{Error, Result},
    model::{Model, OnnxNode},
    place,
    tensor::{Datum, SharedTensor},
};
use cut::Lives;
use pieces::Piece;

pub(crate) use own::{Tap, Taps};

/// A model ready to run. Results do not depend on the number of threads.
pub struct FloatModel {
    file: String,
    model: rten::Model,
    threads: Arc<ThreadPool>,
    nodes: Arc<[OnnxNode]>,
    value_names: Vec<String>,
    constants: BTreeSet<String>,
    /// Constants that rten is shown in each run.
    weights: HashMap<String, SharedTensor>,
    pieces: Vec<Piece>,
    /// Nodes whose doubles are looked at.
    doubles: Arc<BTreeMap<usize, Watch>>,
    lives: Lives,
}

impl FloatModel {
    /// Prepares a model to run on `threads` threads (at least one) of its own.
    ///
    /// # Errors
    /// [`Error::Model`] naming the node and the operator that rten cannot run.
    pub fn load(model: &Model, threads: usize) -> Result<FloatModel> {
        let bad = |reason: String| Error::Model {
            file: model.file().to_owned(),
            reason,
        };
        let mut options = ModelOptions::with_all_ops();
        options.enable_optimization(false);
        let executable = executable::executable(model);
        let loaded = guarded(|| options.load(executable.model))
            .map_err(|panic| bad(format!("float execution cannot load it: {panic}")))?
            .map_err(|error| bad(refusal(model, &error)))?;
        let used = model.nodes().iter().flat_map(OnnxNode::uses);
        let constants = used
            .filter(|name| model.is_constant(name))
            .map(str::to_owned)
            .collect();
        Ok(FloatModel {
            file: model.file().to_owned(),
            model: loaded,
            threads: Arc::new(ThreadPool::with_num_threads(threads.max(1))),
            nodes: Arc::clone(model.nodes()),
            value_names: model.value_names().into_iter().map(str::to_owned).collect(),
            constants,
            weights: executable.weights,
            pieces: pieces::cut(model.nodes(), !model.doubles().is_empty()),
            doubles: Arc::clone(model.doubles()),
            lives: Lives::of(model.nodes()),
        })
    }

    /// Runs the model and returns the values named. Any value of the model can be asked for, and
    /// any value in `inputs` is taken as given instead of being computed.
    ///
    /// # Errors
    /// [`Error::UnknownName`] for a name the model does not have, [`Error::FloatRun`] for whatever
    /// goes wrong in the run.
    pub fn run(&self, inputs: &Batch, outputs: &[&str]) -> Result<HashMap<String, Datum>> {
        let names: BTreeSet<&str> = outputs.iter().copied().collect();
        let values = self.execute_whole(inputs, &names)?;
        let convert = |(name, value): (&str, rten::Value)| {
            let datum = convert::from_rten(value).ok_or_else(|| self.sequence(name))?;
            Ok((name.to_owned(), datum))
        };
        names.iter().copied().zip(values).map(convert).collect()
    }

    /// Runs the model and returns all its values: inputs and the outputs of nodes. Sequences are
    /// left out, since they are no tensors.
    ///
    /// # Errors
    /// As [`Self::run`]; for a node that would hide NaN.
    pub fn probe(&self, inputs: &Batch) -> Result<HashMap<String, Datum>> {
        let names: BTreeSet<&str> = self.value_names.iter().map(String::as_str).collect();
        let values = self.execute_whole(inputs, &names)?;
        let named = names.iter().zip(values);
        let probed = named
            .filter_map(|(&name, value)| Some((name.to_owned(), convert::from_rten(value)?)))
            .collect();
        self.check_hidden(&probed)?;
        Ok(probed)
    }

    /// Looks at a run's values for NaN that a node has hidden.
    ///
    /// # Errors
    /// Names the node.
    pub(crate) fn check_hidden(&self, values: &HashMap<String, Datum>) -> Result<()> {
        hidden::check(&self.nodes, values)
    }

    /// About how many bytes [`Self::probe`] gives, from a run that keeps every eighth value.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn probe_bytes(&self, inputs: &Batch) -> Result<u64> {
        const STEP: usize = 8;
        let names: BTreeSet<&str> = self
            .value_names
            .iter()
            .step_by(STEP)
            .map(String::as_str)
            .collect();
        let values = self.execute_whole(inputs, &names)?;
        let bytes: usize = values
            .into_iter()
            .filter_map(convert::from_rten)
            .map(|datum| datum.byte_len())
            .sum();
        Ok((bytes * STEP) as u64)
    }

    /// The values a node needs to run alone, captured ones included; constants are not among them,
    /// for they come from the model.
    pub fn feeds(&self, onnx_node: usize) -> Vec<&str> {
        let uses = self
            .nodes
            .get(onnx_node)
            .into_iter()
            .flat_map(OnnxNode::uses);
        uses.filter(|name| !self.constants.contains(*name))
            .collect()
    }

    /// Runs one node, given all its [`feeds`](Self::feeds) by name (more are ignored). Returns its
    /// outputs in order, those left out ("") not counted.
    ///
    /// # Errors
    /// [`Error::FloatRun`] naming the node.
    pub fn run_node(
        &self,
        onnx_node: usize,
        inputs: &HashMap<String, Datum>,
    ) -> Result<Vec<Datum>> {
        self.run_node_on(onnx_node, |name| inputs.get(name))
    }

    /// [`Self::run_node`] on operands that are looked up, wherever they are kept.
    pub(crate) fn run_node_on<'d>(
        &self,
        onnx_node: usize,
        inputs: impl Fn(&str) -> Option<&'d Datum>,
    ) -> Result<Vec<Datum>> {
        let failed = |node: String, reason: String| Error::FloatRun { node, reason };
        let node = self.nodes.get(onnx_node).ok_or_else(|| {
            failed(
                self.file.clone(),
                format!("it has {} nodes, not {onnx_node}", self.nodes.len()),
            )
        })?;
        let label = node.label();
        if own::is_own(node) {
            let constants = node
                .uses()
                .filter(|name| inputs(name).is_none())
                .map(|name| Ok((name, self.constant(name)?)))
                .collect::<Result<HashMap<&str, Datum>>>()?;
            let operand = |name: &String| inputs(name).or_else(|| constants.get(name.as_str()));
            let operands: Vec<Option<&Datum>> = node.inputs.iter().map(operand).collect();
            let made = own::run(node, &operands)?.into_iter().zip(&node.outputs);
            return Ok(made
                .filter(|(_, name)| !name.is_empty())
                .map(|(datum, _)| datum)
                .collect());
        }
        let mut given: BTreeMap<&str, ValueOrView<'_>> = BTreeMap::new();
        for name in self.feeds(onnx_node) {
            let datum = inputs(name)
                .ok_or_else(|| failed(label.clone(), format!("its input '{name}' is missing")))?;
            given.insert(name, convert::to_rten(datum)?);
        }
        for name in node.uses() {
            if let Some(weight) = self.weights.get(name) {
                given.insert(name, convert::floats_to_rten(weight)?);
            }
        }
        let names: BTreeSet<&str> = node.made().collect();
        place::at(&label);
        let values = self.execute(&label, given.into_iter().collect(), &names)?;
        let mut by_name: HashMap<&str, rten::Value> = names.into_iter().zip(values).collect();
        let mut take = |name: &str| by_name.remove(name).and_then(convert::from_rten);
        node.made()
            .map(|name| take(name).ok_or_else(|| self.sequence(name)))
            .collect()
    }

    /// A node of the ONNX graph.
    pub(crate) fn node(&self, onnx_node: usize) -> Option<&OnnxNode> {
        self.nodes.get(onnx_node)
    }

    /// A constant of the model.
    pub(crate) fn constant(&self, name: &str) -> Result<Datum> {
        self.operand(name, &Batch::new(), &HashMap::new())
    }

    /// One run of rten: the nodes that lead from `inputs` to `outputs`, whose values it returns in
    /// their order.
    fn execute(
        &self,
        what: &str,
        inputs: Vec<(&str, ValueOrView<'_>)>,
        outputs: &BTreeSet<&str>,
    ) -> Result<Vec<rten::Value>> {
        let failed = |reason: String| Error::FloatRun {
            node: what.to_owned(),
            reason,
        };
        let given = inputs
            .into_iter()
            .map(|(name, value)| Ok((self.node_id(name)?, value)))
            .collect::<Result<Vec<_>>>()?;
        let wanted = outputs
            .iter()
            .map(|name| self.node_id(name))
            .collect::<Result<Vec<_>>>()?;
        let mut options = RunOptions::default();
        options.thread_pool = Some(Arc::clone(&self.threads));
        guarded(|| self.model.run(given, &wanted, Some(options)))
            .map_err(failed)?
            .map_err(|error| self.run_error(what, &error))
    }

    /// Names the node and its operator.
    fn run_error(&self, what: &str, error: &rten::RunError) -> Error {
        let path = error.node_path();
        let name = path.first().copied().flatten().unwrap_or_default();
        let node = self.nodes.iter().find(|node| node.label() == name);
        Error::FloatRun {
            node: match node {
                Some(node) if what == self.file => {
                    format!("{what}, node '{name}' (operator {})", node.op_type)
                }
                Some(node) => format!("node '{name}' (operator {})", node.op_type),
                None => what.to_owned(),
            },
            reason: error.to_string(),
        }
    }

    fn node_id(&self, name: &str) -> Result<NodeId> {
        self.model.find_node(name).ok_or_else(|| self.unknown(name))
    }

    fn unknown(&self, name: &str) -> Error {
        Error::UnknownName {
            what: "value",
            name: name.to_owned(),
            near: Vec::new(),
        }
    }

    fn sequence(&self, name: &str) -> Error {
        let reason = format!("value '{name}' is a sequence; only tensors are supported");
        Error::FloatRun {
            node: self.file.clone(),
            reason,
        }
    }
}

impl std::fmt::Debug for FloatModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FloatModel")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

/// rten asserts some things about a model that a file can violate; that is the model's fault and
/// must not take the process down.
fn guarded<R>(run: impl FnOnce() -> R) -> Result<R, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        format!("internal error of rten: {}", text.unwrap_or("no message"))
    })
}

/// Names the node and its operator, which rten does not always do.
fn refusal(model: &Model, error: &rten::LoadError) -> String {
    let named = error.node().filter(|name| !name.is_empty());
    let node = named.and_then(|name| model.nodes().iter().find(|node| node.label() == name));
    match node {
        Some(node) => format!(
            "float execution cannot run node '{}' (operator {}): {error}",
            node.label(),
            node.op_type
        ),
        None => format!("float execution cannot load it: {error}"),
    }
}

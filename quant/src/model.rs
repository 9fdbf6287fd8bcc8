//! An ONNX model as the rest of the crate reads it: nodes with their module names, constants
//! decoded on demand, inputs and outputs. Everything that can be wrong with the file itself is an
//! error here. A [`Model`] knows no operator; [`crate::graph`] gives the nodes a meaning and
//! [`crate::float`] runs them.

mod constants;
mod input;
mod node;
mod scope;
mod what_it_is;
mod written;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    path::Path,
    path::PathBuf,
    sync::Arc,
};

use ndarray::ArrayD;
use prost::{Message, bytes::Bytes};

use crate::{
    canonical::{Canonical, Watch, canonical},
    error::{Error, Result},
    limits::InputLimits,
    onnx::{ExternalData, GraphProto, ModelProto, ValueInfoProto, lifted, survey},
    tensor::SharedTensor,
};

pub use input::{ElementKind, InputShape, InputSpec, TRAILING_DIMS};
pub(crate) use node::NAME_SCOPES;
pub use node::OnnxNode;
pub use scope::Scope;
pub use what_it_is::without_linear;
pub use written::written;

pub(crate) use constants::Constant;
use constants::Constants;

/// A parsed model in [canonical form](crate::canonical). Its float constants are decoded once, and
/// shared with whatever is made of it.
#[derive(Debug, Clone)]
pub struct Model {
    file: String,
    nodes: Arc<[OnnxNode]>,
    constants: Constants,
    inputs: Vec<InputSpec>,
    outputs: Vec<String>,
    declared: Arc<Declared>,
    rewrites: BTreeSet<&'static str>,
    doubles: Arc<BTreeMap<usize, Watch>>,
}

/// Inputs and outputs as the file declares them, names, types and shapes.
#[derive(Debug)]
pub(crate) struct Declared {
    pub(crate) inputs: Vec<ValueInfoProto>,
    pub(crate) outputs: Vec<ValueInfoProto>,
}

impl Model {
    /// Reads and checks a model. `file_name` is what errors call it; `external_data` maps each
    /// location the model may name to a file, and no other file is ever opened.
    ///
    /// # Errors
    /// [`Error::Io`] where a file cannot be read; [`Error::Limit`] for a model that holds more than
    /// `limits` allow, before it is decoded; [`Error::TooMuch`] for tensors that read the external
    /// files over and over; [`Error::Model`] for a damaged file, one without a
    /// graph, a node that uses a value nothing has made, an unknown or unsafe external location, a
    /// tensor whose data does not fill its shape; [`Error::NonFinite`] for a weight that is NaN or
    /// infinite. A lone infinite scalar is let through: it is how exports write a mask.
    pub fn load(
        file_name: &str,
        path: &Path,
        external_data: &[(String, PathBuf)],
        limits: &InputLimits,
    ) -> Result<Model> {
        Model::load_unless(file_name, path, external_data, limits, &|| false)
    }

    /// The same until `cancelled` says so, which is asked before each constant.
    ///
    /// # Errors
    /// As [`Self::load`]; [`Error::Cancelled`].
    pub(crate) fn load_unless(
        file_name: &str,
        path: &Path,
        external_data: &[(String, PathBuf)],
        limits: &InputLimits,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Model> {
        let bytes = lifted::read(path).map_err(|source| Error::Io {
            what: file_name.to_owned(),
            source,
        })?;
        let external = ExternalData::new(file_name, external_data).with_model(path);
        Model::parse(file_name, bytes.into(), &external, limits, cancelled)
    }

    /// The same for a model in memory, as layer mode makes one.
    pub fn from_bytes(
        file_name: &str,
        bytes: Bytes,
        external_data: &[(String, PathBuf)],
        limits: &InputLimits,
    ) -> Result<Model> {
        let external = ExternalData::new(file_name, external_data);
        Model::parse(file_name, bytes, &external, limits, &|| false)
    }

    fn parse(
        file_name: &str,
        bytes: Bytes,
        external: &ExternalData,
        limits: &InputLimits,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Model> {
        survey::check(file_name, &bytes, limits)?;
        let (proto, graph) = decode(file_name, &bytes)?;
        if proto.opset_import.is_empty() {
            // Protobuf has no end mark: of a file cut between two fields only this shows it.
            let reason = "it names no operator set (opset_import), which every ONNX model does; is \
                          the file cut off?";
            return Err(Error::Model {
                file: file_name.to_owned(),
                reason: reason.to_owned(),
            });
        }
        external.check_total(&graph)?;
        if let Some(reason) = what_it_is::already_quantized(&graph) {
            return Err(Error::Model {
                file: file_name.to_owned(),
                reason,
            });
        }
        let canonical = canonical(file_name, proto, graph, external, limits, cancelled)?;
        let Canonical {
            mut graph,
            applied,
            doubles,
        } = canonical;
        let constants = Constants::collect(file_name, &mut graph, external, cancelled)?;
        let inputs = input::specs(file_name, &graph, &constants)?;
        let nodes: Vec<OnnxNode> = graph.node.into_iter().map(OnnxNode::from).collect();
        for scope in nodes.iter().map(|node| &node.scope) {
            limits.check_name(file_name, "module", scope.module.as_bytes())?;
            let function = scope.function.as_deref().unwrap_or_default();
            limits.check_name(file_name, "function", function.as_bytes())?;
        }
        check_order(file_name, &nodes, &inputs, &constants)?;
        let outputs: Vec<String> = graph
            .output
            .iter()
            .map(|output| output.name.clone())
            .collect();
        check_outputs(file_name, &outputs, &nodes, &inputs, &constants)?;
        Ok(Model {
            file: file_name.to_owned(),
            nodes: nodes.into(),
            constants,
            inputs,
            outputs,
            declared: Arc::new(Declared {
                inputs: graph.input,
                outputs: graph.output,
            }),
            rewrites: applied,
            doubles: Arc::new(doubles),
        })
    }

    /// File name as the user gave it.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Nodes, producers before consumers; their index is the `onnx_node` of a float island.
    pub fn nodes(&self) -> &Arc<[OnnxNode]> {
        &self.nodes
    }

    /// What a batch must hold: the graph's inputs that are no initializers.
    pub fn inputs(&self) -> &[InputSpec] {
        &self.inputs
    }

    /// Whether an input of the graph is an initializer as well, which a run might replace.
    pub(crate) fn is_given_a_value(&self, name: &str) -> bool {
        self.is_constant(name) && self.declared.inputs.iter().any(|input| input.name == name)
    }

    /// Names of the graph's outputs.
    pub fn outputs(&self) -> &[String] {
        &self.outputs
    }

    /// Inputs and outputs with their types, as the file has them.
    pub(crate) fn declared(&self) -> &Declared {
        &self.declared
    }

    /// Which rewrites brought it into canonical form, by the names that
    /// [`rewrite_names`](crate::canonical::rewrite_names) lists.
    pub fn rewrites(&self) -> &BTreeSet<&'static str> {
        &self.rewrites
    }

    /// Nodes that calculate with doubles, which a float run looks at.
    pub(crate) fn doubles(&self) -> &Arc<BTreeMap<usize, Watch>> {
        &self.doubles
    }

    /// Names of every value a float run makes or is given, in order: inputs, then outputs of nodes.
    pub fn value_names(&self) -> Vec<&str> {
        let inputs = self.inputs.iter().map(|input| input.name.as_str());
        inputs
            .chain(self.nodes.iter().flat_map(OnnxNode::made))
            .collect()
    }

    /// Whether a value is an initializer or the output of a Constant node.
    pub fn is_constant(&self, name: &str) -> bool {
        self.constants.get(name).is_some()
    }

    /// Shape of a constant; None where there is none of this name.
    pub fn constant_shape(&self, name: &str) -> Option<&[usize]> {
        self.constants.get(name).map(Constant::shape)
    }

    /// A float constant; None where there is no constant of this name or it is not of a float type.
    pub fn f32_constant(&self, name: &str) -> Option<&SharedTensor> {
        self.constants.get(name)?.floats()
    }

    /// An integer or BOOL constant; None where there is none of this name and type.
    pub fn i64_constant(&self, name: &str) -> Option<ArrayD<i64>> {
        self.constants.get(name)?.integers()
    }

    /// A constant; None where there is none of this name.
    pub(crate) fn constant(&self, name: &str) -> Option<&Constant> {
        self.constants.get(name)
    }

    /// Every constant that some node or output uses, by name.
    pub(crate) fn constants(&self) -> impl Iterator<Item = (&str, &Constant)> {
        self.constants.iter()
    }
}

fn decode(file_name: &str, bytes: &Bytes) -> Result<(ModelProto, GraphProto)> {
    let bad = |reason: String| Error::Model {
        file: file_name.to_owned(),
        reason,
    };
    if bytes.is_empty() {
        return Err(bad("the file is empty; an ONNX model is wanted".to_owned()));
    }
    let mut proto = ModelProto::decode(bytes.clone()).map_err(|error| {
        bad(format!(
            "no ONNX model, or a truncated one: {error}; export or copy it again"
        ))
    })?;
    let graph = proto.graph.take().ok_or_else(|| {
        bad("no ONNX model: it has no graph; export it again, for one with torch.onnx".to_owned())
    })?;
    Ok((proto, graph))
}

/// Nodes must follow what they consume, as ONNX demands and everything after this relies on.
fn check_order(
    file: &str,
    nodes: &[OnnxNode],
    inputs: &[InputSpec],
    constants: &Constants,
) -> Result<()> {
    let mut made: HashSet<&str> = inputs.iter().map(|input| input.name.as_str()).collect();
    for node in nodes {
        let missing = node
            .uses()
            .find(|&name| !made.contains(name) && constants.get(name).is_none());
        if let Some(name) = missing {
            let label = node.label();
            let reason = format!("node '{label}' uses '{name}', which nothing before it makes");
            return Err(Error::Model {
                file: file.to_owned(),
                reason,
            });
        }
        for name in node.made() {
            let new = made.insert(name);
            if !new || constants.get(name).is_some() {
                let reason = format!("value '{name}' is made twice; names of values are unique");
                return Err(Error::Model {
                    file: file.to_owned(),
                    reason,
                });
            }
        }
    }
    Ok(())
}

fn check_outputs(
    file: &str,
    outputs: &[String],
    nodes: &[OnnxNode],
    inputs: &[InputSpec],
    constants: &Constants,
) -> Result<()> {
    let bad = |reason: String| {
        Err(Error::Model {
            file: file.to_owned(),
            reason,
        })
    };
    if outputs.is_empty() {
        return bad("the graph has no output".to_owned());
    }
    let made: HashSet<&str> = nodes
        .iter()
        .flat_map(OnnxNode::made)
        .chain(inputs.iter().map(|input| input.name.as_str()))
        .collect();
    let known = |name: &str| made.contains(name) || constants.get(name).is_some();
    match outputs.iter().find(|name| !known(name)) {
        Some(name) => bad(format!("output '{name}' is made by no node")),
        None => Ok(()),
    }
}

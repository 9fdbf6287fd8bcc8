//! An ONNX graph under construction: nodes in order, constants, and names that nothing else has. Knows
//! no operation of the chip.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use ndarray::ArrayViewD;

use super::{source::Source, store::Layout};
use crate::{
    graph::{Graph, ValueId},
    model::Constant,
    onnx::{
        AttributeProto, DataType, Dimension, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
        StringStringEntryProto, TensorProto, TensorShapeProto, ValueInfoProto, f32_initializer,
        int64_initializer,
    },
};

/// Value of `data_location` for data in another file.
const EXTERNAL: i32 = 1;

/// Version of the standard operator set and of the file format that goes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) opset: i64,
    pub(super) ir: i64,
}

/// A constant of the graph.
enum Held {
    /// In the file itself.
    Inline(TensorProto),
    /// In the file of tensors, under this name.
    Stored { name: String, shape: Vec<usize> },
}

/// Nodes and constants so far.
pub(super) struct Writer {
    nodes: Vec<NodeProto>,
    constants: BTreeMap<String, Held>,
    taken: HashSet<String>,
    node_names: HashSet<String>,
}

impl Writer {
    /// A graph in which every name in `taken` keeps its meaning.
    pub(super) fn new(taken: HashSet<String>) -> Self {
        Self {
            nodes: Vec::new(),
            constants: BTreeMap::new(),
            taken,
            node_names: HashSet::new(),
        }
    }

    /// A name that nothing has: the wanted one where it is free.
    pub(super) fn fresh(&mut self, wanted: &str) -> String {
        unique(&mut self.taken, wanted)
    }

    /// Adds a node that makes one value, and returns the value's name.
    pub(super) fn node(
        &mut self,
        op: &str,
        inputs: &[&str],
        attributes: Vec<AttributeProto>,
        wanted: &str,
    ) -> String {
        let output = self.fresh(wanted);
        self.node_to(op, inputs, attributes, &output);
        output
    }

    /// The same with the value's name given.
    pub(super) fn node_to(
        &mut self,
        op: &str,
        inputs: &[&str],
        attributes: Vec<AttributeProto>,
        output: &str,
    ) {
        self.push(NodeProto {
            op_type: op.to_owned(),
            name: output.to_owned(),
            input: inputs.iter().map(|&name| name.to_owned()).collect(),
            output: vec![output.to_owned()],
            attribute: attributes,
            ..NodeProto::default()
        });
    }

    /// Adds a node as it is, but for its name where another node has it; returns that.
    pub(super) fn push(&mut self, mut node: NodeProto) -> String {
        node.name = unique(&mut self.node_names, &node.name);
        let name = node.name.clone();
        self.nodes.push(node);
        name
    }

    /// A constant of floats in the file itself.
    pub(super) fn floats(&mut self, wanted: &str, values: ArrayViewD<'_, f32>) -> String {
        let name = self.fresh(wanted);
        self.inline(&name, f32_initializer(&name, values));
        name
    }

    /// A float.
    pub(super) fn float(&mut self, wanted: &str, value: f32) -> String {
        self.floats(wanted, ndarray::arr0(value).into_dyn().view())
    }

    /// A vector of INT64: axes, shapes. One for each content.
    pub(super) fn ints(&mut self, elements: &[i64]) -> String {
        let text: Vec<String> = elements.iter().map(ToString::to_string).collect();
        let name = format!("dual16.ints.{}", text.join("_"));
        if self.constants.contains_key(&name) {
            return name;
        }
        let name = self.fresh(&name);
        self.inline(&name, int64_initializer(&name, elements));
        name
    }

    /// A constant under a name that is its own.
    pub(super) fn inline(&mut self, name: &str, tensor: TensorProto) {
        self.constants
            .entry(name.to_owned())
            .or_insert(Held::Inline(tensor));
    }

    /// A constant whose elements are in the file of tensors, under the same name.
    pub(super) fn stored(&mut self, name: &str, shape: &[usize]) {
        self.constants
            .entry(name.to_owned())
            .or_insert(Held::Stored {
                name: name.to_owned(),
                shape: shape.to_vec(),
            });
    }

    /// Elements of a constant that is in the file itself.
    pub(super) fn elements(&self, name: &str) -> usize {
        match self.constants.get(name) {
            Some(Held::Inline(tensor)) => tensor.dims.iter().product::<i64>().max(0) as usize,
            _ => 0,
        }
    }

    /// Nodes so far.
    pub(super) fn nodes(&self) -> &[NodeProto] {
        &self.nodes
    }

    /// Operators that are none of the standard, each once.
    pub(super) fn foreign(&self) -> Vec<String> {
        let foreign = self.nodes.iter().filter(|node| !node.domain.is_empty());
        let names = foreign.map(|node| format!("{}.{}", node.domain, node.op_type));
        names.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The whole as a file, whose large tensors lie in `location` as `layout` says.
    pub(super) fn finish(
        self,
        source: &Source<'_>,
        version: Version,
        location: &str,
        layout: &Layout,
    ) -> ModelProto {
        let model = source.model;
        let initializer = self.constants.into_iter();
        let initializer = initializer.map(|(name, held)| match held {
            Held::Inline(tensor) => TensorProto { name, ..tensor },
            Held::Stored { name: of, shape } => {
                let (offset, length) = layout.place(&of);
                let entry = |key: &str, value: String| StringStringEntryProto {
                    key: key.to_owned(),
                    value,
                };
                TensorProto {
                    name,
                    dims: shape.iter().map(|&dim| dim as i64).collect(),
                    data_type: DataType::Float.into(),
                    data_location: EXTERNAL,
                    external_data: vec![
                        entry("location", location.to_owned()),
                        entry("offset", offset.to_string()),
                        entry("length", length.to_string()),
                    ],
                    ..TensorProto::default()
                }
            }
        });
        let declared = model.declared();
        let fed = |value: &&ValueInfoProto| !model.is_constant(&value.name);
        let mut domains = vec![("", version.opset)];
        if self.nodes.iter().any(|node| node.domain == MICROSOFT) {
            domains.push((MICROSOFT, 1));
        }
        let graph = GraphProto {
            name: "model".to_owned(),
            initializer: initializer.collect(),
            node: self.nodes,
            input: declared
                .inputs
                .iter()
                .filter(fed)
                .map(|value| stated(value, source.graph))
                .collect(),
            output: declared
                .outputs
                .iter()
                .map(|value| stated(value, source.graph))
                .collect(),
            ..GraphProto::default()
        };
        ModelProto {
            ir_version: version.ir,
            producer_name: "dual16".to_owned(),
            opset_import: domains
                .into_iter()
                .map(|(domain, version)| OperatorSetIdProto {
                    domain: domain.to_owned(),
                    version,
                })
                .collect(),
            graph: Some(graph),
            ..ModelProto::default()
        }
    }
}

/// Domain of operators that onnxruntime has beyond the standard.
pub(super) const MICROSOFT: &str = "com.microsoft";

/// A declaration of a value. Every float is FLOAT, as all floats of the form are, and where the model leaves
/// even the rank open, it is that of the probe batch.
fn stated(value: &ValueInfoProto, graph: &Graph) -> ValueInfoProto {
    let mut value = value.clone();
    value.metadata_props.clear();
    let tensor = value.r#type.as_mut();
    if let Some(tensor) = tensor.and_then(|kind| kind.tensor_type.as_mut()) {
        let elem = DataType::try_from(tensor.elem_type);
        if let Ok(DataType::Float16 | DataType::Bfloat16 | DataType::Double) = elem {
            tensor.elem_type = DataType::Float.into();
        }
        if tensor.shape.is_none() {
            let of_it = |id: &&ValueId| graph.value(**id).onnx.as_ref() == Some(&value.name);
            let ids = graph.inputs.iter().chain(&graph.outputs);
            let found = ids.chain(&graph.exact_outputs).find(of_it);
            tensor.shape = found.map(|id| TensorShapeProto {
                dim: vec![Dimension::default(); graph.value(*id).shape.len()],
            });
        }
    }
    value
}

/// The elements of a constant of the model, where they are few or no floats; None for a large one.
pub(super) fn small(constant: &Constant, name: &str) -> Option<TensorProto> {
    match constant {
        Constant::Floats(tensor) if tensor.len() > super::store::INLINE => None,
        Constant::Floats(tensor) => Some(f32_initializer(name, tensor.view())),
        Constant::Other(tensor, _) => Some(TensorProto {
            name: name.to_owned(),
            ..(**tensor).clone()
        }),
    }
}

fn unique(taken: &mut HashSet<String>, wanted: &str) -> String {
    let numbered = (2u32..).map(|number| format!("{wanted}_{number}"));
    let mut names = std::iter::once(wanted.to_owned()).chain(numbered);
    let free = names.find(|name| !taken.contains(name)).unwrap_or_default();
    taken.insert(free.clone());
    free
}

//! One node of the ONNX graph, with its attributes and the module it was written for.

use std::collections::BTreeSet;

use super::Scope;
use crate::{
    canonical::OWN_DOMAIN,
    onnx::{AttributeProto, DataType, GraphProto, NodeProto, node_label},
};

/// Where PyTorch's exporter keeps the module names of a node.
pub(crate) const NAME_SCOPES: &str = "pkg.torch.onnx.name_scopes";

/// A node. Values are named; "" stands for an optional one left out.
#[derive(Debug, Clone)]
pub struct OnnxNode {
    /// Operator.
    pub op_type: String,
    /// Operator set; "" is the standard one.
    pub domain: String,
    /// Name in the file, may be empty.
    pub name: String,
    /// Values consumed, by position.
    pub inputs: Vec<String>,
    /// Values made, by position.
    pub outputs: Vec<String>,
    /// Values of this graph that the node's subgraphs use without being given them, sorted.
    pub captures: Vec<String>,
    /// PyTorch modules the node was written for.
    pub scope: Scope,
    attributes: Vec<AttributeProto>,
}

impl From<NodeProto> for OnnxNode {
    fn from(proto: NodeProto) -> OnnxNode {
        let scopes = proto
            .metadata_props
            .iter()
            .find(|entry| entry.key == NAME_SCOPES);
        let captures = proto
            .attribute
            .iter()
            .flat_map(subgraphs)
            .flat_map(captured)
            .collect();
        OnnxNode {
            scope: scopes
                .and_then(|entry| Scope::parse(&entry.value))
                .or_else(|| Scope::of_node(&proto.name))
                .unwrap_or_default(),
            captures: BTreeSet::into_iter(captures).collect(),
            domain: if proto.domain == "ai.onnx" {
                String::new()
            } else {
                proto.domain
            },
            op_type: proto.op_type,
            name: proto.name,
            inputs: proto.input,
            outputs: proto.output,
            attributes: proto.attribute,
        }
    }
}

impl OnnxNode {
    /// Operator type if the node is of the standard operator set, "" otherwise, so that a custom
    /// operator is never taken for a standard one of the same name.
    pub fn standard_op(&self) -> &str {
        if self.domain.is_empty() {
            &self.op_type
        } else {
            ""
        }
    }

    /// Whether the node rounds floats to float16.
    pub(crate) fn rounds_to_f16(&self) -> bool {
        let narrows = self.domain == OWN_DOMAIN && self.op_type == "Narrow";
        narrows && self.int("to") == Some(i32::from(DataType::Float16).into())
    }

    /// What errors call the node: its name, or its operator and first output.
    pub fn label(&self) -> String {
        node_label(&self.name, &self.op_type, &self.outputs)
    }

    /// The node as float execution loads it, named by its label.
    pub(crate) fn to_proto(&self) -> NodeProto {
        NodeProto {
            op_type: self.op_type.clone(),
            domain: self.domain.clone(),
            name: self.label(),
            input: self.inputs.clone(),
            output: self.outputs.clone(),
            attribute: self.attributes.clone(),
            ..NodeProto::default()
        }
    }

    /// Input by position, None where it is left out.
    pub fn input(&self, index: usize) -> Option<&str> {
        self.inputs
            .get(index)
            .map(String::as_str)
            .filter(|name| !name.is_empty())
    }

    /// Every value the node needs, captured ones included; one used twice comes twice.
    pub fn uses(&self) -> impl Iterator<Item = &str> {
        let all = self.inputs.iter().chain(&self.captures);
        all.map(String::as_str).filter(|name| !name.is_empty())
    }

    /// Every value the node makes.
    pub fn made(&self) -> impl Iterator<Item = &str> {
        self.outputs
            .iter()
            .map(String::as_str)
            .filter(|name| !name.is_empty())
    }

    /// The graphs inside the node, each with the attribute that it is.
    pub(crate) fn bodies(&self) -> impl Iterator<Item = (&str, &GraphProto)> {
        let attributes = self.attributes.iter();
        attributes.flat_map(|attribute| {
            subgraphs(attribute).map(|graph| (attribute.name.as_str(), graph))
        })
    }

    /// Integer attribute.
    pub fn int(&self, name: &str) -> Option<i64> {
        // A value of 0 may be left out on the wire.
        self.attribute(name)
            .map(|attribute| attribute.i.unwrap_or_default())
    }

    /// Float attribute.
    pub fn float(&self, name: &str) -> Option<f32> {
        self.attribute(name)
            .map(|attribute| attribute.f.unwrap_or_default())
    }

    /// List of integers.
    pub fn ints(&self, name: &str) -> Option<&[i64]> {
        self.attribute(name)
            .map(|attribute| attribute.ints.as_slice())
    }

    /// Text attribute; None also where it is not UTF-8.
    pub fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.attribute(name)?.s.as_ref()?).ok()
    }

    /// List of floats; empty where there is none.
    pub(crate) fn floats(&self, name: &str) -> &[f32] {
        self.attribute(name)
            .map_or(&[], |attribute| attribute.floats.as_slice())
    }

    /// List of texts; empty where there is none.
    pub(crate) fn texts(&self, name: &str) -> Vec<&str> {
        let texts = self.attribute(name).map(|attribute| &attribute.strings);
        texts
            .into_iter()
            .flatten()
            .filter_map(|text| std::str::from_utf8(text).ok())
            .collect()
    }

    /// Bodies and branches.
    pub(crate) fn subgraphs(&self) -> impl Iterator<Item = &GraphProto> {
        self.attributes.iter().flat_map(subgraphs)
    }

    fn attribute(&self, name: &str) -> Option<&AttributeProto> {
        self.attributes
            .iter()
            .find(|attribute| attribute.name == name)
    }
}

/// The graphs that an attribute is.
pub(super) fn subgraphs(attribute: &AttributeProto) -> impl Iterator<Item = &GraphProto> {
    attribute.g.iter().chain(&attribute.graphs)
}

/// Names that a subgraph uses and does not define: they come from the graph around it.
fn captured(graph: &GraphProto) -> BTreeSet<String> {
    let inputs = graph.input.iter().map(|value| &value.name);
    let constants = graph.initializer.iter().map(|tensor| &tensor.name);
    let made = graph.node.iter().flat_map(|node| &node.output);
    let own: BTreeSet<&String> = inputs.chain(constants).chain(made).collect();

    let direct = graph.node.iter().flat_map(|node| &node.input);
    let returned = graph.output.iter().map(|value| &value.name);
    let nested = graph
        .node
        .iter()
        .flat_map(|node| &node.attribute)
        .flat_map(subgraphs);
    let mut names: BTreeSet<String> = direct.chain(returned).cloned().collect();
    names.extend(nested.flat_map(captured));
    names.retain(|name| !name.is_empty() && !own.contains(name));
    names
}

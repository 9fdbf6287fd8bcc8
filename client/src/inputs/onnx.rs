//! The few fields of ONNX that say where tensors keep their data, and what a batch must be made of.
//! Everything else in a model is skipped unread.
//!
//! Field numbers: onnx.proto3 of <https://github.com/onnx/onnx>.

use std::collections::HashSet;

use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub(super) struct ModelProto {
    #[prost(int64, tag = "1")]
    pub(super) ir_version: i64,
    #[prost(message, optional, tag = "7")]
    pub(super) graph: Option<GraphProto>,
    #[prost(message, repeated, tag = "25")]
    pub(super) functions: Vec<FunctionProto>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct FunctionProto {
    #[prost(message, repeated, tag = "7")]
    pub(super) node: Vec<NodeProto>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct GraphProto {
    #[prost(message, repeated, tag = "1")]
    pub(super) node: Vec<NodeProto>,
    #[prost(message, repeated, tag = "5")]
    pub(super) initializer: Vec<TensorProto>,
    #[prost(message, repeated, tag = "11")]
    pub(super) input: Vec<ValueInfoProto>,
    #[prost(message, repeated, tag = "15")]
    pub(super) sparse_initializer: Vec<SparseTensorProto>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ValueInfoProto {
    #[prost(string, tag = "1")]
    pub(super) name: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct NodeProto {
    #[prost(message, repeated, tag = "5")]
    pub(super) attribute: Vec<AttributeProto>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct AttributeProto {
    #[prost(message, optional, tag = "5")]
    pub(super) t: Option<TensorProto>,
    #[prost(message, optional, boxed, tag = "6")]
    pub(super) g: Option<Box<GraphProto>>,
    #[prost(message, repeated, tag = "10")]
    pub(super) tensors: Vec<TensorProto>,
    #[prost(message, repeated, tag = "11")]
    pub(super) graphs: Vec<GraphProto>,
    #[prost(message, optional, tag = "22")]
    pub(super) sparse_tensor: Option<SparseTensorProto>,
    #[prost(message, repeated, tag = "23")]
    pub(super) sparse_tensors: Vec<SparseTensorProto>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SparseTensorProto {
    #[prost(message, optional, tag = "1")]
    pub(super) values: Option<TensorProto>,
    #[prost(message, optional, tag = "2")]
    pub(super) indices: Option<TensorProto>,
}

/// `TensorProto.data_location`: the data is in another file.
pub(super) const EXTERNAL: i32 = 1;

#[derive(Clone, PartialEq, Message)]
pub(super) struct TensorProto {
    #[prost(string, tag = "8")]
    pub(super) name: String,
    #[prost(message, repeated, tag = "13")]
    pub(super) external_data: Vec<StringStringEntryProto>,
    #[prost(int32, tag = "14")]
    pub(super) data_location: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StringStringEntryProto {
    #[prost(string, tag = "1")]
    pub(super) key: String,
    #[prost(string, tag = "2")]
    pub(super) value: String,
}

/// What a model holds, subgraphs and functions included.
#[derive(Debug, Default)]
pub(super) struct Contents<'a> {
    pub(super) tensors: Vec<&'a TensorProto>,
    pub(super) nodes: u64,
    /// Subgraphs within one another.
    pub(super) nesting: u64,
}

impl ModelProto {
    /// Names of the inputs that are no initializers: before IR version 4 those are there too.
    pub(super) fn inputs(&self) -> Vec<String> {
        let Some(graph) = &self.graph else {
            return Vec::new();
        };
        let constants: HashSet<&str> = graph
            .initializer
            .iter()
            .map(|tensor| tensor.name.as_str())
            .collect();
        let names = graph.input.iter().map(|input| &input.name);
        names
            .filter(|name| !constants.contains(name.as_str()))
            .cloned()
            .collect()
    }

    pub(super) fn contents(&self) -> Contents<'_> {
        let mut contents = Contents::default();
        if let Some(graph) = &self.graph {
            contents.graph(graph, 0);
        }
        for node in self.functions.iter().flat_map(|function| &function.node) {
            contents.node(node, 0);
        }
        contents
    }
}

// The recursion is as deep as the decoded message, and prost decodes at most 100 levels.
impl<'a> Contents<'a> {
    /// A graph within `depth` others.
    fn graph(&mut self, graph: &'a GraphProto, depth: u64) {
        self.nesting = self.nesting.max(depth);
        self.tensors.extend(&graph.initializer);
        for sparse in &graph.sparse_initializer {
            self.sparse(sparse);
        }
        for node in &graph.node {
            self.node(node, depth);
        }
    }

    fn node(&mut self, node: &'a NodeProto, depth: u64) {
        self.nodes += 1;
        for attribute in &node.attribute {
            self.tensors
                .extend(attribute.t.iter().chain(&attribute.tensors));
            for sparse in attribute
                .sparse_tensor
                .iter()
                .chain(&attribute.sparse_tensors)
            {
                self.sparse(sparse);
            }
            for graph in attribute.g.iter().map(Box::as_ref).chain(&attribute.graphs) {
                self.graph(graph, depth + 1);
            }
        }
    }

    fn sparse(&mut self, sparse: &'a SparseTensorProto) {
        self.tensors
            .extend(sparse.values.iter().chain(&sparse.indices));
    }
}

//! Model-local functions, put in place of the nodes that call them. One that calls itself, which ONNX
//! forbids, ends at the limits: of a model's nodes, which counts what is inlined, or of names, which
//! grow inside a call.

use std::collections::HashMap;

use super::{OPSET, form::standard_opset, refusal::Refusal};
use crate::onnx::{AttributeProto, FunctionProto, GraphProto, NodeProto};

/// Between the name of a call and that of a value inside it.
const INSIDE: char = '/';

/// The functions of a model.
#[derive(Debug)]
pub(super) struct Functions {
    by_name: HashMap<(String, String, String), FunctionProto>,
    /// Of the model, for a function that states none.
    opset: i64,
}

/// What a call is.
#[derive(Debug)]
pub(super) struct Inlined {
    /// In execution order.
    pub(super) nodes: Vec<NodeProto>,
    /// Version of the standard operator set that they were written for.
    pub(super) opset: i64,
}

impl Functions {
    pub(super) fn new(functions: Vec<FunctionProto>, opset: i64) -> Functions {
        let named = functions.into_iter().map(|function| {
            let key = (
                function.domain.clone(),
                function.name.clone(),
                function.overload.clone(),
            );
            (key, function)
        });
        Functions {
            by_name: named.collect(),
            opset,
        }
    }

    /// The body of the function that a node calls; None where it calls none.
    pub(super) fn inlined(&self, call: &NodeProto) -> Result<Option<Inlined>, Refusal> {
        if self.by_name.is_empty() {
            return Ok(None);
        }
        let key = (
            call.domain.clone(),
            call.op_type.clone(),
            call.overload.clone(),
        );
        let Some(function) = self.by_name.get(&key) else {
            return Ok(None);
        };
        let prefix = match (call.name.as_str(), call.output.first()) {
            ("", Some(output)) => output.clone(),
            (name, _) => name.to_owned(),
        };
        if call.input.len() > function.input.len() || call.output.len() > function.output.len() {
            return Err(Refusal::new(format!(
                "it gives {} inputs and takes {} outputs of a function that has {} and {}",
                call.input.len(),
                call.output.len(),
                function.input.len(),
                function.output.len()
            )));
        }
        let attributes = Attributes::of(function, call);
        let names = Names::of(function, call, &prefix);
        let nodes = function
            .node
            .iter()
            .map(|node| {
                let mut node = node.clone();
                names.node(&mut node);
                attributes.fill(&mut node);
                node
            })
            .collect();
        let opset = match function.opset_import.is_empty() {
            true => self.opset,
            false => standard_opset(&function.opset_import),
        };
        Ok(Some(Inlined {
            nodes,
            opset: opset.clamp(1, OPSET.max(self.opset)),
        }))
    }
}

/// Values of the attributes that a body refers to.
struct Attributes<'f> {
    values: HashMap<&'f str, &'f AttributeProto>,
}

impl<'f> Attributes<'f> {
    /// Of one that is neither given nor has a default, the body's node goes without.
    fn of(function: &'f FunctionProto, call: &'f NodeProto) -> Attributes<'f> {
        let defaults = function.attribute_proto.iter();
        let values = defaults
            .chain(&call.attribute)
            .map(|attribute| (attribute.name.as_str(), attribute))
            .collect();
        Attributes { values }
    }

    fn fill(&self, node: &mut NodeProto) {
        let attributes = std::mem::take(&mut node.attribute);
        node.attribute = attributes
            .into_iter()
            .filter_map(|mut attribute| {
                if !attribute.ref_attr_name.is_empty() {
                    let value = self.values.get(attribute.ref_attr_name.as_str())?;
                    return Some(AttributeProto {
                        name: attribute.name,
                        ref_attr_name: String::new(),
                        ..(*value).clone()
                    });
                }
                for graph in attribute.g.iter_mut().chain(&mut attribute.graphs) {
                    graph.node.iter_mut().for_each(|node| self.fill(node));
                }
                Some(attribute)
            })
            .collect();
    }
}

/// What the values of a body are called in the graph around the call.
struct Names<'f> {
    outer: HashMap<&'f str, &'f str>,
    prefix: &'f str,
}

impl<'f> Names<'f> {
    fn of(function: &'f FunctionProto, call: &'f NodeProto, prefix: &'f str) -> Names<'f> {
        let missing = std::iter::repeat("");
        let given = call.input.iter().map(String::as_str).chain(missing);
        let taken = function.output.iter().zip(&call.output);
        let outer = function
            .input
            .iter()
            .map(String::as_str)
            .zip(given)
            .chain(
                taken
                    .filter(|(_, name)| !name.is_empty())
                    .map(|(inner, outer)| (inner.as_str(), outer.as_str())),
            )
            .collect();
        Names { outer, prefix }
    }

    fn name(&self, inner: &str) -> String {
        match (inner, self.outer.get(inner)) {
            ("", _) => String::new(),
            (_, Some(outer)) => (*outer).to_owned(),
            _ => format!("{}{INSIDE}{inner}", self.prefix),
        }
    }

    fn all(&self, names: &mut [String]) {
        for name in names {
            *name = self.name(name);
        }
    }

    fn node(&self, node: &mut NodeProto) {
        self.all(&mut node.input);
        self.all(&mut node.output);
        if !node.name.is_empty() {
            node.name = format!("{}{INSIDE}{}", self.prefix, node.name);
        }
        for attribute in &mut node.attribute {
            for graph in attribute.g.iter_mut().chain(&mut attribute.graphs) {
                self.graph(graph);
            }
        }
    }

    fn graph(&self, graph: &mut GraphProto) {
        for value in graph
            .input
            .iter_mut()
            .chain(&mut graph.output)
            .chain(&mut graph.value_info)
        {
            value.name = self.name(&value.name);
        }
        for tensor in &mut graph.initializer {
            tensor.name = self.name(&tensor.name);
        }
        graph.node.iter_mut().for_each(|node| self.node(node));
    }
}

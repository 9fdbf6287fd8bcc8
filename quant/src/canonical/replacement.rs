//! The nodes that stand in for one. The last keeps its name, its notes and its outputs; what lies
//! before it is called after its first output.

use prost::Message as _;

use super::known::Known;
use crate::{
    onnx::{
        AttributeProto, AttributeType, DataType, NodeProto, TensorProto, attribute_int,
        f32_initializer,
    },
    tensor::Tensor,
};

/// Nodes under construction, in order.
#[derive(Debug)]
pub(super) struct Replacement<'n> {
    source: &'n NodeProto,
    nodes: Vec<NodeProto>,
}

impl<'n> Replacement<'n> {
    pub(super) fn of(source: &'n NodeProto) -> Self {
        Replacement {
            source,
            nodes: Vec::new(),
        }
    }

    /// Name of what the source makes first.
    pub(super) fn output(&self) -> &'n str {
        self.source.output.first().map_or("", String::as_str)
    }

    /// A node in between; returns the name of its one output.
    pub(super) fn node(&mut self, op: &str, inputs: &[&str]) -> String {
        self.node_with(op, inputs, Vec::new())
    }

    /// The same with attributes.
    pub(super) fn node_with(
        &mut self,
        op: &str,
        inputs: &[&str],
        attributes: Vec<AttributeProto>,
    ) -> String {
        let name = self.fresh(op);
        let node = self.make(op, inputs, vec![name.clone()], attributes);
        self.nodes.push(NodeProto {
            name: format!("{}/{}", self.label(), self.nodes.len()),
            ..node
        });
        name
    }

    /// The same with several outputs, whose names it returns.
    pub(super) fn node_of(
        &mut self,
        op: &str,
        inputs: &[&str],
        outputs: usize,
        attributes: Vec<AttributeProto>,
    ) -> Vec<String> {
        let base = self.fresh(op);
        let names: Vec<String> = (0..outputs)
            .map(|index| format!("{base}.{index}"))
            .collect();
        let node = self.make(op, inputs, names.clone(), attributes);
        self.nodes.push(NodeProto {
            name: format!("{}/{}", self.label(), self.nodes.len()),
            ..node
        });
        names
    }

    /// A vector of INT64.
    pub(super) fn ints(&mut self, elements: &[i64]) -> String {
        self.constant(TensorProto {
            dims: vec![elements.len() as i64],
            int64_data: elements.to_vec(),
            data_type: DataType::Int64.into(),
            ..TensorProto::default()
        })
    }

    /// A vector of FLOAT.
    pub(super) fn floats(&mut self, elements: &[f32]) -> String {
        self.constant(TensorProto {
            dims: vec![elements.len() as i64],
            float_data: elements.to_vec(),
            data_type: DataType::Float.into(),
            ..TensorProto::default()
        })
    }

    /// A FLOAT of rank 0.
    pub(super) fn float(&mut self, element: f32) -> String {
        self.constant(TensorProto {
            float_data: vec![element],
            data_type: DataType::Float.into(),
            ..TensorProto::default()
        })
    }

    /// A number of rank 0 in a value's own type.
    pub(super) fn number(&mut self, element: i32, elem: DataType) -> String {
        let mut tensor = TensorProto {
            data_type: elem.into(),
            ..TensorProto::default()
        };
        match elem {
            DataType::Int64 => tensor.int64_data = vec![element.into()],
            DataType::Uint32 | DataType::Uint64 => tensor.uint64_data = vec![element as u64],
            DataType::Double => tensor.double_data = vec![element.into()],
            elem if super::known::is_float(elem) => {
                tensor.data_type = DataType::Float.into();
                tensor.float_data = vec![element as f32];
            }
            DataType::Undefined => {
                tensor.data_type = DataType::Float.into();
                tensor.float_data = vec![element as f32];
            }
            _ => tensor.int32_data = vec![element],
        }
        self.constant(tensor)
    }

    /// Any constant; its name is set here.
    pub(super) fn constant(&mut self, tensor: TensorProto) -> String {
        let name = self.fresh("const");
        self.constant_called(name, tensor)
    }

    /// A constant that is made of another, whose name it begins with: modules are told by it.
    pub(super) fn constant_of(&mut self, base: &str, tensor: TensorProto) -> String {
        let name = format!("{base}/{}", self.fresh("const"));
        self.constant_called(name, tensor)
    }

    /// A matrix turned, once for all nodes that need it.
    pub(super) fn turned(&mut self, known: &Known<'_>, base: &str, matrix: &Tensor) -> String {
        let name = format!("{base}/canonical.turned");
        if known.is_constant(&name) {
            return name;
        }
        let turned = matrix.t().as_standard_layout().into_owned();
        self.constant_called(name, f32_initializer("", turned.view()))
    }

    fn constant_called(&mut self, name: String, tensor: TensorProto) -> String {
        let value = AttributeProto {
            name: "value".to_owned(),
            r#type: AttributeType::Tensor.into(),
            t: Some(TensorProto {
                name: name.clone(),
                ..tensor
            }),
            ..AttributeProto::default()
        };
        let node = self.make("Constant", &[], vec![name.clone()], vec![value]);
        self.nodes.push(node);
        name
    }

    /// Ends with a node that makes what the source made.
    pub(super) fn last(self, op: &str, inputs: &[&str]) -> Vec<NodeProto> {
        self.last_with(op, inputs, Vec::new())
    }

    /// The same with attributes.
    pub(super) fn last_with(
        mut self,
        op: &str,
        inputs: &[&str],
        attributes: Vec<AttributeProto>,
    ) -> Vec<NodeProto> {
        let outputs = self.source.output.clone();
        let node = self.make(op, inputs, outputs, attributes);
        self.nodes.push(node);
        self.nodes
    }

    /// Ends with one of our own kernels.
    pub(super) fn last_own(
        self,
        op: &str,
        inputs: &[&str],
        attributes: Vec<AttributeProto>,
    ) -> Vec<NodeProto> {
        let mut nodes = self.last_with(op, inputs, attributes);
        if let Some(node) = nodes.last_mut() {
            node.domain = super::OWN_DOMAIN.to_owned();
        }
        nodes
    }

    /// Ends with nodes that make each output of the source by its own.
    pub(super) fn last_each(
        mut self,
        parts: Vec<(&str, Vec<&str>, Vec<AttributeProto>)>,
    ) -> Vec<NodeProto> {
        for ((op, inputs, attributes), output) in parts.into_iter().zip(&self.source.output) {
            if output.is_empty() {
                continue;
            }
            let node = self.make(op, &inputs, vec![output.clone()], attributes);
            self.nodes.push(node);
        }
        self.nodes
    }

    fn label(&self) -> &str {
        match self.source.name.as_str() {
            "" => self.output(),
            name => name,
        }
    }

    fn fresh(&self, op: &str) -> String {
        let number = self.nodes.len();
        format!("{}/{}.{number}", self.output(), op.to_lowercase())
    }

    fn make(
        &self,
        op: &str,
        inputs: &[&str],
        outputs: Vec<String>,
        attributes: Vec<AttributeProto>,
    ) -> NodeProto {
        NodeProto {
            op_type: op.to_owned(),
            name: self.source.name.clone(),
            input: inputs.iter().map(|&name| name.to_owned()).collect(),
            output: outputs,
            attribute: attributes,
            metadata_props: self.source.metadata_props.clone(),
            ..NodeProto::default()
        }
    }
}

/// An attribute that is a list of integers.
pub(crate) fn ints_attribute(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        r#type: AttributeType::Ints.into(),
        ints: values.to_vec(),
        ..AttributeProto::default()
    }
}

/// An attribute that is a float.
pub(crate) fn float_attribute(name: &str, value: f32) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        r#type: AttributeType::Float.into(),
        f: Some(value),
        ..AttributeProto::default()
    }
}

/// An attribute that is a text.
pub(crate) fn text_attribute(name: &str, value: &str) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        r#type: AttributeType::String.into(),
        s: Some(value.as_bytes().to_vec().into()),
        ..AttributeProto::default()
    }
}

/// An attribute that is an integer.
pub(crate) fn int_attribute(name: &str, value: i64) -> AttributeProto {
    attribute_int(name, value)
}

/// Bytes of a node as a file has it, for a bound on what rewriting makes.
pub(super) fn encoded_len(node: &NodeProto) -> usize {
    node.encoded_len()
}

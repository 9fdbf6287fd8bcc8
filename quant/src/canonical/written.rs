//! A model in canonical form as an ONNX file, for other engines to run.

use prost::Message as _;

use super::{OPSET, OWN_DOMAIN};
use crate::{
    model::{Constant, Model},
    onnx::{
        GraphProto, ModelProto, OperatorSetIdProto, TensorProto, ValueInfoProto, f32_initializer,
    },
};

/// Version of the file format written.
const IR_VERSION: i64 = 10;

/// The form as an ONNX file, whose inputs and outputs are named but have no types. None where a node
/// is run by a kernel of this crate, which no other engine has.
pub fn written(model: &Model) -> Option<Vec<u8>> {
    if model.nodes().iter().any(|node| node.domain == OWN_DOMAIN) {
        return None;
    }
    let constants = model.constants().map(|(name, constant)| match constant {
        Constant::Floats(tensor) => f32_initializer(name, tensor.view()),
        Constant::Other(tensor, _) => TensorProto {
            name: name.to_owned(),
            ..(**tensor).clone()
        },
    });
    let graph = GraphProto {
        name: "model".to_owned(),
        node: model.nodes().iter().map(|node| node.to_proto()).collect(),
        initializer: constants.collect(),
        input: model
            .inputs()
            .iter()
            .map(|input| named(&input.name))
            .collect(),
        output: model.outputs().iter().map(|name| named(name)).collect(),
        ..GraphProto::default()
    };
    Some(file(graph).encode_to_vec())
}

/// A graph of the form as a file.
pub(crate) fn file(graph: GraphProto) -> ModelProto {
    ModelProto {
        ir_version: IR_VERSION,
        opset_import: ["", "com.microsoft"]
            .map(|domain| OperatorSetIdProto {
                domain: domain.to_owned(),
                version: if domain.is_empty() { OPSET } else { 1 },
            })
            .to_vec(),
        graph: Some(graph),
        ..ModelProto::default()
    }
}

/// A value of which only the name is stated.
pub(crate) fn named(name: &str) -> ValueInfoProto {
    ValueInfoProto {
        name: name.to_owned(),
        ..ValueInfoProto::default()
    }
}

//! A model in canonical form as an ONNX file, for other engines to run.

use prost::Message as _;

use super::{Constant, Model};
use crate::{
    canonical::{OWN_DOMAIN, file, named},
    onnx::{GraphProto, TensorProto, f32_initializer},
};

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

//! A model as rten loads it: nodes in canonical form and small constants. Larger ones become inputs
//! that each run is shown, so that no copy of them is made; so does what our own kernels make.

use std::{collections::HashMap, sync::Arc};

use prost::Message as _;

use super::own;
use crate::{
    canonical::{file, named},
    model::{Constant, Model},
    onnx::{GraphProto, TensorProto, f32_initializer},
    tensor::Tensor,
};

/// Floats of at most so many elements are loaded with the model.
const SMALL: usize = 1024;

/// A model as rten loads it.
pub(super) struct Executable {
    /// The ONNX file.
    pub(super) model: Vec<u8>,
    /// Constants that are no part of it, by name.
    pub(super) weights: HashMap<String, Arc<Tensor>>,
}

pub(super) fn executable(model: &Model) -> Executable {
    let mut weights = HashMap::new();
    let mut graph = GraphProto {
        name: "model".to_owned(),
        ..GraphProto::default()
    };
    graph
        .input
        .extend(model.inputs().iter().map(|input| named(&input.name)));
    let mut constants: Vec<(&str, &Constant)> = model.constants().collect();
    constants.sort_by_key(|(name, _)| *name);
    for (name, constant) in constants {
        match constant {
            Constant::Floats(tensor) if tensor.len() > SMALL => {
                weights.insert(name.to_owned(), Arc::clone(tensor));
                graph.input.push(named(name));
            }
            Constant::Floats(tensor) => {
                graph.initializer.push(f32_initializer(name, tensor.view()));
            }
            Constant::Other(tensor, _) => graph.initializer.push(TensorProto {
                name: name.to_owned(),
                ..(**tensor).clone()
            }),
        }
    }
    for node in model.nodes().iter() {
        match own::is_own(node) {
            true => graph.input.extend(node.made().map(named)),
            false => graph.node.push(node.to_proto()),
        }
    }
    graph
        .output
        .extend(model.outputs().iter().map(|name| named(name)));
    Executable {
        model: file(graph).encode_to_vec(),
        weights,
    }
}

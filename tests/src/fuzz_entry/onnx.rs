//! ONNX models: what the client looks for in them before it uploads, and what a worker reads and
//! lowers.

use std::collections::HashMap;

use dual16::inputs::{Holdings, model_needs};
use dual16_quant::{
    InputLimits,
    graph::lower,
    model::Model,
    onnx::{DataType, ModelProto, ValueInfoProto, external_locations},
    tensor::{Datum, Tensor},
};
use prost::{Message as _, bytes::Bytes};

use super::scratch::with_file;

/// Elements of a declared value that are made up, at most, and of all of them.
const ELEMENTS: usize = 64;
const ALL_ELEMENTS: usize = 1 << 12;

/// Reads a model with every constant in it, and lowers it.
pub(super) fn read(data: &[u8]) {
    with_file("model.onnx", data, |path| {
        // Refusing it is right as often as not; only that it comes back matters here.
        let _ = model_needs(path, &mut Holdings::default());
        let _ = external_locations("model.onnx", path, &InputLimits::DEFAULT);
    });
    let Ok(model) = Model::from_bytes(
        "model.onnx",
        Bytes::copy_from_slice(data),
        &[],
        &InputLimits::DEFAULT,
    ) else {
        return;
    };
    for node in model.nodes().iter() {
        for name in node.uses().chain(node.made()) {
            let shape = model.constant_shape(name);
            assert_eq!(shape.is_some(), model.is_constant(name), "{name}");
            let _ = model.f32_constant(name);
            let _ = model.i64_constant(name);
        }
    }
    for input in model.inputs() {
        // Whatever rank it declares, an error names it.
        assert!(!input.shape.to_string().is_empty());
    }
    if let Ok(graph) = lower(&model, &declared(data)) {
        for node in &graph.nodes {
            for &id in node.inputs.iter().chain(&node.outputs) {
                assert!(graph.origin(id) <= id, "{}", graph.value(id).name);
            }
        }
    }
}

/// What stands for a float run, which would take too long here: the values that the model declares,
/// of the shapes that it declares. They need not agree with one another, as those of a run would.
fn declared(model: &[u8]) -> HashMap<String, Datum> {
    let graph = ModelProto::decode(model).ok().and_then(|model| model.graph);
    let values = graph.into_iter().flat_map(|graph| {
        let inner = graph.input.into_iter().chain(graph.value_info);
        inner.chain(graph.output)
    });
    let mut left = ALL_ELEMENTS;
    values
        .filter_map(|value| {
            let datum = datum(&value, left.min(ELEMENTS))?;
            left -= datum.shape().iter().product::<usize>();
            Some((value.name, datum))
        })
        .collect()
}

/// A value of a declared type with at most `most` elements; a length that is open is 2.
fn datum(value: &ValueInfoProto, most: usize) -> Option<Datum> {
    let tensor = value.r#type.as_ref()?.tensor_type.as_ref()?;
    let dims = tensor.shape.iter().flat_map(|shape| &shape.dim);
    let shape: Vec<usize> = dims
        .map(|dim| usize::try_from(dim.dim_value.unwrap_or(2)).ok())
        .collect::<Option<_>>()?;
    let elements = shape
        .iter()
        .try_fold(1, |count: usize, &dim| count.checked_mul(dim))?;
    if elements > most {
        return None;
    }
    let ones = Tensor::ones(shape);
    Some(match DataType::try_from(tensor.elem_type).ok()? {
        DataType::Float => Datum::F32(ones),
        DataType::Int8 => Datum::I8(ones.mapv(|x| x as i8)),
        DataType::Uint8 => Datum::U8(ones.mapv(|x| x as u8)),
        _ => Datum::I32(ones.mapv(|x| x as i32)),
    })
}

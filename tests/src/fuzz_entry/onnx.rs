//! ONNX models: what the client looks for in them before it uploads, and what a worker reads.

use dual16::inputs::{Holdings, external_files};
use dual16_quant::{
    InputLimits,
    model::{Model, external_locations},
};
use prost::bytes::Bytes;

use super::scratch::with_file;

/// Reads a model with every constant in it.
pub(super) fn read(data: &[u8]) {
    with_file("model.onnx", data, |path| {
        // Refusing it is right as often as not; only that it comes back matters here.
        let _ = external_files(path, &mut Holdings::default());
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
}

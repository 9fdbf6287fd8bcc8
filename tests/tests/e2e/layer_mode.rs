//! Layer mode, from a checkpoint and captured activations alone, measures what the graph does.

use std::{collections::BTreeMap, fs, path::Path};

use dual16_quant::{
    InputLimits, batch::BatchFile, float::FloatModel, graph, model::Model, tensor::Datum,
};
use dual16_tests::{
    Dual16, Results,
    data::{batches, smallmodel},
    results::layer,
    tensors::{self, Tensor},
};
use serde_json::Value;

#[test]
fn captured_activations_give_the_isolated_figures_of_the_graph() {
    let auto = ["--linear", "*=auto"];
    let from_graph = Results::new();
    Dual16::quantize(&smallmodel())
        .args(auto)
        .out(&from_graph.path())
        .run()
        .success();

    let activations = tempfile::tempdir().unwrap();
    capture(&smallmodel(), activations.path());
    let from_layers = Results::new();
    Dual16::new(["quantize", "--weights"])
        .arg(smallmodel().join("float.safetensors"))
        .arg("--activations")
        .arg(activations.path())
        // In the graph its output is the model's, which layer mode cannot know.
        .args(["--high-precision", "linear3"])
        .args(auto)
        .out(&from_layers.path())
        .run()
        .success();

    let (graph, layers) = (from_graph.result(), from_layers.result());
    for name in ["linear1", "linear2", "linear3"] {
        let (graph, layers) = (layer(&graph, name), layer(&layers, name));
        assert_eq!(graph["effective"], layers["effective"], "{name}");
        assert_eq!(graph["isolated"].as_object().unwrap().len(), 5, "{name}");
        assert_equal(name, &graph["isolated"], &layers["isolated"]);
    }
}

/// Writes the input of each Linear, under the layer's name, for every calibration batch.
fn capture(model_folder: &Path, into: &Path) {
    let model = Model::load(
        "model.onnx",
        &model_folder.join("model.onnx"),
        &[],
        &InputLimits::DEFAULT,
    )
    .unwrap();
    let float = FloatModel::load(&model, 1).unwrap();
    let read = |path: &Path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        BatchFile::open(name, path, model.inputs(), &InputLimits::DEFAULT)
            .unwrap()
            .read(0)
            .unwrap()
    };
    let paths = batches(&model_folder.join("calib"));
    let graph = graph::lower(&model, &float.probe(&read(&paths[0])).unwrap()).unwrap();
    let inputs: BTreeMap<String, String> = graph
        .linears()
        .map(|(_, node, _)| {
            let input = graph.value(node.inputs[0]);
            (node.name.clone(), input.onnx.clone().unwrap())
        })
        .collect();
    let values: Vec<&str> = inputs.values().map(String::as_str).collect();
    for path in paths {
        let captured = float.run(&read(&path), &values).unwrap();
        let tensor = |value: &String| match &captured[value] {
            Datum::F32(tensor) => Tensor {
                shape: tensor.shape().to_vec(),
                data: tensor.iter().copied().collect(),
            },
            _ => panic!("{value} is no float"),
        };
        let named = inputs
            .iter()
            .map(|(layer, value)| (layer.clone(), tensor(value)))
            .collect();
        tensors::write(&into.join(path.file_name().unwrap()), &named);
    }
    assert_eq!(fs::read_dir(into).unwrap().count(), 8);
}

/// Numbers to 1e-9 of themselves, everything else exactly.
fn assert_equal(at: &str, a: &Value, b: &Value) {
    match (a, b) {
        (Value::Object(fields), Value::Object(others)) => {
            assert_eq!(fields.len(), others.len(), "{at}: {a:#} {b:#}");
            // What a layer takes depends on where in a model its input comes from.
            for (key, field) in fields.iter().filter(|(key, _)| *key != "estimate") {
                assert_equal(&format!("{at}.{key}"), field, &others[key]);
            }
        }
        (Value::Number(x), Value::Number(y)) => {
            let (x, y) = (x.as_f64().unwrap(), y.as_f64().unwrap());
            assert!(
                (x - y).abs() <= 1e-9 * x.abs(),
                "{at}: {x} from the graph, {y} from layers"
            );
        }
        _ => assert_eq!(a, b, "{at}"),
    }
}

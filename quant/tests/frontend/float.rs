//! Float execution: right values, any value, one node, any number of threads.

use std::collections::HashMap;

use crate::shared::{LIMITS, Sample, data, made, made::Made};
use dual16_quant::{
    Error,
    batch::{Batch, BatchFile},
    float::FloatModel,
    model::{ElementKind, InputShape, InputSpec, Model},
    tensor::{Datum, Tensor},
};

/// Reads a tensor that is no input of the model, such as the expected outputs.
fn expected(folder: &str, name: &str) -> Vec<Tensor> {
    let model = Model::load("model.onnx", &data(folder).join("model.onnx"), &[], LIMITS).unwrap();
    let stacked = folder == "digits";
    let spec = InputSpec {
        name: name.to_owned(),
        kind: ElementKind::F32,
        shape: InputShape::Ranked(vec![None; if stacked { 2 } else { 3 }]),
    };
    assert!(model.outputs().contains(&name.to_owned()));
    let mut file = BatchFile::open(
        "eval.safetensors",
        &data(folder).join("eval.safetensors"),
        &[spec],
        LIMITS,
    )
    .unwrap();
    let tensors = file
        .batches()
        .map(|batch| batch.unwrap()[name].as_f32().unwrap().clone());
    tensors.collect()
}

#[test]
fn float_run_equals_pytorch() {
    for (folder, output, batches) in [("smallmodel", "y", 1), ("digits", "logits", 16)] {
        let path = data(folder);
        let model = Model::load("model.onnx", &path.join("model.onnx"), &[], LIMITS).unwrap();
        let float = FloatModel::load(&model, 1).unwrap();
        let mut file = BatchFile::open(
            "eval.safetensors",
            &path.join("eval.safetensors"),
            model.inputs(),
            LIMITS,
        )
        .unwrap();
        assert_eq!(file.count(), batches);
        assert!(file.ignored_keys().contains(&output.to_owned()));
        let wanted = expected(folder, output);
        assert_eq!(wanted.len(), batches);
        for (batch, wanted) in file.batches().zip(wanted) {
            let got = float.run(&batch.unwrap(), &[output]).unwrap();
            let got = got[output].as_f32().unwrap();
            assert_eq!(got.shape(), wanted.shape());
            let worst = got
                .iter()
                .zip(&wanted)
                .map(|(a, b)| (a - b).abs())
                .fold(0.0, f32::max);
            assert!(worst < 1e-4, "{folder}: {worst}");
        }
    }
}

#[test]
fn threads_do_not_change_results() {
    let sample = Sample::load(&data("digits"));
    let two = FloatModel::load(&sample.model, 2).unwrap();
    assert!(two.probe(&sample.batch).unwrap() == sample.probe);
    assert!(two.probe(&sample.batch).unwrap() == sample.probe);
}

#[test]
fn only_the_outputs_asked_for_and_inner_values_as_inputs() {
    let sample = Sample::load(&data("smallmodel"));
    let first = sample.float.run(&sample.batch, &["relu", "x"]).unwrap();
    let mut names: Vec<&String> = first.keys().collect();
    names.sort();
    assert_eq!(names, ["relu", "x"]);
    assert_eq!(first["x"], sample.batch["x"]);
    let from_relu = Batch::from([("relu".to_owned(), first["relu"].clone())]);
    let y = sample.float.run(&from_relu, &["y"]).unwrap();
    assert_eq!(y["y"], sample.probe["y"]);
}

#[test]
fn every_node_alone_gives_what_the_whole_run_gave() {
    for folder in ["smallmodel", "digits"] {
        let sample = Sample::load(&data(folder));
        for (index, node) in sample.model.nodes().iter().enumerate() {
            let feeds = sample.float.feeds(index);
            let fed: HashMap<String, Datum> = feeds
                .into_iter()
                .map(|name| (name.to_owned(), sample.probe[name].clone()))
                .collect();
            let made = sample.float.run_node(index, &fed).unwrap();
            let wanted: Vec<Datum> = node.made().map(|name| sample.probe[name].clone()).collect();
            assert!(made == wanted, "{folder} {}", node.label());
        }
    }
}

#[test]
fn what_cannot_run_says_so() {
    let sample = Sample::load(&data("smallmodel"));
    let unknown = sample.float.run(&sample.batch, &["nothing"]).unwrap_err();
    assert_eq!(unknown.code(), "UNKNOWN_NAME");

    let no_input = sample.float.run(&Batch::new(), &["y"]).unwrap_err();
    assert!(matches!(no_input, Error::FloatRun { .. }) && no_input.to_string().contains('x'));

    let no_feed = sample
        .float
        .run_node(0, &HashMap::new())
        .unwrap_err()
        .to_string();
    assert_eq!(
        no_feed,
        "float run of node_MatMul_1: its input 'x' is missing"
    );
    let no_node = sample.float.run_node(99, &HashMap::new()).unwrap_err();
    assert!(no_node.to_string().contains("it has 8 nodes, not 99"));

    let model = Made::new(&[2]).node("Frobnicate", &["x"], &["y"]).model();
    let refused = FloatModel::load(&model, 1).unwrap_err();
    let text = refused.to_string();
    assert_eq!(refused.code(), "INVALID_MODEL");
    assert!(
        text.contains("made.onnx") && text.contains("node_y") && text.contains("Frobnicate"),
        "{text}"
    );
}

#[test]
fn integers_travel_as_thirty_two_bits() {
    let model = Made::new(&[2, 3]).node("Shape", &["x"], &["y"]).model();
    let float = FloatModel::load(&model, 1).unwrap();
    let made = float.run(&made::batch(&[2, 3]), &["y"]).unwrap();
    let wanted = ndarray::arr1(&[2, 3]).into_dyn();
    assert_eq!(made["y"], Datum::I32(wanted));
}

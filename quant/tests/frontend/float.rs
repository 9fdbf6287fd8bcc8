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

    let bytes = Made::new(&[2]).node("Frobnicate", &["x"], &["y"]).encode();
    let refused = Model::from_bytes("made.onnx", bytes.into(), &[], LIMITS).unwrap_err();
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

/// A model that is run in pieces: `x`, doubled and halved in turn, `steps` times, each value made of
/// the one before and, every hundredth, of the very first one; and a node that cannot run, which
/// nobody needs.
fn long(steps: usize) -> Made {
    let mut made = Made::new(&[2])
        .scalar("two", 2.0)
        .scalar("half", 0.5)
        .indices("impossible", &[7, 7])
        .node("Add", &["x", "two"], &["first"])
        .node("Reshape", &["x", "impossible"], &["nobody"])
        .node("Neg", &["nobody"], &["nobody either"]);
    let mut last = "first".to_owned();
    for step in 0..steps {
        let name = format!("v{step}");
        made = match step % 100 {
            99 => made.node("Add", &[&last, "first"], &[&name]),
            _ if step.is_multiple_of(2) => made.node("Mul", &[&last, "two"], &[&name]),
            _ => made.node("Mul", &[&last, "half"], &[&name]),
        };
        last = name;
    }
    made.node("Identity", &[&last], &["y"])
}

/// What [`long`] computes, by value.
fn long_values(x: f32, steps: usize) -> Vec<f32> {
    let first = x + 2.0;
    let next = |last: &mut f32, step: usize| {
        *last = match step % 100 {
            99 => *last + first,
            _ if step.is_multiple_of(2) => *last * 2.0,
            _ => *last * 0.5,
        };
        Some(*last)
    };
    (0..steps).scan(first, next).collect()
}

#[test]
fn a_model_run_in_pieces_gives_what_it_would_in_one() {
    const STEPS: usize = 3500;
    let model = long(STEPS).model();
    let float = FloatModel::load(&model, 1).unwrap();
    let x = ndarray::arr1(&[0.25_f32, -3.5]).into_dyn();
    let batch: Batch = [("x".to_owned(), Datum::F32(x))].into();
    let wanted = [long_values(0.25, STEPS), long_values(-3.5, STEPS)];
    // First and last values of pieces, one of an input, one of a constant, and the end.
    let names = [
        "v0", "v996", "v997", "v998", "v999", "v1999", "v2500", "x", "two", "y",
    ];
    let got = float.run(&batch, &names).unwrap();
    assert_eq!(got.len(), names.len());
    for name in names {
        let got = got[name].as_f32().unwrap();
        let step = |values: &[f32], x: f32| match name {
            "x" => x,
            "two" => 2.0,
            "y" => values[STEPS - 1],
            value => values[value[1..].parse::<usize>().unwrap()],
        };
        let wanted = [step(&wanted[0], 0.25), step(&wanted[1], -3.5)];
        let got: Vec<f32> = got.iter().copied().collect();
        assert!(
            got.iter().all(|value| wanted.contains(value)),
            "{name}: {got:?}"
        );
        assert_eq!(got[0], wanted[0], "{name}");
    }
    // A value that is given is not computed, nor is what led to it.
    let given = Datum::F32(ndarray::arr1(&[1.0_f32, 1.0]).into_dyn());
    let given: Batch = [("x".to_owned(), given.clone()), ("v2998".to_owned(), given)].into();
    let got = float.run(&given, &["v2999"]).unwrap();
    assert_eq!(
        got["v2999"].as_f32().unwrap().as_slice().unwrap(),
        [4.0, 4.0]
    );
    let unknown = float.run(&batch, &["y", "nothing"]).unwrap_err();
    assert_eq!(unknown.code(), "UNKNOWN_NAME");
    let error = float.run(&batch, &["nobody either"]).unwrap_err();
    assert_eq!(error.code(), "FLOAT_RUN_FAILED", "{error}");
    let error = float.run(&Batch::new(), &["y"]).unwrap_err();
    assert_eq!(error.code(), "FLOAT_RUN_FAILED", "{error}");
}

#[test]
fn no_model_is_too_deep_for_the_stack_of_a_thread() {
    const NODES: usize = 60_000;
    let mut made = Made::new(&[2]);
    let mut last = "x".to_owned();
    for step in 0..NODES {
        let name = format!("v{step}");
        made = made.node("Relu", &[&last], &[&name]);
        last = name;
    }
    let model = made.node("Identity", &[&last], &["y"]).model();
    let run = move || {
        let float = FloatModel::load(&model, 1).unwrap();
        float.run(&made::batch(&[2]), &["y"]).unwrap().len()
    };
    // That of a worker's tasks.
    let small = std::thread::Builder::new().stack_size(2 << 20);
    assert_eq!(small.spawn(run).unwrap().join().unwrap(), 1);
}

//! A weight that several Linears read: one way for all, its integers once.

use std::{collections::HashMap, path::Path};

use dual16_quant::{
    flow::JobInput,
    settings::{SettingValue, Settings, WayChoice},
};
use safetensors::{Dtype, SafeTensors, serialize_to_file, tensor::TensorView};
use serde_json::Value;

use crate::{
    made::Made,
    support::{Finished, curve, job, run, settings},
};

const ROWS: usize = 16;
const WIDTH: usize = 8;
const LAYERS: [&str; 3] = ["fc1", "fc2", "fc3"];

/// Three Linears of one weight, each turning it for itself; what the second reads is wide.
fn model() -> Made {
    let mut made = Made::new(&[ROWS, WIDTH])
        .constant("w", &[WIDTH, WIDTH], &curve(WIDTH * WIDTH, 0.7))
        .constant(
            "spread",
            &[WIDTH],
            &[1.0, 300.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
        )
        .constant("b", &[WIDTH], &curve(WIDTH, 0.2));
    let mut from = "x".to_owned();
    for (index, layer) in LAYERS.into_iter().enumerate() {
        let [turned, product, sum, next] =
            ["t", "p", "s", "r"].map(|name| format!("{name}{index}"));
        let activation = if index == 0 { "spread" } else { "b" };
        made = made
            .node("Transpose", &["w"], &[&turned])
            .node("MatMul", &[&from, &turned], &[&product])
            .scope(layer, "linear")
            .node("Add", &[&product, "b"], &[&sum])
            .scope(layer, "linear")
            .node("Mul", &[&sum, activation], &[&next]);
        from = next;
    }
    made.node("Relu", &[&from], &["y"])
}

fn write(folder: &Path, settings: Settings) -> JobInput {
    std::fs::write(folder.join("model.onnx"), model().encode()).unwrap();
    std::fs::create_dir(folder.join("calib")).unwrap();
    let x = curve(ROWS * WIDTH, 0.9);
    let bytes: Vec<u8> = x.iter().flat_map(|v| v.to_le_bytes()).collect();
    let view = TensorView::new(Dtype::F32, vec![ROWS, WIDTH], &bytes).unwrap();
    let path = folder.join("calib/000.safetensors");
    serialize_to_file(HashMap::from([("x", view)]), None, &path).unwrap();
    let mut job = job(folder.to_str().unwrap(), settings);
    job.evaluation = Vec::new();
    job
}

fn finished(settings: Settings) -> Finished {
    let folder = tempfile::tempdir().unwrap();
    run(&write(folder.path(), settings)).unwrap()
}

/// A key of each layer's entry in a file.
fn each(finished: &Finished, file: &str, key: &str) -> Vec<Value> {
    let text: Value = serde_json::from_slice(&finished.files[file]).unwrap();
    let layers = text["layers"].as_array().unwrap().iter();
    layers.map(|layer| layer[key].clone()).collect()
}

/// Layers with a weight of their own in the converted file.
fn with_weight(finished: &Finished) -> Vec<String> {
    let file = SafeTensors::deserialize(&finished.files["converted.safetensors"]).unwrap();
    let names = file.names().into_iter();
    let mut layers: Vec<String> = names
        .filter_map(|name| name.split_once(".weight"))
        .map(|(layer, _)| layer.to_owned())
        .collect();
    layers.sort();
    layers.dedup();
    layers
}

/// Isolated SQNR of every layer in a way.
fn figures(finished: &Finished, way: &str) -> Vec<f64> {
    let of = |isolated: Value| isolated[way]["sqnr_db"].as_f64().unwrap();
    let all = each(finished, "result.json", "isolated");
    all.into_iter().map(of).collect()
}

#[test]
fn the_worst_of_its_layers_decides_and_its_integers_are_written_once() {
    let plain = finished(Settings {
        min_layer_sqnr: 0.0,
        ..Settings::default()
    });
    assert_eq!(each(&plain, "plan.json", "effective"), ["a16w8"; 3]);
    let start = figures(&plain, "a16w8");
    let mut sorted = start.clone();
    sorted.sort_by(f64::total_cmp);
    // Only the worst is poor.
    let threshold = (sorted[0] + sorted[1]) / 2.0;
    let worst = LAYERS[start.iter().position(|&db| db == sorted[0]).unwrap()];

    let finished = finished(Settings {
        min_layer_sqnr: threshold,
        ..Settings::default()
    });
    let ways = each(&finished, "plan.json", "effective");
    assert_ne!(ways[0], "a16w8");
    assert!(ways.iter().all(|way| *way == ways[0]), "{ways:?}");
    let told = format!("of '{worst}', the worst of 3 with this weight");
    for reason in each(&finished, "result.json", "reason") {
        assert!(reason.as_str().unwrap().contains(&told), "{reason}");
    }
    for made in [&plain, &finished] {
        assert_eq!(with_weight(made), ["fc1"]);
        let owners = each(made, "plan.json", "weight_of");
        assert_eq!(owners, [Value::Null, "fc1".into(), "fc1".into()]);
    }
}

#[test]
fn a_layer_that_a_setting_names_is_planned_alone() {
    let way = |way: &str| SettingValue::Way(WayChoice::Fixed(way.parse().unwrap()));
    let finished = finished(settings(&[("fc2", way("a8w16"))]));
    let ways = each(&finished, "plan.json", "effective");
    assert_eq!(ways[1], "a8w16");
    assert!(ways[0] == ways[2] && ways[0] != ways[1], "{ways:?}");
    assert_eq!(with_weight(&finished), ["fc1", "fc2"]);
    let owners = each(&finished, "plan.json", "weight_of");
    assert_eq!(owners, [Value::Null, Value::Null, "fc1".into()]);
}

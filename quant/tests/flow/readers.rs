//! Linears that read one value: their columns are equalized together or not at all.

use std::{collections::BTreeSet, path::Path};

use dual16_quant::{flow::Event, settings::SettingValue};
use safetensors::{Dtype, serialize_to_file, tensor::TensorView};
use serde_json::Value;

use crate::{
    made::Made,
    support::{Finished, job, run, run_in_order, settings},
};

fn db(value: &Value) -> f64 {
    value["sqnr_db"].as_f64().unwrap()
}

const WIDTH: usize = 32;

/// A LayerNorm whose columns are of very different sizes, and what reads it.
fn readers(folder: &Path, names: &[&str]) {
    let size = |i: usize| 2f32.powi((i % 8) as i32 - 4);
    let gamma: Vec<f32> = (0..WIDTH).map(size).collect();
    let made = Made::new(&[16, WIDTH])
        .opset(17)
        .constant("gamma", &[WIDTH], &gamma)
        .node("LayerNormalization", &["x", "gamma"], &["normal"])
        .scope("norm", "layer_norm");
    let made = names.iter().enumerate().fold(made, |made, (seed, name)| {
        let value = |i: usize| (0.37 * (i + 97 * seed) as f32).sin() / size(i / 24);
        let weight: Vec<f32> = (0..WIDTH * 24).map(value).collect();
        let of_weight = format!("{name}.weight");
        made.constant(&of_weight, &[WIDTH, 24], &weight)
            .node("MatMul", &["normal", &of_weight], &[name])
            .scope(name, "linear")
    });
    let (made, last) =
        names
            .iter()
            .skip(1)
            .fold((made, names[0].to_owned()), |(made, sum), name| {
                let next = format!("{sum}{name}");
                (
                    made.node("Add", &[&sum, name], &[&next])
                        .scope(&next, "add"),
                    next,
                )
            });
    write(folder, made.node("Relu", &[&last], &["y"]));
}

/// Two Linears with a ReLU between, whose columns are of very different sizes.
fn two_linears(folder: &Path) {
    let size = |i: usize| 2f32.powi((i % 8) as i32 - 4);
    let lower: Vec<f32> = (0..WIDTH * WIDTH)
        .map(|i| (0.37 * i as f32).sin() * size(i % WIDTH))
        .collect();
    let upper: Vec<f32> = (0..WIDTH * 24)
        .map(|i| (0.61 * i as f32).sin() / size(i / 24))
        .collect();
    let bias: Vec<f32> = (0..WIDTH).map(|i| 0.5 * size(i)).collect();
    let made = Made::new(&[16, WIDTH])
        .constant("lower.weight", &[WIDTH, WIDTH], &lower)
        .constant("lower.bias", &[WIDTH], &bias)
        .constant("upper.weight", &[WIDTH, 24], &upper)
        .node("Gemm", &["x", "lower.weight", "lower.bias"], &["lower"])
        .scope("lower", "linear")
        .node("Relu", &["lower"], &["relu"])
        .node("MatMul", &["relu", "upper.weight"], &["upper"])
        .scope("upper", "linear")
        .node("Relu", &["upper"], &["y"]);
    write(folder, made);
}

fn write(folder: &Path, made: Made) {
    std::fs::write(folder.join("model.onnx"), made.encode()).unwrap();
    std::fs::create_dir(folder.join("calib")).unwrap();
    for (batch, name) in ["calib/000", "calib/001", "calib/002", "calib/003", "eval"]
        .into_iter()
        .enumerate()
    {
        let x = (0..16 * WIDTH)
            .map(|i| (0.9 * i as f32 + 0.31 * batch as f32).sin() + (0.05 * i as f32).cos());
        let bytes: Vec<u8> = x.flat_map(f32::to_le_bytes).collect();
        let view = TensorView::new(Dtype::F32, vec![16, WIDTH], &bytes).unwrap();
        let path = folder.join(format!("{name}.safetensors"));
        serialize_to_file([("x", view)], None, &path).unwrap();
    }
}

fn layers(finished: &Finished) -> Vec<Value> {
    finished.result()["layers"].as_array().unwrap().clone()
}

/// q, k and v take one set of factors; each gains by it alone and in the whole model.
#[test]
fn what_several_layers_read_is_equalized_for_all_of_them() {
    let folder = tempfile::tempdir().unwrap();
    readers(folder.path(), &["q", "k", "v"]);
    let model = folder.path().to_str().unwrap();
    let run_with = |way: &str| {
        let all = ["q", "k", "v"].map(|name| (name, SettingValue::Way(way.parse().unwrap())));
        run(&job(model, settings(&all))).unwrap()
    };
    let (plain, finished) = (run_with("a16w8"), run_with("a16w8+eq+bc"));
    for (plain, layer) in layers(&plain).iter().zip(&layers(&finished)) {
        assert_eq!(layer["effective"], "a16w8+eq+bc", "{layer:#}");
        for side in ["validation", "converted"] {
            let [before, after] = [plain, layer].map(|layer| db(&layer["accumulated"][side]));
            println!("{} {side}: {before:.1} {after:.1}", layer["name"]);
            assert!(after > before + 6.0, "{layer:#}");
        }
    }
    let plan: Value = serde_json::from_slice(&finished.files["plan.json"]).unwrap();
    let made = plan["layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|layer| layer["fit"].clone());
    let made: BTreeSet<String> = made.map(|fit| fit.to_string()).collect();
    assert_eq!(made.len(), 1, "one alpha for all: {made:?}");
}

#[test]
fn one_layer_alone_of_several_is_not_equalized() {
    let folder = tempfile::tempdir().unwrap();
    readers(folder.path(), &["q", "k", "v"]);
    let eq = SettingValue::Way("a16w8+eq+bc".parse().unwrap());
    let mut settings = settings(&[("k", eq)]);
    // So that of q and v nothing is tried.
    settings.min_layer_sqnr = 0.0;
    let job = job(folder.path().to_str().unwrap(), settings);
    let layers = layers(&run(&job).unwrap());
    let reason = layers[1]["reason"].as_str().unwrap();
    assert!(
        layers[1]["effective"] == "a16w8" && reason.contains("'q' reads"),
        "{layers:#?}"
    );
}

#[test]
fn a_search_equalizes_all_that_read_one_value_in_one_round() {
    let folder = tempfile::tempdir().unwrap();
    readers(folder.path(), &["q", "k", "v"]);
    let mut settings = settings(&[]);
    settings.min_layer_sqnr = 0.0;
    settings.min_output_sqnr = 60.0;
    let job = job(folder.path().to_str().unwrap(), settings);
    let finished = run(&job).unwrap();
    let steps: Vec<_> = finished
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Mended(step) => Some((step.round, step.op.clone(), step.to.clone(), step.kept)),
            _ => None,
        })
        .collect();
    println!("{steps:#?}");
    let equalized: Vec<_> = steps
        .iter()
        .filter(|(.., to, _)| to.contains("+eq"))
        .collect();
    let first = equalized.first().unwrap();
    let together = equalized
        .iter()
        .filter(|(round, .., kept)| *round == first.0 && *kept);
    assert_eq!(together.count(), 3, "{steps:#?}");
    let backwards = run_in_order(&job, |maps| maps.reverse()).unwrap();
    assert_eq!(finished.files, backwards.files);
}

/// The integers of a Linear as they are written.
fn written(finished: &Finished, name: &str) -> Vec<u8> {
    let bytes = &finished.files["converted.safetensors"];
    let tensors = safetensors::SafeTensors::deserialize(bytes).unwrap();
    tensors.tensor(name).unwrap().data().to_vec()
}

#[test]
fn a_linear_takes_in_the_factors_of_the_one_above_it() {
    let folder = tempfile::tempdir().unwrap();
    two_linears(folder.path());
    let model = folder.path().to_str().unwrap();
    let run_with = |ways: [&str; 2]| {
        let way = |name: &str| SettingValue::Way(name.parse().unwrap());
        let [lower, upper] = ways.map(way);
        run(&job(model, settings(&[("lower", lower), ("upper", upper)]))).unwrap()
    };
    // Whatever the lower one runs: rounded or fitted integers, a branch, tensors inside.
    for lower in [
        "a16w8",
        "a16w8+gptq",
        "a16w8+gptq+lowrank=8",
        "split",
        "mul_sum",
    ] {
        let plain = run_with([lower, "a16w8"]);
        let finished = run_with([lower, "a16w8+eq+bc"]);
        let [before, after] = [&plain, &finished].map(layers);
        assert_eq!(after[0]["effective"], lower);
        assert_eq!(after[1]["effective"], "a16w8+eq+bc", "{:#}", after[1]);
        for side in ["validation", "converted"] {
            let [before, after] = [&before, &after].map(|of| db(&of[1]["accumulated"][side]));
            println!("{lower} {side}: {before:.1} {after:.1}");
            assert!(after > before + 6.0, "{lower} {side}: {before} {after}");
        }
        let clipped = finished.result()["notices"].to_string();
        assert!(!clipped.contains("CLIPPED"), "{clipped}");
        // A fit's integers stay, and only their scales are divided.
        if lower.contains("gptq") {
            let [a, b] = [&plain, &finished].map(|of| written(of, "lower.weight"));
            assert_eq!(a, b);
            let [a, b] = [&plain, &finished].map(|of| written(of, "lower.weight_scale"));
            assert_ne!(a, b);
        }
    }
}

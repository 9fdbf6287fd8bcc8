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
    let made = made.node("Relu", &[&last], &["y"]);
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

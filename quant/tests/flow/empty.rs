//! Batches of which a dimension that the model leaves open is 0: they count with what they have,
//! which may be nothing.

use std::{collections::HashMap, path::Path};

use dual16_quant::{
    Error,
    flow::JobInput,
    observe::MergeMode,
    onnx::f32_value,
    settings::{SettingValue, Settings, WayChoice},
};
use proptest::{prelude::*, sample::subsequence};
use safetensors::{Dtype, serialize_to_file, tensor::TensorView};

use crate::{
    made::Made,
    support::{self, job, run, settings},
};

const WIDTH: usize = 4;

/// Self-attention without heads over `x` of [*, *, 4], between two Linears. Nothing of it has an
/// element where `x` has none, as a sum over an empty axis would.
fn model() -> Made {
    let weight = |step: f32| support::curve(WIDTH * WIDTH, step);
    let mut made = Made::new(&[])
        .constant("w1", &[WIDTH, WIDTH], &weight(0.7))
        .constant("b1", &[WIDTH], &weight(0.3)[..WIDTH])
        .constant("w2", &[WIDTH, WIDTH], &weight(1.1))
        .constant("ones", &[WIDTH], &[1.0; WIDTH])
        .indices("rows", &[-1, WIDTH as i64])
        .node("MatMul", &["x", "w1"], &["h"])
        .node("Add", &["h", "b1"], &["q"])
        .node("Transpose", &["q"], &["k"])
        .ints("perm", &[0, 2, 1])
        .node("MatMul", &["q", "k"], &["scores"])
        .node("Softmax", &["scores"], &["p"])
        .int("axis", -1)
        .node("MatMul", &["p", "q"], &["mixed"])
        .node("Concat", &["mixed", "x"], &["both"])
        .int("axis", 1)
        .node("LayerNormalization", &["both", "ones"], &["normal"])
        .node("MatMul", &["normal", "w2"], &["y"])
        .node("Sigmoid", &["y"], &["s"])
        .node("Reshape", &["s", "rows"], &["merged"]);
    let open = [None, None, Some(WIDTH)];
    made.graph.input = vec![f32_value("x", Some(&open))];
    made.graph.output = vec![f32_value("merged", None)];
    made
}

/// One file a batch: the same numbers in the same batch, whatever stands beside it.
fn write(folder: &Path, shapes: &[(usize, [usize; 2])]) -> JobInput {
    std::fs::write(folder.join("model.onnx"), model().encode()).unwrap();
    std::fs::create_dir(folder.join("calib")).unwrap();
    for &(number, [n, s]) in shapes {
        let x = support::curve(n * s * WIDTH, 0.9 + number as f32);
        let bytes: Vec<u8> = x.iter().flat_map(|v| v.to_le_bytes()).collect();
        let view = TensorView::new(Dtype::F32, vec![n, s, WIDTH], &bytes).unwrap();
        let path = folder.join(format!("calib/{number:03}.safetensors"));
        serialize_to_file(HashMap::from([("x", view)]), None, &path).unwrap();
    }
    let mut job = job(folder.to_str().unwrap(), Settings::default());
    job.evaluation = Vec::new();
    job
}

/// What a job says of layers, outputs and statistics.
fn figures(shapes: &[(usize, [usize; 2])], settings: &Settings) -> [String; 3] {
    let folder = tempfile::tempdir().unwrap();
    let mut job = write(folder.path(), shapes);
    job.settings = settings.clone();
    let finished = run(&job).unwrap();
    let result = finished.result();
    let statistics = String::from_utf8(finished.files["statistics.csv"].clone()).unwrap();
    [
        result["layers"].to_string(),
        result["outputs"].to_string(),
        statistics,
    ]
}

/// Every way of both Linears is tried, and every observer's part is taken.
fn every_way() -> Settings {
    let auto = SettingValue::Way(WayChoice::Auto);
    Settings {
        save_outputs: true,
        ..settings(&[("*", auto)])
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Every dimension differs from batch to batch, down to 0: the figures are those without the
    /// empty batches, wherever they stand.
    #[test]
    fn an_empty_batch_changes_no_figure(
        full in proptest::collection::vec([1..4_usize, 1..4_usize], 1..4),
        empty in subsequence(vec![[0, 2], [2, 0], [0, 0]], 1..4),
        first in any::<bool>(),
        moving in any::<bool>(),
    ) {
        let full: Vec<_> = (10..).zip(full).collect();
        let from = if first { 0 } else { 20 };
        let empty: Vec<_> = (from..).zip(empty).collect();
        let mut all = [full.clone(), empty].concat();
        all.sort_unstable();
        let merge = if moving { MergeMode::Ema } else { MergeMode::Exact };
        let settings = Settings { merge, ..every_way() };
        prop_assert_eq!(figures(&all, &settings), figures(&full, &settings));
    }
}

#[test]
fn nothing_but_empty_batches_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut job = write(folder.path(), &[(0, [0, 2]), (1, [2, 0])]);
    let error = run(&job).err().unwrap();
    assert!(matches!(error, Error::Batch { .. }), "{error}");
    let text = error.to_string();
    let says = ["000.safetensors: every batch is empty", "[0, 2, 4]"];
    assert!(says.iter().all(|part| text.contains(part)), "{text}");

    // Measured on nothing.
    let full = tempfile::tempdir().unwrap();
    let empty = std::mem::take(&mut job.calibration);
    job = write(full.path(), &[(0, [1, 2])]);
    job.evaluation = empty;
    let text = run(&job).err().unwrap().to_string();
    assert!(
        text.contains("evaluation") && text.contains("every batch is empty"),
        "{text}"
    );
}

/// A mean and a maximum over an axis that is empty in one batch are no numbers in float, 0 in integers, and in no
/// figure; a constant without elements is no Linear.
#[test]
fn what_is_made_of_nothing_stops_no_job() {
    let folder = tempfile::tempdir().unwrap();
    let mut made = Made::new(&[])
        .constant("w", &[WIDTH, WIDTH], &support::curve(WIDTH * WIDTH, 0.7))
        .constant("nothing", &[0, WIDTH], &[])
        .node("MatMul", &["x", "w"], &["h"])
        .node("ReduceMean", &["h"], &["mean"])
        .ints("axes", &[1])
        .node("ReduceMax", &["h"], &["most"])
        .ints("axes", &[1])
        .node("Slice", &["mean", "end", "end", "last"], &["none"])
        .node("MatMul", &["none", "nothing"], &["zeros"])
        .node("Add", &["mean", "most"], &["sum"])
        .node("Add", &["sum", "zeros"], &["y"])
        .indices("end", &[WIDTH as i64])
        .indices("last", &[2]);
    made.opset = 17;
    let open = [None, None, Some(WIDTH)];
    made.graph.input = vec![f32_value("x", Some(&open))];
    made.graph.output = vec![f32_value("y", None)];
    let other = write(folder.path(), &[(0, [2, 3]), (1, [2, 0])]);
    std::fs::write(folder.path().join("model.onnx"), made.encode()).unwrap();
    let job = JobInput {
        evaluation: Vec::new(),
        ..job(folder.path().to_str().unwrap(), other.settings)
    };
    let finished = run(&job).unwrap();
    let result = finished.result();
    assert_eq!(result["layers"].as_array().unwrap().len(), 1, "{result}");
    let told = result["notices"].to_string();
    assert!(told.contains("has no element"), "{told}");
    let sqnr = result["outputs"][0]["validation"]["sqnr_db"].as_f64();
    assert!(
        sqnr.is_some_and(|sqnr| sqnr > 25.0),
        "{}",
        result["outputs"]
    );
}

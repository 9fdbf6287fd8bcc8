//! Models whose outputs are not good enough: what costs them is found, mended with operators the chip has,
//! and the result is confirmed on other batches.

use std::{collections::HashMap, path::Path};

use dual16_nash::Toolchain;
use dual16_quant::{flow::Event, report::MendStep, settings::Settings};
use safetensors::{Dtype, serialize_to_file, tensor::TensorView};

use crate::{
    made::Made,
    support::{Finished, batches, file, job, run, run_in_order},
};

const ROWS: usize = 8;
const WIDTH: usize = 64;

/// Asks for good outputs, as the command line does.
pub fn mending(min_output_sqnr: f64) -> Settings {
    Settings {
        min_output_sqnr,
        ..Settings::default()
    }
}

/// Rows of different sizes, all of about 1, and one massive activation in the first: beside its square all
/// others are 0.
fn tokens(batch: u32) -> Vec<f32> {
    let size = |i: usize| 0.3 + 0.2 * (i / WIDTH) as f32;
    let wave =
        |i: usize| size(i) * ((0.7 * i as f32 + 0.4 * batch as f32).sin() + (1.9 * i as f32).cos());
    let mut x: Vec<f32> = (0..ROWS * WIDTH).map(wave).collect();
    x[5] = 600.0;
    x
}

/// A LayerNorm of tokens, of which one has a massive activation, and a Linear.
pub fn outlier(folder: &Path) {
    let ones = vec![1.0; WIDTH];
    let weight: Vec<f32> = (0..WIDTH * 4).map(|i| (0.37 * i as f32).sin()).collect();
    let made = Made::new(&[ROWS, WIDTH])
        .opset(17)
        .constant("gamma", &[WIDTH], &ones)
        .constant("w", &[WIDTH, 4], &weight)
        .node("LayerNormalization", &["x", "gamma"], &["normal"])
        .scope("norm", "layer_norm")
        .node("MatMul", &["normal", "w"], &["y"])
        .scope("fc", "linear");
    std::fs::write(folder.join("model.onnx"), made.encode()).unwrap();
    std::fs::create_dir(folder.join("calib")).unwrap();
    for batch in 0..3 {
        write(&folder.join(format!("calib/{batch:03}.safetensors")), batch);
    }
    write(&folder.join("eval.safetensors"), 7);
}

fn write(path: &Path, batch: u32) {
    write_tokens(path, &tokens(batch));
}

fn write_tokens(path: &Path, x: &[f32]) {
    let bytes: Vec<u8> = x.iter().flat_map(|v| v.to_le_bytes()).collect();
    let view = TensorView::new(Dtype::F32, vec![ROWS, WIDTH], &bytes).unwrap();
    serialize_to_file(HashMap::from([("x", view)]), None, path).unwrap();
}

fn steps(finished: &Finished) -> Vec<MendStep> {
    let steps = finished.events.iter().filter_map(|event| match event {
        Event::Mended(step) => Some(step.clone()),
        _ => None,
    });
    steps.collect()
}

/// SQNR of the worst output in both runs.
fn output_db(finished: &Finished) -> f64 {
    let outputs = finished.events.iter().filter_map(|event| match event {
        Event::Output(output) => {
            let [validation, converted] =
                [&output.validation, &output.converted].map(|metrics| metrics.sqnr_rank());
            Some(validation.min(converted))
        }
        _ => None,
    });
    outputs.fold(f64::INFINITY, f64::min)
}

#[test]
fn squares_ruined_by_an_outlier_are_found_and_run_in_two_ranges() {
    let folder = tempfile::tempdir().unwrap();
    outlier(folder.path());
    let model = folder.path().to_str().unwrap();
    let plain = run(&job(model, mending(0.0))).unwrap();
    assert!(output_db(&plain) < 25.0, "{}", output_db(&plain));
    assert_eq!(steps(&plain), []);

    let mended = run(&job(model, mending(32.0))).unwrap();
    let steps = steps(&mended);
    let first = steps.first().unwrap();
    assert_eq!(
        (first.op.as_str(), first.to.as_str()),
        ("norm.mul", "two_range"),
        "{steps:?}"
    );
    assert!(
        first.kept && first.share > 0.5 && first.left < 0.1,
        "{first:?}"
    );
    assert!(output_db(&mended) >= 32.0, "{}", output_db(&mended));
    let plan: serde_json::Value = serde_json::from_slice(&mended.files["plan.json"]).unwrap();
    let tensors = plan["tensors"].as_object().unwrap();
    assert!(
        tensors.contains_key("norm.two_range.hi_mul"),
        "{:?}",
        tensors.keys()
    );
    assert!(
        !tensors.contains_key("norm.mul"),
        "what was replaced runs no more"
    );
    assert_eq!(
        mended.result()["mended"].as_array().unwrap().len(),
        steps.len()
    );
}

/// Where a GEMM takes two int16 operands, the product of a row with itself is cheaper than two ranges.
#[test]
fn where_it_is_legal_the_sum_of_squares_is_a_product() {
    let folder = tempfile::tempdir().unwrap();
    outlier(folder.path());
    let settings = Settings {
        toolchain: Toolchain::Oe32,
        ..mending(32.0)
    };
    let job = job(folder.path().to_str().unwrap(), settings);
    let mended = run(&job).unwrap();
    let steps = steps(&mended);
    let first = steps.first().unwrap();
    assert_eq!(
        (first.op.as_str(), first.to.as_str()),
        ("norm.mul", "dot"),
        "{steps:?}"
    );
    assert!(first.kept && first.left < 0.1, "{first:?}");
    assert_eq!(first.added_macs, (ROWS * WIDTH) as i64);
    assert!(output_db(&mended) >= 32.0, "{}", output_db(&mended));
    let result = mended.result();
    let operators = result["estimate"]["operators"].as_array().unwrap();
    let product = operators
        .iter()
        .find(|own| own["name"] == "norm.dot.matmul")
        .unwrap();
    assert_eq!(product["op"], "MatMul");
    assert_eq!(product["macs"]["double int16 macs"], ROWS * WIDTH);
    let backwards = run_in_order(&job, |maps| maps.reverse()).unwrap();
    assert_eq!(mended.files, backwards.files);
}

/// The same model, its rows of 0.05 beside one value of 200.
pub fn small_rows(folder: &Path) {
    outlier(folder);
    for (name, batch) in [
        ("calib/000", 0),
        ("calib/001", 1),
        ("calib/002", 2),
        ("eval", 7),
    ] {
        let mut x: Vec<f32> = tokens(batch).into_iter().map(|x| 0.1 * x).collect();
        x[5] = 200.0;
        write_tokens(&folder.join(format!("{name}.safetensors")), &x);
    }
}

/// Rows of 0.05 beside one of 200: their variances have no step in the integers of its own, however they
/// are summed. fp16 has, and is tried after what needs no leave.
#[test]
fn fp16_is_taken_where_it_is_allowed_and_integers_do_not_help() {
    let folder = tempfile::tempdir().unwrap();
    small_rows(folder.path());
    let model = folder.path().to_str().unwrap();
    let run_with = |allow_fp16| {
        let settings = Settings {
            allow_fp16,
            ..mending(24.0)
        };
        run(&job(model, settings)).unwrap()
    };
    let without = run_with(false);
    assert!(output_db(&without) < 20.0, "{}", output_db(&without));
    let with = run_with(true);
    let steps = steps(&with);
    let of_squares = steps
        .iter()
        .filter(|step| ["two_range", "dot", "fp16"].contains(&&*step.to));
    let tried: Vec<(&str, &str, bool)> = of_squares
        .map(|step| (&*step.from, &*step.to, step.kept))
        .collect();
    assert_eq!(
        tried.first().map(|first| first.1),
        Some("two_range"),
        "{steps:#?}"
    );
    let last = tried.last().unwrap();
    assert!(last.0 != "plain" && last.1 == "fp16" && last.2, "{tried:?}");
    assert!(output_db(&with) >= 24.0, "{}", output_db(&with));
    // What it is, is said.
    let notices = with.result()["notices"].as_array().unwrap().clone();
    let told = |code: &str| {
        let of = notices.iter().find(|notice| notice["code"] == code);
        of.unwrap_or_else(|| panic!("no {code} in {notices:#?}"))
            .clone()
    };
    assert_eq!(told("FP16")["subject"], "norm.fp16.layer_norm");
    let message = told("PARTLY_FLOAT")["message"].to_string();
    assert!(message.contains("1 LayerNormFp16"), "{message}");
    let result = with.result();
    let operators = result["estimate"]["operators"].as_array().unwrap();
    let norm = operators
        .iter()
        .find(|own| own["op"] == "LayerNormFp16")
        .unwrap();
    assert_eq!(norm["fp16_elements"], 5 * ROWS * WIDTH);
    let source = &result["estimate"]["parameters"]["fp16_gb_per_s"]["source"];
    assert!(
        source.as_str().unwrap().starts_with("assumption"),
        "{source}"
    );
}

#[test]
fn a_search_leaves_the_same_bytes_in_whatever_order_its_tasks_run() {
    let folder = tempfile::tempdir().unwrap();
    outlier(folder.path());
    let job = job(folder.path().to_str().unwrap(), mending(32.0));
    let forwards = run(&job).unwrap();
    let backwards = run_in_order(&job, |maps| maps.reverse()).unwrap();
    assert_eq!(forwards.files, backwards.files);
}

#[test]
fn what_cannot_be_reached_is_said_with_what_stands_in_the_way() {
    let folder = tempfile::tempdir().unwrap();
    outlier(folder.path());
    let mut job = job(folder.path().to_str().unwrap(), mending(95.0));
    job.calibration = batches(&folder.path().join("calib"));
    job.evaluation = vec![file(&folder.path().join("eval.safetensors"))];
    let finished = run(&job).unwrap();
    assert!(output_db(&finished) < 95.0);
    let result = finished.result();
    let in_the_way = result["in_the_way"].as_array().unwrap();
    assert!(!in_the_way.is_empty(), "{result:#}");
}

const CLASSES: usize = 4096;
const FEATURES: usize = 16;

/// A classifier of many classes: two are far above the others, for which the table of exp has one step each
/// where exp rounds to none.
pub fn far_ranged(folder: &Path) {
    let weight: Vec<f32> = (0..FEATURES * CLASSES)
        .map(|i| {
            let size = if i % CLASSES == 7 { 0.4 } else { 0.08 };
            size * (0.37 * i as f32).sin()
        })
        .collect();
    let bias: Vec<f32> = (0..CLASSES)
        .map(|class| match class {
            3 => 13.0,
            5 => -7.0,
            7 => 12.5,
            _ => 0.0,
        })
        .collect();
    let made = Made::new(&[ROWS, FEATURES])
        .opset(17)
        .constant("w", &[FEATURES, CLASSES], &weight)
        .constant("b", &[CLASSES], &bias)
        .node("MatMul", &["x", "w"], &["product"])
        .scope("fc", "linear")
        .node("Add", &["product", "b"], &["logits"])
        .scope("fc", "linear")
        .node("Softmax", &["logits"], &["y"])
        .scope("softmax", "softmax")
        .int("axis", 1);
    std::fs::write(folder.join("model.onnx"), made.encode()).unwrap();
    std::fs::create_dir(folder.join("calib")).unwrap();
    for (batch, name) in ["calib/000", "calib/001", "calib/002", "eval"]
        .into_iter()
        .enumerate()
    {
        let path = folder.join(format!("{name}.safetensors"));
        let x = (0..ROWS * FEATURES).map(|i| (0.9 * i as f32 + 0.31 * batch as f32).sin() * 3.0);
        let bytes: Vec<u8> = x.flat_map(f32::to_le_bytes).collect();
        let view = TensorView::new(Dtype::F32, vec![ROWS, FEATURES], &bytes).unwrap();
        serialize_to_file(HashMap::from([("x", view)]), None, &path).unwrap();
    }
}

/// SQNR of the only output, in VALIDATION and in CONVERTED.
fn both_db(finished: &Finished) -> [f64; 2] {
    let output = finished.events.iter().find_map(|event| match event {
        Event::Output(output) => Some(output),
        _ => None,
    });
    let output = output.unwrap();
    [&output.validation, &output.converted].map(|metrics| metrics.sqnr_rank())
}

#[test]
fn a_table_that_parts_converted_from_validation_is_named_and_divided_by_its_inputs() {
    let folder = tempfile::tempdir().unwrap();
    far_ranged(folder.path());
    let model = folder.path().to_str().unwrap();
    let plain = run(&job(model, mending(0.0))).unwrap();
    let [validation, converted] = both_db(&plain);
    assert!(
        validation > 40.0 && converted < 25.0,
        "{validation} {converted}"
    );
    let parted = plain.events.iter().find_map(|event| match event {
        Event::Notice(notice) if notice.code == "PARTED" => Some(notice),
        _ => None,
    });
    let parted = parted.unwrap();
    assert_eq!(parted.subject, "softmax.exp", "{parted:?}");
    assert!(parted.message.contains("the table of exp"), "{parted:?}");

    let mended = run(&job(model, mending(30.0))).unwrap();
    let steps = steps(&mended);
    let first = steps.first().unwrap();
    let told = [&first.op, &first.sensitive_type, &first.to];
    assert_eq!(told, ["softmax.exp", "table", "division"], "{steps:?}");
    assert!(
        first.kept && first.share > 0.9 && first.left < 0.1,
        "{first:?}"
    );
    assert_eq!(
        (first.added_macs, first.added_us),
        (0, 0.0),
        "it costs nothing"
    );
    let [validation, converted] = both_db(&mended);
    assert!(validation - converted < 3.0, "{validation} {converted}");
    let plan: serde_json::Value = serde_json::from_slice(&mended.files["plan.json"]).unwrap();
    assert_eq!(plan["tables"][0]["node"], "softmax.exp", "{plan:#}");
}

/// A weight is fitted, which costs the chip nothing, before it is split, which costs a second product.
#[test]
fn an_int8_weight_is_fitted_before_it_is_split() {
    let job = job("digits", mending(47.0));
    let finished = run(&job).unwrap();
    let steps = steps(&finished);
    let weights: Vec<&MendStep> = steps
        .iter()
        .filter(|step| step.from.starts_with("a16w8"))
        .collect();
    let fitted = |step: &&&MendStep| step.to.starts_with("a16w8+");
    assert!(weights.iter().filter(fitted).count() >= 3, "{steps:#?}");
    for step in &weights {
        match fitted(&step) {
            true => assert!(
                step.kept && step.left < 0.5 && step.added_macs == 0,
                "{step:?}"
            ),
            false => assert_ne!(step.from, "a16w8", "{step:?}"),
        }
    }
    assert!(output_db(&finished) >= 47.0, "{}", output_db(&finished));
    // What was taken is told with its figures, and what was not is not.
    let result = finished.result();
    for layer in result["layers"].as_array().unwrap() {
        let effective = layer["effective"].as_str().unwrap();
        let fits = layer["fits"].as_object().cloned().unwrap_or_default();
        let names: Vec<&String> = fits.keys().collect();
        match effective.contains('+') {
            true => assert_eq!(names, [effective], "{layer:#}"),
            false => assert!(names.is_empty(), "{layer:#}"),
        }
        for fit in fits.values() {
            assert!(fit["sqnr_db"].as_f64() > Some(50.0), "{layer:#}");
            assert!(fit["held_out_gain_db"].as_f64() >= Some(3.0), "{layer:#}");
        }
    }
    let backwards = run_in_order(&job, |maps| maps.reverse()).unwrap();
    assert_eq!(finished.files, backwards.files);
}

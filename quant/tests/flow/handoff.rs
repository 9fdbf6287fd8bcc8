//! What a job hands back, opened by the tools that it is for: onnx.checker and onnxruntime, stand-ins for the
//! plugin, and PyTorch where `DUAL16_TORCH_PYTHON` names a Python that has it. `DUAL16_HANDOFF_KEEP` names a
//! folder that keeps the cases.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use dual16_nash::{Toolchain, Way, quantize::Rounding};
use dual16_quant::{
    flow::{JobInput, JobKind, ModelInput},
    job::Analyze,
    metrics::Metric,
    settings::{SettingValue, Settings, Template},
};
use safetensors::{Dtype, serialize_to_file, tensor::TensorView};
use serde_json::{Value, json};

use crate::{
    made::Made,
    mend::{far_ranged, outlier, small_rows},
    support::{Finished, data, job, run, settings},
};

/// A job and what its files must be.
struct Case {
    name: String,
    job: JobInput,
    /// How far `mended.onnx` may be from the model, relative to the largest value of an output.
    tolerance: f64,
    /// Operators that `mended.onnx` must have.
    operators: &'static [&'static str],
    /// A module of PyTorch is replaced.
    swapped: bool,
    /// Two engines part by more than what 60 dB allow, as they do where onnxruntime parts from itself.
    chaotic: bool,
}

/// Exact in real arithmetic.
const EXACT: f64 = 1e-5;

fn linear2(way: &str) -> Settings {
    settings(&[("linear2", SettingValue::Way(way.parse().unwrap()))])
}

fn case(name: &str, model: &str, settings: Settings, tolerance: f64) -> Case {
    let mut job = job(model, settings);
    job.settings.save_outputs = true;
    job.digest = format!("{job:?}");
    Case {
        name: name.to_owned(),
        job,
        tolerance,
        operators: &[],
        swapped: false,
        chaotic: false,
    }
}

/// Every way of one layer, and its fits with what those are off by.
fn ways() -> Vec<Case> {
    let mut cases = Vec::new();
    for way in Way::ALL {
        let mut settings = linear2(way.name());
        settings.toolchain = Toolchain::Oe32;
        cases.push(Case {
            swapped: matches!(way, Way::MulSum | Way::Split),
            operators: match way {
                Way::MulSum => &["Mul", "ReduceSum", "Add"],
                _ => &["MatMul"],
            },
            ..case(way.name(), "smallmodel", settings, EXACT)
        });
    }
    for (fit, off) in [
        ("a16w8+bc", 0.05),
        ("a16w8+gptq", 0.1),
        ("a16w8+eq+gptq", 0.05),
        ("a16w8+gptq+lowrank=16", 0.05),
        ("a8w16+clip", 0.1),
    ] {
        cases.push(Case {
            swapped: true,
            ..case(fit, "smallmodel", linear2(fit), off)
        });
    }
    let mut settings = linear2("mul_sum");
    settings.rounding = Rounding::Floor;
    cases.push(case("floor", "smallmodel", settings, EXACT));
    let mut settings = linear2("auto");
    settings.template = Template::A8W8;
    cases.push(case("template_a8w8", "smallmodel", settings, EXACT));
    cases
}

/// A search for outputs that nothing reaches, so that it takes whatever it finds.
fn greedy(toolchain: Toolchain) -> Settings {
    Settings {
        min_output_sqnr: 90.0,
        toolchain,
        ..Settings::default()
    }
}

fn python() -> PathBuf {
    match std::env::var_os("DUAL16_TEST_PYTHON") {
        Some(given) => given.into(),
        None => Path::new(env!("CARGO_TARGET_TMPDIR")).join("../test-venv/bin/python"),
    }
}

/// Writes what each case leaves into a folder of its own, and has all of them opened. Returns their results.
fn open(name: &str, cases: &[Case]) -> Vec<Value> {
    let passing = tempfile::tempdir().unwrap();
    let folder = match std::env::var_os("DUAL16_HANDOFF_KEEP") {
        Some(kept) => PathBuf::from(kept).join(name),
        None => passing.path().join(name),
    };
    let mut results = Vec::new();
    for case in cases {
        let finished = run(&case.job).unwrap();
        write(&folder.join(&case.name), case, &finished);
        results.push(finished.result());
    }
    let mut tools = vec![(python(), "handoff")];
    let torch = std::env::var_os("DUAL16_TORCH_PYTHON");
    if let Some(torch) = torch.filter(|_| cases.iter().any(|case| case.swapped)) {
        tools.push((torch.into(), "handoff.pytorch"));
    }
    for (python, module) in tools {
        let opened = Command::new(python)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/python"))
            .args(["-m", module])
            .arg(&folder)
            .output()
            .unwrap();
        println!("{}", String::from_utf8_lossy(&opened.stdout));
        let told = String::from_utf8_lossy(&opened.stderr);
        assert!(opened.status.success(), "{module}: {told}");
    }
    results
}

fn write(folder: &Path, case: &Case, finished: &Finished) {
    for (name, bytes) in &finished.files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    let ModelInput::Onnx { model, .. } = &case.job.model else {
        panic!("{} has no graph", case.name);
    };
    fs::copy(&model.digest, folder.join("model.onnx")).unwrap();
    let eval = &case.job.evaluation[0].digest;
    fs::copy(eval, folder.join("eval.safetensors")).unwrap();
    if model.digest.ends_with("smallmodel/model.onnx") {
        let state = data("smallmodel/float.safetensors");
        fs::copy(state, folder.join("float.safetensors")).unwrap();
    }
    let about = json!({
        "tolerance": case.tolerance,
        "operators": case.operators,
        "swapped": case.swapped,
        "chaotic": case.chaotic,
    });
    fs::write(folder.join("case.json"), about.to_string()).unwrap();
}

#[test]
fn every_way_of_a_layer_is_what_the_model_is_and_what_validation_computes() {
    open("ways", &ways());
}

/// `qconfig.py` reads what an analysis writes.
#[test]
fn sensitivity_tables_are_read_as_the_setters_take_them() {
    let mut analyzed = job("smallmodel", settings(&[]));
    analyzed.kind = JobKind::Analyze(Analyze {
        exact: None,
        outputs: Vec::new(),
        metric: Metric::Sqnr,
    });
    analyzed.digest = format!("{analyzed:?}");
    let finished = run(&analyzed).unwrap();
    let table = &finished.files["output_y_sqnr_sensitive_ops.txt"];
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("table.txt"), table).unwrap();
    let qconfig = concat!(env!("CARGO_MANIFEST_DIR"), "/src/handoff/python/qconfig.py");
    let program = "import json, qconfig; print(json.dumps(qconfig.sensitivity('table.txt')))";
    let read = Command::new(python())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYTHONPATH", Path::new(qconfig).parent().unwrap())
        .current_dir(folder.path())
        .args(["-c", program])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&read.stderr);
    assert!(read.status.success(), "{told}");
    let rows: Vec<(String, String, String, f64, String, String)> =
        serde_json::from_slice(&read.stdout).unwrap();
    let lines = table.split(|byte| *byte == b'\n');
    let lines = lines.filter(|line| !line.is_empty()).count();
    // Under the header is a line.
    assert_eq!(rows.len() + 2, lines);
    assert!(rows.is_sorted_by(|a, b| a.3 <= b.3), "{rows:?}");
    let weight = rows.iter().find(|row| row.1 == "weight");
    let (_, _, _, _, dtype, flops) = weight.unwrap();
    assert!(dtype == "qint8" && flops.contains('%'), "{rows:?}");
}

#[test]
fn every_remedy_is_what_the_model_is_and_what_validation_computes() {
    let folders = [outlier, far_ranged, small_rows].map(|make| {
        let folder = tempfile::tempdir().unwrap();
        make(folder.path());
        folder
    });
    let paths = folders
        .each_ref()
        .map(|folder| folder.path().to_str().unwrap());
    let [norm, classes, rows] = paths;
    let fp16 = Settings {
        allow_fp16: true,
        min_output_sqnr: 24.0,
        ..Settings::default()
    };
    // Fits are what they are off by; everything else is exact.
    let cases = [
        Case {
            operators: &["Clip"],
            swapped: true,
            ..case("two_range", norm, greedy(Toolchain::Oe31), 0.05)
        },
        Case {
            swapped: true,
            ..case("dot", norm, greedy(Toolchain::Oe32), 0.05)
        },
        case("fp16", rows, fp16, 0.05),
        case("two_tables", classes, greedy(Toolchain::Oe31), 0.05),
        case("transformer_oe31", "digits", greedy(Toolchain::Oe31), 0.05),
        case("transformer_oe32", "digits", greedy(Toolchain::Oe32), 0.05),
    ];
    let results = open("remedies", &cases);
    let taken = |remedy: &str| {
        let steps = results
            .iter()
            .filter_map(|result| result["mended"].as_array());
        let mut steps = steps.flatten();
        steps.any(|step| step["to"] == remedy && step["kept"] == true)
    };
    for remedy in [
        "two_range",
        "dot",
        "fp16",
        "late_mean",
        "two_tables",
        "split",
    ] {
        assert!(taken(remedy), "no case has {remedy}");
    }
}

#[test]
fn operators_that_stay_as_they_are_run_in_onnxruntime() {
    let folder = tempfile::tempdir().unwrap();
    convolutions(folder.path());
    let path = folder.path().to_str().unwrap();
    let cases = [
        case("convolutions", path, settings(&[]), EXACT),
        case("transformer", "digits", settings(&[]), EXACT),
    ];
    open("kept", &cases);
}

/// As it is by default and with the outputs mended; `DUAL16_HANDOFF_MODEL` names the folder of another model.
#[test]
fn a_whole_model_is_handed_back() {
    let named = std::env::var("DUAL16_HANDOFF_MODEL").ok();
    let model = named.clone().unwrap_or_else(|| "digits".to_owned());
    let mut mended = greedy(Toolchain::Oe31);
    mended.min_output_sqnr = 30.0;
    let cases = [
        case("default", &model, settings(&[]), EXACT),
        case("mended", &model, mended, 0.05),
    ];
    let cases = cases.map(|case| Case {
        chaotic: named.is_some(),
        ..case
    });
    open("named", &cases);
}

/// An image through Conv, BatchNormalization, ReLU, pools, Resize and a sum, with a shape that is computed.
fn convolutions(folder: &Path) {
    let values = |count: usize, step: f32| -> Vec<f32> {
        (0..count).map(|i| (step * i as f32 + 0.2).sin()).collect()
    };
    let made = Made::new(&[2, 3, 16, 16])
        .opset(17)
        .constant("w1", &[8, 3, 3, 3], &values(216, 0.37))
        .constant("scale", &[8], &values(8, 0.11))
        .constant("shift", &[8], &values(8, 0.23))
        .constant("mean", &[8], &values(8, 0.31))
        .constant("var", &[8], &[0.7; 8])
        .constant("w2", &[8, 8, 3, 3], &values(576, 0.53))
        .constant("fc", &[8, 12], &values(96, 0.41))
        .constant("fc_bias", &[12], &values(12, 0.61))
        .constant("none", &[0], &[])
        .constant("twice", &[4], &[1.0, 1.0, 2.0, 2.0])
        .node("Conv", &["x", "w1"], &["c1"])
        .ints("pads", &[1, 1, 1, 1])
        .scope("conv1", "conv2d")
        .node(
            "BatchNormalization",
            &["c1", "scale", "shift", "mean", "var"],
            &["n1"],
        )
        .scope("bn1", "batch_norm")
        .node("Relu", &["n1"], &["r1"])
        .scope("relu", "relu")
        .node("MaxPool", &["r1"], &["p1"])
        .ints("kernel_shape", &[2, 2])
        .ints("strides", &[2, 2])
        .node("Conv", &["p1", "w2"], &["c2"])
        .ints("pads", &[1, 1, 1, 1])
        .scope("conv2", "conv2d")
        .node("Resize", &["c2", "none", "twice"], &["up"])
        .text("mode", "nearest")
        .text("coordinate_transformation_mode", "asymmetric")
        .text("nearest_mode", "floor")
        .node("Add", &["up", "r1"], &["sum"])
        .node("Shape", &["sum"], &["shape"])
        .node("Reshape", &["sum", "shape"], &["same"])
        .node("GlobalAveragePool", &["same"], &["pooled"])
        .node("Flatten", &["pooled"], &["flat"])
        .node("MatMul", &["flat", "fc"], &["product"])
        .scope("fc", "linear")
        .node("Add", &["product", "fc_bias"], &["y"])
        .scope("fc", "linear");
    fs::write(folder.join("model.onnx"), made.encode()).unwrap();
    fs::create_dir(folder.join("calib")).unwrap();
    for (batch, name) in ["calib/000", "calib/001", "eval"].into_iter().enumerate() {
        let x = (0..2 * 3 * 256).map(|i| (0.9 * i as f32 + 0.31 * batch as f32).sin() * 3.0);
        let bytes: Vec<u8> = x.flat_map(f32::to_le_bytes).collect();
        let view = TensorView::new(Dtype::F32, vec![2, 3, 16, 16], &bytes).unwrap();
        let path = folder.join(format!("{name}.safetensors"));
        serialize_to_file(HashMap::from([("x", view)]), None, &path).unwrap();
    }
}

//! The article's model against the golden vectors of an independent implementation: every scale of
//! the plan, and the model's output in VALIDATION.

use crate::support::{Finished, data, file, job, run, settings};
use std::path::{Path, PathBuf};

use dual16_nash::{Toolchain, Way};
use dual16_quant::{
    flow::{JobInput, ModelInput},
    onnx::{ModelProto, ValueInfoProto},
    settings::{NamedSetting, SettingValue, WayChoice},
};
use prost::Message as _;
use safetensors::SafeTensors;
use serde_json::Value;

/// What the ONNX graph calls linear2's output.
const LINEAR2: &str = "linear_1";

/// Float runs of two implementations differ in their last bits, and so do ranges.
const SCALE_TOLERANCE: f32 = 5e-6;

/// What the golden file calls a tensor, and the plan.
const TENSORS: [(&str, &str); 14] = [
    ("input", "x"),
    ("linear1", "linear1"),
    ("layernorm.input_mean", "layernorm.input_mean.pre_mean"),
    ("layernorm.sub", "layernorm.sub"),
    ("layernorm.square", "layernorm.mul"),
    ("layernorm.var_mean", "layernorm.var_mean.pre_mean"),
    ("layernorm.rsqrt", "layernorm.rsqrt"),
    ("layernorm.normalize", "layernorm.out_mul"),
    ("layernorm.weight", "layernorm.weight"),
    ("layernorm.weight_mul", "layernorm.weight_mul"),
    ("layernorm.bias", "layernorm.bias"),
    ("layernorm", "layernorm"),
    ("relu", "relu"),
    ("linear2", "linear2"),
];

fn floats(file: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let bytes = file.tensor(name).unwrap().data().to_vec();
    bytes
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
        .collect()
}

fn assert_scale(what: &str, plan: &Value, golden: f32) {
    let scale = plan
        .as_f64()
        .unwrap_or_else(|| panic!("{what} has no scale")) as f32;
    let error = (scale / golden - 1.0).abs();
    assert!(error <= SCALE_TOLERANCE, "{what}: {scale}, golden {golden}");
}

/// The model with linear2's output among its own, so that it is saved.
fn with_linear2_as_output(folder: &Path) -> PathBuf {
    let bytes = std::fs::read(data("smallmodel/model.onnx")).unwrap();
    let mut model = ModelProto::decode(bytes.as_slice()).unwrap();
    let graph = model.graph.as_mut().unwrap();
    graph.output.push(ValueInfoProto {
        name: LINEAR2.to_owned(),
        ..graph.output[0].clone()
    });
    let path = folder.join("model.onnx");
    std::fs::write(&path, model.encode_to_vec()).unwrap();
    path
}

/// The same job with every scale given outright, so that only the runs are compared: a range that
/// differs in its last bit moves values across rounding borders.
fn with_golden_scales(mut job: JobInput, way: Way, golden: &SafeTensors<'_>) -> JobInput {
    let inner: &[&str] = match way {
        Way::MulSum => &["weight", "bias", "mul", "sum"],
        Way::Split => &["hi", "lo"],
        Way::A8W16 => &["input"],
        _ => &[],
    };
    let inner = inner.iter().map(|slot| format!("linear2.{slot}"));
    let named = TENSORS.map(|(theirs, ours)| (theirs.to_owned(), ours.to_owned()));
    for (theirs, ours) in named
        .into_iter()
        .chain(inner.map(|name| (name.clone(), name)))
    {
        let scale = floats(golden, &format!("{way}.scale.{theirs}"))[0];
        job.settings.by_name.push(NamedSetting {
            name: ours,
            value: SettingValue::FixedScale(scale.into()),
        });
    }
    job.digest += " scales";
    job
}

/// linear2 and linear3 within 2 LSB, element by element. linear2 is not fake-quantized yet in the
/// golden file; linear3 has no scale, its output being high precision, so its own range gives one.
fn assert_runs_match(way: Way, finished: &Finished, golden: &SafeTensors<'_>) {
    let plan: Value = serde_json::from_slice(&finished.files["plan.json"]).unwrap();
    let outputs = SafeTensors::deserialize(&finished.files["outputs.safetensors"]).unwrap();
    let scale = plan["tensors"]["linear2"]["scale"].as_f64().unwrap() as f32;
    let quantized = |x: f32| (x / scale).round_ties_even().clamp(-32768.0, 32767.0) * scale;
    let linear2 = floats(golden, &format!("{way}.linear2"));
    let linear2: Vec<f32> = linear2.into_iter().map(quantized).collect();
    let linear3 = floats(golden, &format!("{way}.linear3"));
    let own = linear3.iter().fold(0f32, |amax, y| amax.max(y.abs())) / 32767.5;
    for (name, golden, lsb) in [(LINEAR2, linear2, scale), ("y", linear3, own)] {
        let got = floats(&outputs, &format!("{name}.validation"));
        assert_eq!(got.len(), golden.len());
        let differences = got.iter().zip(&golden).map(|(a, b)| (a - b).abs());
        let worst = differences.fold(0f32, f32::max) / lsb;
        println!("{way}: {name} differs by {worst:.3} LSB at most");
        assert!(worst <= 2.0, "{way}: {name} differs by {worst} LSB");
    }
}

#[test]
fn scales_and_the_output_match_the_golden_file_whatever_the_way_of_linear2() {
    let bytes = std::fs::read(data("golden/article.safetensors")).unwrap();
    let golden = SafeTensors::deserialize(&bytes).unwrap();
    for way in Way::FIVE {
        let mut settings = settings(&[("linear2", SettingValue::Way(WayChoice::Fixed(way)))]);
        settings.toolchain = Toolchain::Oe32;
        settings.save_outputs = true;
        let folder = tempfile::tempdir().unwrap();
        let mut job = job("smallmodel", settings);
        let path = with_linear2_as_output(folder.path());
        job.model = ModelInput::Onnx {
            model: file(&path),
            external_data: vec![],
        };
        job.digest = format!("golden {way} {}", path.display());
        let finished = run(&job).unwrap();
        let exact = run(&with_golden_scales(job, way, &golden)).unwrap();
        let plan: Value = serde_json::from_slice(&finished.files["plan.json"]).unwrap();
        for (theirs, ours) in TENSORS {
            let golden = floats(&golden, &format!("{way}.scale.{theirs}"))[0];
            assert_scale(
                &format!("{way} {ours}"),
                &plan["tensors"][ours]["scale"],
                golden,
            );
        }
        let layer = &plan["layers"][1];
        let inner: &[&str] = match way {
            Way::MulSum => &["weight", "bias", "mul", "sum"],
            Way::Split => &["hi", "lo"],
            _ => &[],
        };
        for slot in inner {
            let golden = floats(&golden, &format!("{way}.scale.linear2.{slot}"))[0];
            assert_scale(
                &format!("{way} {slot}"),
                &layer["inner_scales"][slot],
                golden,
            );
        }
        if way == Way::A8W16 {
            let golden = floats(&golden, "a8w16.scale.linear2.input")[0];
            assert_scale("linear2.input", &layer["input"]["scale"], golden);
        }
        assert_runs_match(way, &exact, &golden);
    }
}

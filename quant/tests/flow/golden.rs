//! The article's model against the golden vectors of an independent implementation: every scale of
//! the plan, and the model's output in VALIDATION.

use crate::support::{data, job, run, settings};
use dual16_nash::{Toolchain, Way};
use dual16_quant::settings::{SettingValue, WayChoice};
use safetensors::SafeTensors;
use serde_json::Value;

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

#[test]
fn scales_and_the_output_match_the_golden_file_whatever_the_way_of_linear2() {
    let bytes = std::fs::read(data("golden/article.safetensors")).unwrap();
    let golden = SafeTensors::deserialize(&bytes).unwrap();
    for way in Way::FIVE {
        let mut settings = settings(&[("linear2", SettingValue::Way(WayChoice::Fixed(way)))]);
        settings.toolchain = Toolchain::Oe32;
        settings.save_outputs = true;
        let finished = run(&job("smallmodel", settings)).unwrap();
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
        // Both float orders of a sum are right, and where one lands on the other side of a rounding
        // border a tensor differs by one step, which later layers amplify. So: everything within
        // two steps of what linear3 reads, and nearly everything within two of a step of its own.
        let outputs = SafeTensors::deserialize(&finished.files["outputs.safetensors"]).unwrap();
        let got = floats(&outputs, "y.validation");
        let golden = floats(&golden, &format!("{way}.linear3"));
        assert_eq!(got.len(), golden.len());
        let read = plan["tensors"]["linear2"]["scale"].as_f64().unwrap() as f32;
        let own = golden.iter().fold(0f32, |amax, y| amax.max(y.abs())) / 32767.5;
        let differences = || got.iter().zip(&golden).map(|(a, b)| (a - b).abs());
        let worst = differences().fold(0f32, f32::max);
        let far = differences().filter(|&d| d > 2.0 * own).count();
        println!(
            "{way}: worst {:.2} steps of linear2, {far} above 2 of its own",
            worst / read
        );
        assert!(
            worst <= 2.0 * read,
            "{way}: {worst} is {} steps",
            worst / read
        );
        assert!(
            far * 50 <= got.len(),
            "{way}: {far} of {} differ",
            got.len()
        );
    }
}

//! Numbers that an integer machine does not have: one node's failure is that node's figure, a notice
//! says where, and everything else is as without it.

use std::{collections::HashMap, path::Path};

use dual16_quant::{
    flow::{Event, Notice},
    settings::{SettingValue, Settings, WayChoice},
};
use safetensors::{Dtype, serialize_to_file, tensor::TensorView};
use serde_json::Value;

use crate::{
    made::Made,
    support::{Finished, curve, job, run, settings},
};

const ROWS: usize = 4;
const INPUTS: usize = 8;
const OUTPUTS: usize = 6;

/// `h = x W`, the Linear "fc" of every model here.
fn fc() -> Made {
    Made::new(&[ROWS, INPUTS])
        .constant("w", &[INPUTS, OUTPUTS], &curve(INPUTS * OUTPUTS, 0.7))
        .node("MatMul", &["x", "w"], &["h"])
        .scope("fc", "linear")
}

/// Runs a model on two batches; the last row of `x` is 0, as a padded one is.
fn run_on(made: Made, settings: Settings, scale: f32) -> Finished {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    std::fs::write(path.join("model.onnx"), made.encode()).unwrap();
    std::fs::create_dir(path.join("calib")).unwrap();
    for batch in 0..2 {
        let mut x = curve(ROWS * INPUTS, 0.9 + batch as f32);
        x[(ROWS - 1) * INPUTS..].fill(0.0);
        let bytes: Vec<u8> = x.iter().flat_map(|v| (v * scale).to_le_bytes()).collect();
        let view = TensorView::new(Dtype::F32, vec![ROWS, INPUTS], &bytes).unwrap();
        write(&path.join(format!("calib/{batch:03}.safetensors")), view);
    }
    let mut job = job(path.to_str().unwrap(), settings);
    job.evaluation = Vec::new();
    let finished = run(&job).unwrap();
    // A search for better outputs stops at none of it either.
    job.settings.min_output_sqnr = 60.0;
    run(&job).unwrap();
    finished
}

fn write(path: &Path, x: TensorView<'_>) {
    serialize_to_file(HashMap::from([("x", x)]), None, path).unwrap();
}

fn finished(made: Made) -> Finished {
    run_on(made, settings(&[]), 1.0)
}

/// Notices with a code, which are the same in the events and in the file.
fn notices(finished: &Finished, code: &str) -> Vec<Notice> {
    let told = finished.events.iter().filter_map(|event| match event {
        Event::Notice(notice) if notice.code == code => Some(notice.clone()),
        _ => None,
    });
    let told: Vec<Notice> = told.collect();
    let result = finished.result();
    let written = result["notices"].as_array().unwrap();
    for notice in &told {
        let is = |written: &&Value| written["message"] == notice.message.as_str();
        assert!(written.iter().any(|written| is(&written)), "{notice:?}");
    }
    told
}

fn the_notice(finished: &Finished, code: &str, parts: &[&str]) {
    let all = notices(finished, code);
    let has = |notice: &Notice| {
        let text = format!("{}: {}", notice.subject, notice.message);
        parts.iter().all(|part| text.contains(part))
    };
    let all_notices: Vec<_> = finished.result()["notices"].as_array().unwrap().clone();
    assert!(
        all.iter().any(has),
        "{code} with {parts:?} is not in {all_notices:#?}"
    );
}

/// The figures of "fc" are those of a model that has nothing else but a Relu.
fn fc_is_untouched(finished: &Finished) {
    let plain = self::finished(fc().node("Relu", &["h"], &["y"])).result();
    assert_eq!(finished.result()["layers"][0], plain["layers"][0]);
}

fn output(finished: &Finished, run: &str) -> Value {
    finished.result()["outputs"][0][run].clone()
}

#[test]
fn a_divisor_that_rounds_to_0_saturates_at_its_node() {
    let made = fc()
        .indices("last", &[-1])
        .scalar("eps", 1e-8)
        .node("Relu", &["h"], &["r"])
        .node("ReduceSum", &["r", "last"], &["sum"])
        .int("keepdims", 1)
        .node("Add", &["sum", "eps"], &["divisor"])
        .node("Div", &["r", "divisor"], &["y"]);
    let finished = finished(made);
    the_notice(
        &finished,
        "SATURATED",
        &["y", "'node_divisor'", "VALIDATION", "CONVERTED"],
    );
    fc_is_untouched(&finished);
    // 0 / 0 is 0, as 0 / eps is in float.
    for run in ["validation", "converted"] {
        let sqnr = output(&finished, run)["sqnr_db"].as_f64().unwrap();
        assert!(sqnr > 40.0, "{run}: {sqnr} dB");
    }
}

#[test]
fn a_reciprocal_of_0_is_what_its_table_has() {
    let made = fc()
        .scalar("eps", 1e-8)
        .node("Relu", &["h"], &["r"])
        .node("Add", &["r", "eps"], &["divisor"])
        .node("Reciprocal", &["divisor"], &["y"]);
    let finished = finished(made);
    the_notice(
        &finished,
        "SATURATED",
        &["y", "'node_divisor'", "VALIDATION"],
    );
    fc_is_untouched(&finished);
    let [a, b] = ["validation", "converted"].map(|run| output(&finished, run)["mse"].as_f64());
    assert!((a.unwrap() / b.unwrap() - 1.0).abs() < 0.1, "{a:?} {b:?}");
}

#[test]
fn a_tensor_of_zeros_gets_through_in_every_observer() {
    for observer in ["minmax", "mse", "percentile", "kl"] {
        for merge in ["exact", "ema"] {
            let made = fc()
                .node("Sub", &["h", "h"], &["zero"])
                .node("Relu", &["zero"], &["y"]);
            let settings = Settings {
                observer: observer.parse().unwrap(),
                merge: merge.parse().unwrap(),
                ..Settings::default()
            };
            let finished = run_on(made, settings, 1e6);
            the_notice(&finished, "SATURATED", &["'fc'", "16383.5"]);
            for run in ["validation", "converted"] {
                let output = output(&finished, run);
                assert!(output["sqnr_db"].is_null(), "{output}");
                assert_eq!(output["atol"], 0.0);
                assert_eq!(output["reason"], "there is no error");
            }
        }
    }
}

#[test]
fn a_linear_of_zeros_gets_through_in_every_way() {
    let zeros = [0.0; INPUTS * OUTPUTS];
    let made = Made::new(&[ROWS, INPUTS])
        .constant("w", &[INPUTS, OUTPUTS], &zeros)
        .node("MatMul", &["x", "w"], &["h"])
        .scope("fc", "linear")
        .node("Relu", &["h"], &["y"]);
    let auto = settings(&[("*", SettingValue::Way(WayChoice::Auto))]);
    let finished = run_on(made, auto, 1e10);
    let layer = finished.result()["layers"][0].clone();
    let ways = layer["isolated"].as_object().unwrap();
    assert_eq!(ways.len(), 5, "{layer:#}");
    assert!(ways.values().all(|way| way["atol"] == 0.0), "{layer:#}");
}

#[test]
fn a_constant_that_dwarfs_everything_is_told_of() {
    let made = fc()
        .scalar("huge", 1e30)
        .node("Add", &["h", "huge"], &["moved"])
        .node("Sub", &["moved", "huge"], &["back"])
        .node("Add", &["back", "h"], &["y"]);
    let finished = finished(made);
    the_notice(&finished, "ROUNDS_TO_ZERO", &["'fc'", "half a step"]);
    // The difference is 0 everywhere, so its scale is the smallest there is.
    the_notice(&finished, "SATURATED", &["'node_moved'", "16383.5"]);
    fc_is_untouched(&finished);
    assert!(output(&finished, "converted")["atol"].is_number());
}

#[test]
fn what_overflows_in_float_is_left_out_and_counted() {
    let made = fc()
        .scalar("huge", 1e30)
        .node("Mul", &["h", "huge"], &["large"])
        .node("Mul", &["large", "huge"], &["y"]);
    let finished = finished(made);
    the_notice(&finished, "NON_FINITE", &["y", "in the float run"]);
    assert!(
        notices(&finished, "SATURATED")
            .iter()
            .all(|notice| !notice.message.contains("no finite result"))
    );
    fc_is_untouched(&finished);
    for run in ["validation", "converted"] {
        // All but the padded rows.
        assert_eq!(output(&finished, run)["left_out"], 2 * (ROWS - 1) * OUTPUTS);
    }
}

#[test]
fn a_bias_beyond_int32_is_told_of_with_its_channel() {
    let mut w = curve(INPUTS * OUTPUTS, 0.7);
    // A pruned channel: its scale is the smallest, and so is a step of its bias.
    w.iter_mut().skip(2).step_by(OUTPUTS).for_each(|w| *w = 0.0);
    let made = |bias: f32| {
        let mut biases = [0.25; OUTPUTS];
        biases[2] = bias;
        Made::new(&[ROWS, INPUTS])
            .constant("w", &[INPUTS, OUTPUTS], &w)
            .constant("b", &[OUTPUTS], &biases)
            .node("MatMul", &["x", "w"], &["p"])
            .scope("fc", "linear")
            .node("Add", &["p", "b"], &["h"])
            .scope("fc", "linear")
            .node("Relu", &["h"], &["y"])
    };
    let split = |made| {
        let way = SettingValue::Way(WayChoice::Fixed("split".parse().unwrap()));
        run_on(made, settings(&[("*", way)]), 1e-2)
    };
    let channel = ["fc", "bias", "channel 2 wants", "int32's 2147483647"];
    the_notice(
        &run_on(made(50.0), settings(&[("*", a16w8())]), 1e-2),
        "SATURATED",
        &channel,
    );
    the_notice(&split(made(5e4)), "SATURATED", &channel);
    assert!(notices(&run_on(made(1e-5), settings(&[]), 1e-2), "SATURATED").is_empty());
}

fn a16w8() -> SettingValue {
    SettingValue::Way(WayChoice::Fixed("a16w8".parse().unwrap()))
}

#[test]
fn a_node_that_cannot_run_has_no_figures_and_neither_has_what_follows() {
    // The step of the range is positive in float and 0 once quantized.
    let made = fc()
        .scalar("zero", 0.0)
        .scalar("tiny", 1e-9)
        .scalar("small", 1e-8)
        .node("Abs", &["h"], &["abs"])
        .node("ReduceMax", &["abs"], &["max"])
        .int("keepdims", 0)
        .node("Mul", &["max", "tiny"], &["step"])
        .node("Mul", &["max", "small"], &["limit"])
        .node("Range", &["zero", "limit", "step"], &["range"])
        .node("ReduceMax", &["range"], &["top"])
        .int("keepdims", 0)
        .node("Add", &["h", "top"], &["y"]);
    let finished = finished(made);
    the_notice(
        &finished,
        "NODE_FAILED",
        &["range", "failed:", "no figures"],
    );
    assert_eq!(notices(&finished, "NODE_FAILED").len(), 1);
    fc_is_untouched(&finished);
    for run in ["validation", "converted"] {
        let output = output(&finished, run);
        for figure in ["sqnr_db", "cosine", "l1", "mse", "atol", "lsb"] {
            assert!(output[figure].is_null(), "{run}: {output}");
        }
        let reason = output["reason"].as_str().unwrap();
        assert!(
            reason.contains("range") && reason.contains("failed: "),
            "{reason}"
        );
    }
}

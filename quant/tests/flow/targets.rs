//! What an output is to reach, and what is said where it does not.

use std::collections::HashMap;

use dual16_nash::IntDtype;
use dual16_quant::{
    Error,
    flow::Event,
    metrics::Metric,
    settings::{OutputTarget, SettingValue, Settings},
};

use safetensors::{Dtype, serialize_to_file, tensor::TensorView};

use crate::{
    made::Made,
    support::{Finished, curve, job, run, settings},
};

fn with(targets: &[(&str, Metric, f64)]) -> Settings {
    let target = |&(output, metric, value): &(&str, Metric, f64)| OutputTarget {
        output: output.to_owned(),
        metric,
        value,
    };
    Settings {
        output_targets: targets.iter().map(target).collect(),
        ..settings(&[])
    }
}

fn codes(finished: &Finished) -> Vec<(&str, &str)> {
    finished
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Notice(notice) => Some((notice.code.as_str(), notice.message.as_str())),
            _ => None,
        })
        .collect()
}

#[test]
fn a_metric_of_one_output_is_reached_by_mending() {
    let cosine = |finished: &Finished| {
        let output = &finished.result()["outputs"][0];
        ["validation", "converted"].map(|run| output[run]["cosine"].as_f64().unwrap())
    };
    let plain = run(&job("digits", settings(&[]))).unwrap();
    let wanted = 1.0 - (1.0 - cosine(&plain)[0]) / 2.0;
    let mended = run(&job("digits", with(&[("logits", Metric::Cosine, wanted)]))).unwrap();
    for reached in cosine(&mended) {
        assert!(reached >= wanted, "{reached} {wanted}");
    }
    assert!(
        mended
            .events
            .iter()
            .any(|event| matches!(event, Event::Mended(step) if step.kept))
    );
}

#[test]
fn what_is_short_is_told_in_its_own_figure_with_the_cause_and_a_flag() {
    let finished = run(&job("smallmodel", with(&[("y", Metric::L1, 1e-12)]))).unwrap();
    let codes = codes(&finished);
    let of = |code: &str| {
        codes
            .iter()
            .filter(|(of, _)| *of == code)
            .collect::<Vec<_>>()
    };
    let short = of("NOT_REACHED");
    assert!(short[0].1.contains("l1 0.0"), "{short:?}");
    let advice = of("ADVICE");
    assert!(!advice.is_empty(), "{codes:#?}");
    assert!(advice.len() <= 3, "{advice:#?}");
}

/// What is advised for a model of one input of [`ROWS`], which sees one batch and is measured on another; both
/// have the shape that it declares.
fn advised(made: Made, calibration: &[f32], measured: &[f32]) -> Vec<String> {
    advised_with(made, calibration, measured, &[])
}

fn advised_with(
    made: Made,
    calibration: &[f32],
    measured: &[f32],
    by_name: &[(&str, SettingValue)],
) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    std::fs::write(path.join("model.onnx"), made.encode()).unwrap();
    std::fs::create_dir(path.join("calib")).unwrap();
    for (name, x) in [("calib/000", calibration), ("eval", measured)] {
        let bytes: Vec<u8> = x.iter().flat_map(|v| v.to_le_bytes()).collect();
        let shape = vec![ROWS, x.len() / ROWS];
        let view = TensorView::new(Dtype::F32, shape, &bytes).unwrap();
        let file = path.join(format!("{name}.safetensors"));
        serialize_to_file(HashMap::from([("x", view)]), None, &file).unwrap();
    }
    let job = job(
        path.to_str().unwrap(),
        Settings {
            min_output_sqnr: 120.0,
            ..settings(by_name)
        },
    );
    let finished = run(&job).unwrap();
    let advice = codes(&finished).into_iter();
    let advice = advice.filter(|(code, _)| *code == "ADVICE");
    advice.map(|(_, message)| message.to_owned()).collect()
}

const ROWS: usize = 64;
const INPUTS: usize = 8;

fn names(advice: &[String], cause: &str, help: &str) {
    let named = |message: &String| message.contains(cause) && message.contains(help);
    assert!(advice.iter().any(named), "{cause}; {help}: {advice:#?}");
}

/// `y = (x W) / s`, where `s` is large in one channel and below half a step of it in the last.
#[test]
fn a_dead_channel_is_named() {
    let outputs = 6;
    let mut weight = curve(INPUTS * outputs, 0.7);
    for row in weight.chunks_exact_mut(outputs) {
        row[0] *= 3000.0;
        row[outputs - 1] *= 1e-3;
    }
    let undo: Vec<f32> = (0..outputs)
        .map(|channel| match channel {
            0 => 1.0 / 3000.0,
            last if last == outputs - 1 => 1e3,
            _ => 1.0,
        })
        .collect();
    let made = Made::new(&[ROWS, INPUTS])
        .constant("w", &[INPUTS, outputs], &weight)
        .constant("undo", &[outputs], &undo)
        .node("MatMul", &["x", "w"], &["h"])
        .node("Mul", &["h", "undo"], &["y"]);
    let x = curve(ROWS * INPUTS, 0.9);
    names(&advised(made, &x, &x), "1 of its channels are dead", "");
}

/// A key that no query may see: its scores end where exp is 0, and the 256 steps that somebody asked for reach
/// down to there.
#[test]
fn masked_elements_that_take_room_are_named() {
    let keys = 6;
    let masked = |i: usize| if i % keys == keys - 1 { -1e4 } else { 0.0 };
    let mask: Vec<f32> = (0..ROWS * keys).map(masked).collect();
    let made = Made::new(&[ROWS, INPUTS])
        .constant("w", &[INPUTS, keys], &curve(INPUTS * keys, 0.7))
        .constant("m", &[ROWS, keys], &mask)
        .node("MatMul", &["x", "w"], &["s"])
        .node("Add", &["s", "m"], &["masked"])
        .node("Softmax", &["masked"], &["y"]);
    let x = curve(ROWS * INPUTS, 0.9);
    let int8 = [("masked", SettingValue::Dtype(IntDtype::Int8))];
    let advice = advised_with(made, &x, &x, &int8);
    let cause = "of its elements are masked and saturate at";
    names(&advice, cause, "=int16");
}

/// What is left of a large value once it is taken away again is a constant that had no step beside it.
#[test]
fn an_operand_that_vanishes_is_named() {
    let made = Made::new(&[ROWS, INPUTS])
        .constant("w", &[INPUTS, 6], &curve(INPUTS * 6, 0.7))
        .scalar("thousand", 1000.0)
        .scalar("eps", 0.01)
        .node("MatMul", &["x", "w"], &["h"])
        .node("Mul", &["h", "thousand"], &["large"])
        .node("Add", &["large", "eps"], &["sum"])
        .node("Sub", &["sum", "large"], &["y"]);
    let x = curve(ROWS * INPUTS, 0.9);
    let cause = "is below half a step of the scale it is brought to: all of it becomes 0";
    names(&advised(made, &x, &x), cause, "");
}

/// 2,048 products of one sign.
#[test]
fn an_accumulator_that_grows_wide_is_named_with_the_narrowest_way() {
    let (inputs, outputs) = (2048, 4);
    let positive = |v: &f32| 1.0 + 0.1 * v;
    let weight: Vec<f32> = curve(inputs * outputs, 0.7).iter().map(positive).collect();
    let made = Made::new(&[ROWS, inputs])
        .constant("w", &[inputs, outputs], &weight)
        .node("MatMul", &["x", "w"], &["h"])
        .scope("fc", "linear")
        .node("Relu", &["h"], &["y"]);
    let x: Vec<f32> = curve(ROWS * inputs, 0.9).iter().map(positive).collect();
    let cause = "its largest accumulator needs 3";
    names(&advised(made, &x, &x), cause, "--linear fc=a8w8");
}

/// Calibration saw a third of what comes.
#[test]
fn calibration_that_saw_too_little_is_named_with_the_scale_that_would_do() {
    let made = Made::new(&[ROWS, INPUTS])
        .constant("w", &[INPUTS, 6], &curve(INPUTS * 6, 0.7))
        .node("MatMul", &["x", "w"], &["y"]);
    let x = curve(ROWS * INPUTS, 0.9);
    let wide: Vec<f32> = x.iter().map(|v| 3.0 * v).collect();
    let cause = "times what its scale covers, which the one calibration file did not show";
    names(&advised(made, &x, &wide), cause, "--fixed-scale ");
}

#[test]
fn targets_that_cannot_be_are_refused_before_any_batch() {
    let refused = |name, metric, value| {
        let error = run(&job("digits", with(&[(name, metric, value)]))).err();
        error.unwrap()
    };
    let error = refused("logit", Metric::Sqnr, 30.0);
    assert!(matches!(error, Error::UnknownName { .. }), "{error}");
    let error = refused("logits", Metric::Lsb, 1.0).to_string();
    assert!(error.contains("l1, mse, atol, rtol, kl"), "{error}");
    for (metric, value, right) in [
        (Metric::Cosine, 1.0, "below 1"),
        (Metric::Cosine, 0.0, "above 0"),
        (Metric::Kl, 0.0, "above 0"),
        (Metric::Rtol, -0.1, "above 0"),
    ] {
        let error = refused("logits", metric, value).to_string();
        let field = "output_targets[0].value";
        assert!(error.contains(field) && error.contains(right), "{error}");
    }
}

/// Metrics of the worst element and of histograms are reached as those of energies are, and only by mending.
#[test]
fn rtol_and_kl_of_an_output_are_reached_by_mending() {
    let kept = |finished: &Finished| {
        let mut steps = finished.events.iter();
        steps.any(|event| matches!(event, Event::Mended(step) if step.kept))
    };
    for metric in [Metric::Rtol, Metric::Kl] {
        // What is told of the plain model says how far it is off.
        let off = run(&job("smallmodel", with(&[("y", metric, 1e-9)]))).unwrap();
        let told = codes(&off);
        let short = told.iter().find(|(code, _)| *code == "NOT_REACHED");
        let (_, message) = short.unwrap();
        let best: f64 = message
            .split_once(&format!("{metric} "))
            .and_then(|(_, rest)| rest.split(' ').next())
            .and_then(|figure| figure.parse().ok())
            .unwrap_or_else(|| panic!("{message}"));
        assert!(kept(&off), "{metric}: nothing was mended");
        let reached = run(&job("smallmodel", with(&[("y", metric, 1.2 * best)]))).unwrap();
        let told = codes(&reached);
        assert!(
            told.iter().all(|(code, _)| *code != "NOT_REACHED"),
            "{told:#?}"
        );
        assert!(kept(&reached), "{metric}: the plain model is as good");
        let loose = run(&job("smallmodel", with(&[("y", metric, 1e9)]))).unwrap();
        assert!(!kept(&loose), "{metric}: at most, not at least");
    }
}

//! What an output is to reach, and what is said where it does not.

use std::collections::HashMap;

use dual16_quant::{
    Error,
    flow::Event,
    metrics::Metric,
    settings::{OutputTarget, Settings},
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

/// What is advised for a model of one input, which sees one batch and is measured on another; both have the
/// shape that it declares.
fn advised(made: Made, calibration: &[f32], measured: &[f32]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    std::fs::write(path.join("model.onnx"), made.encode()).unwrap();
    std::fs::create_dir(path.join("calib")).unwrap();
    for (name, x) in [("calib/000", calibration), ("eval", measured)] {
        let bytes: Vec<u8> = x.iter().flat_map(|v| v.to_le_bytes()).collect();
        let view = TensorView::new(Dtype::F32, vec![ROWS, INPUTS], &bytes).unwrap();
        let file = path.join(format!("{name}.safetensors"));
        serialize_to_file(HashMap::from([("x", view)]), None, &file).unwrap();
    }
    let job = job(
        path.to_str().unwrap(),
        Settings {
            min_output_sqnr: 60.0,
            ..settings(&[])
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
    let error = run(&job("digits", with(&[("logit", Metric::Sqnr, 30.0)])))
        .err()
        .unwrap();
    assert!(matches!(error, Error::UnknownName { .. }), "{error}");
    let error = run(&job("digits", with(&[("logits", Metric::Kl, 0.1)])))
        .err()
        .unwrap();
    assert!(
        error.to_string().contains("sqnr, cosine, l1, mse and atol"),
        "{error}"
    );
}

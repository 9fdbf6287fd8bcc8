//! What quantization is for: the model still does its task.

use dual16_tests::{Dual16, Results, data::digits, tensors};

/// Of the float model on the held-out images, from the data's own description.
const FLOAT_PERCENT: f64 = 98.4;

#[test]
fn digits_keeps_its_accuracy() {
    let eval = digits().join("eval.safetensors");
    let out = Results::new();
    Dual16::quantize(&digits())
        .arg("--eval")
        .arg(&eval)
        .args(["--linear", "*=auto", "--save-outputs"])
        .out(&out.path())
        .run()
        .success();

    let labels = tensors::read_i64(&eval, "label");
    assert_eq!(labels.len(), 512);
    let outputs = tensors::read(&out.path().join("outputs.safetensors"));
    let accuracy = |run: &str| percent_right(&outputs[&format!("logits.{run}")].data, &labels);
    let float = accuracy("float");
    assert!((float - FLOAT_PERCENT).abs() < 0.05, "float: {float} %");
    for run in ["validation", "converted"] {
        let quantized = accuracy(run);
        assert!(
            (quantized - float).abs() <= 0.4,
            "{run}: {quantized} %, float {float} %"
        );
    }
}

fn percent_right(logits: &[f32], labels: &[i64]) -> f64 {
    let classes = logits.len() / labels.len();
    let best = |row: &[f32]| {
        (0..classes)
            .max_by(|&a, &b| row[a].total_cmp(&row[b]))
            .unwrap()
    };
    let rows = logits.chunks_exact(classes).zip(labels);
    let right = rows
        .filter(|(row, label)| best(row) as i64 == **label)
        .count();
    100.0 * right as f64 / labels.len() as f64
}

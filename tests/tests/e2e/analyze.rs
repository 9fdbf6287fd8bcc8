//! `dual16 analyze`: what each fake quant costs the outputs, as a person gets it.

use dual16_tests::{Dual16, Results, data::smallmodel};
use serde_json::Value;

#[test]
fn the_weight_that_int8_hurts_stands_first() {
    let out = Results::new();
    let model = smallmodel();
    let run = Dual16::new(["analyze"])
        .arg(model.join("model.onnx"))
        .arg("--calib")
        .arg(model.join("calib"))
        .args(["--exact", "all", "--metric", "l1"])
        .out(&out.path())
        .run()
        .success();
    assert!(run.stdout.contains("rank correlation"), "{run}");
    let text = std::fs::read_to_string(out.path().join("sensitivity.json")).unwrap();
    let found: Value = serde_json::from_str(&text).unwrap();
    let first = &found["rows"][0];
    assert_eq!(
        (
            &first["op_name"],
            &first["sensitive_type"],
            &first["quant_dtype"]
        ),
        (&"linear2".into(), &"weight".into(), &"int8".into())
    );
    // The vendor's table: a heading, a rule, the worst row.
    let table = out.path().join("output_y_l1_sensitive_ops.txt");
    let table = std::fs::read_to_string(table).unwrap();
    let rows: Vec<&str> = table.lines().collect();
    assert!(rows[0].starts_with("op_name"), "{table}");
    assert!(rows[2].starts_with("linear2 "), "{table}");
}

#[test]
fn an_output_that_there_is_none_of_is_named_before_any_work() {
    let out = Results::new();
    let model = smallmodel();
    let run = Dual16::new(["analyze"])
        .arg(model.join("model.onnx"))
        .arg("--calib")
        .arg(model.join("calib"))
        .args(["--outputs", "logits"])
        .out(&out.path())
        .run();
    assert_eq!(run.code(), 2, "{run}");
    assert!(run.stderr.contains("logits"), "{run}");
    assert!(!run.stderr.contains("observe"), "{run}");
}

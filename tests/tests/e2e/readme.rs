//! The README's command: a model and a folder of batches in, everything out, nothing left behind.

use dual16_tests::{
    Dual16, Results,
    data::smallmodel,
    results::{FILES, layer},
};
use serde_json::Value;

const LAYERS: [&str; 3] = ["linear1", "linear2", "linear3"];

#[test]
fn quantize_leaves_its_artifacts_and_shows_every_layer() {
    let out = Results::new();
    let run = Dual16::quantize(&smallmodel())
        .out(&out.path())
        .run()
        .success();

    // The state of the in-process cluster is gone too: these are all the names there are.
    assert_eq!(out.names(), FILES);
    for shown in LAYERS
        .into_iter()
        .chain(FILES)
        .chain(["a16w8", "split", "59.4"])
    {
        assert!(run.stdout.contains(shown), "{shown} is not shown: {run}");
    }
    // A layer's errors appear when they are known, before the stages after it have begun.
    let known = run.stderr.find("layer linear2").unwrap();
    assert!(known < run.stderr.find("validate 1/").unwrap(), "{run}");
}

#[test]
fn only_the_linear_that_int8_hurts_is_replaced_and_by_split() {
    let out = Results::new();
    Dual16::quantize(&smallmodel())
        .out(&out.path())
        .run()
        .success();
    let result = out.result();

    let ways = LAYERS.map(|name| layer(&result, name)["effective"].as_str().unwrap());
    assert_eq!(ways, ["a16w8", "split", "a16w8"]);
    let isolated = layer(&result, "linear2")["isolated"].as_object().unwrap();
    assert_eq!(isolated.len(), 5, "{isolated:#?}");
    for (way, measured) in isolated {
        let legal = way != "a16w16";
        assert_eq!(measured["legal"], legal, "{way}");
        assert_eq!(measured["reason"] == "", legal, "{way}");
    }
    for untouched in ["linear1", "linear3"] {
        let isolated = layer(&result, untouched)["isolated"].as_object().unwrap();
        assert_eq!(isolated.keys().collect::<Vec<_>>(), ["a16w8"]);
    }
}

#[test]
fn json_output_is_the_result_itself_and_a_second_run_writes_the_same_bytes() {
    let (out, again) = (Results::new(), Results::new());
    let quantize = |out: &Results| {
        let json = ["--output", "json"];
        Dual16::quantize(&smallmodel())
            .args(json)
            .out(&out.path())
            .run()
            .success()
    };

    let first = quantize(&out);
    let printed: Value = serde_json::from_str(&first.stdout).unwrap();
    assert_eq!(printed, out.result());

    // Into the same folder, over the files of the first run, and into another one.
    let before = out.files();
    quantize(&out);
    assert!(
        before == out.files(),
        "the second run left other files or other bytes"
    );
    quantize(&again);
    out.assert_same_bytes(&again);
}

//! `dual16 rescale`: other scales from what a job observed, as a person gets them.

use dual16_tests::{Dual16, Results, ServerProcess, WorkerProcess, data::smallmodel};

#[test]
fn a_job_on_a_server_is_rescaled_by_its_name_alone() {
    let server = ServerProcess::start();
    let _worker = WorkerProcess::start(&server, "one", 1);
    let first = Results::new();
    let job = Dual16::quantize(&smallmodel()).args(["--keep-statistics", "--linear", "*=split"]);
    job.on(&server).out(&first.path()).run().success();
    let listed = Dual16::new(["jobs", "--output", "json"])
        .on(&server)
        .run()
        .success();
    let jobs: serde_json::Value = serde_json::from_str(&listed.stdout).unwrap();
    let name = jobs["jobs"][0]["name"].as_str().unwrap();
    let id = name.trim_start_matches("jobs/");

    let again = Results::new();
    let run = Dual16::new([
        "rescale",
        id,
        "--observer",
        "percentile",
        "--percentile",
        "99",
    ])
    .on(&server)
    .out(&again.path())
    .run()
    .success();
    assert!(
        run.stderr.contains("NOT_MEASURED") || run.stdout.contains("NOT_MEASURED"),
        "{run}"
    );
    let (plan, other) = (first.plan(), again.plan());
    assert_eq!(other["request"]["observer"], "percentile:99", "{other:#}");
    for (layer, other) in plan["layers"]
        .as_array()
        .unwrap()
        .iter()
        .zip(other["layers"].as_array().unwrap())
    {
        assert_eq!(other["effective"], "split", "{other:#}");
        let scale = |layer: &serde_json::Value| layer["input"]["scale"].as_f64().unwrap();
        assert!(scale(other) < scale(layer), "{layer:#} {other:#}");
    }
    assert!(again.result()["outputs"][0]["validation"]["sqnr_db"].is_null());
}

#[test]
fn a_chip_of_ones_own_changes_the_estimate_and_a_wrong_one_is_named() {
    let model = smallmodel();
    let folder = tempfile::tempdir().unwrap();
    let chip = folder.path().join("chip.toml");
    let planned = |text: &str| {
        std::fs::write(&chip, text).unwrap();
        Dual16::new(["plan"])
            .arg(model.join("model.onnx"))
            .arg("--calib")
            .arg(model.join("calib"))
            .arg("--chip")
            .arg(&chip)
            .run()
    };
    let slow = planned("[nash-m]\nlaunch_us = 1000.0\n").success();
    let quick = planned("").success();
    assert_ne!(slow.stdout, quick.stdout);
    let wrong = planned("[nash-m]\nlaunch = 1.0\n");
    assert_eq!(wrong.code(), 2, "{wrong}");
    assert!(wrong.stderr.contains("nash-m.launch"), "{wrong}");
}

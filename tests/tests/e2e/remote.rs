//! The commands on jobs of a server: list, show, watch, fetch, cancel, retry, delete.

use std::time::Duration;

use dual16_tests::{
    Dual16, Results, ServerProcess, WorkerProcess,
    data::{digits, smallmodel},
    events,
    results::{ARTIFACTS, FILES},
};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn a_finished_job_can_be_listed_shown_watched_fetched_and_deleted() {
    let server = ServerProcess::start();
    let _worker = WorkerProcess::start(&server, "worker", 1);
    let name = server.submit(Dual16::quantize(&smallmodel()).args(["--name", "the article"]));
    let job = server.wait_for(&name, LIMIT, |job| job["state"] == "SUCCEEDED");
    assert_eq!(job["display_name"], "the article");
    assert_eq!(job["artifacts"].as_array().unwrap().len(), ARTIFACTS.len());

    assert_eq!(server.ask(&["jobs"])["jobs"][0]["name"], name.as_str());
    assert_eq!(
        server.ask(&["jobs", "--state", "failed"])["jobs"],
        Value::Array(Vec::new())
    );
    let listed = Dual16::new(["jobs"]).on(&server).run().success();
    assert!(listed.stdout.contains("the article"), "{listed}");

    let watched = Dual16::new(["watch", &name]).on(&server).run().success();
    assert!(
        watched.stdout.contains("linear2 runs as split"),
        "{watched}"
    );

    let out = Results::new();
    Dual16::new(["fetch", &name])
        .on(&server)
        .out(&out.path())
        .run()
        .success();
    assert_eq!(out.names(), FILES);

    let cancelled = Dual16::new(["cancel", &name]).on(&server).run().success();
    assert!(cancelled.stdout.contains("stays as it is"), "{cancelled}");
    Dual16::new(["delete", &name]).on(&server).run().success();
    let gone = Dual16::new(["show", &name]).on(&server).run();
    assert_eq!(gone.code(), 2, "{gone}");
}

#[test]
fn a_cancelled_job_ends_for_its_watchers_and_goes_on_after_retry() {
    let server = ServerProcess::start();
    let name = server.submit(Dual16::quantize(&digits()).args(["--linear", "*=auto"]));
    let mut watching = Dual16::new(["watch", &name, "--output", "jsonl"])
        .on(&server)
        .spawn();
    let worker = WorkerProcess::start(&server, "worker", 1);
    watching.read_until(LIMIT, |line| events::is_task_done(line, "observe"));
    Dual16::new(["cancel", &name]).on(&server).run().success();

    let watched = watching.wait(LIMIT);
    assert_eq!(watched.code(), 4, "{watched}");
    assert!(watched.stderr.contains("was cancelled"), "{watched}");
    assert!(
        watched.stdout.lines().last().unwrap().contains("CANCELLED"),
        "{watched}"
    );
    assert_eq!(server.ask(&["show", &name])["state"], "CANCELLED");
    let out = Results::new();
    let fetched = Dual16::new(["fetch", &name])
        .on(&server)
        .out(&out.path())
        .run();
    assert_eq!((fetched.code(), out.names()), (2, Vec::new()), "{fetched}");

    Dual16::new(["retry", &name]).on(&server).run().success();
    Dual16::new(["watch", &name]).on(&server).run().success();
    let drained = worker.drain();
    assert!(drained.status.success(), "{drained}");
}

#[test]
fn a_plan_is_made_without_doing_the_work() {
    let out = Results::new();
    let run = Dual16::new(["plan"])
        .arg(smallmodel().join("model.onnx"))
        .arg("--calib")
        .arg(smallmodel().join("calib"))
        .out(&out.path())
        .run()
        .success();
    for shown in [
        "linear1",
        "linear2",
        "linear3",
        "a16w16",
        "calibration 1.56 MiB",
    ] {
        assert!(run.stdout.contains(shown), "{shown}: {run}");
    }
    assert_eq!(out.names(), ["plan.json"]);
    assert!(!run.stderr.contains("observe"), "{run}");
}

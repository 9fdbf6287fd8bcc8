//! One trace id from the command line through the server to the worker's kernels and back, in the
//! JSON logs of the three real programs.

use std::{process::Command, time::Duration};

use dual16_tests::{Dual16, ServerProcess, WorkerProcess, data::smallmodel};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(120);
const JSON: [&str; 2] = ["--log-format", "json"];
/// What whoever calls the command may have begun already.
const TRACE_ID: &str = "0af7651916cd43dd8448eb211c80319c";

#[test]
fn the_logs_of_client_server_and_worker_share_one_trace_id() {
    let server = ServerProcess::start_with(&JSON);
    let logs = [JSON[0], JSON[1], "--workers", "1"];
    let worker = WorkerProcess::start_with(&server, "worker", &logs);
    let mut environment = Command::new("env");
    environment.args(["DUAL16_LOG=info", "DUAL16_LOG_FORMAT=json"]);
    environment.arg(format!("TRACEPARENT=00-{TRACE_ID}-b7ad6b7169203331-01"));
    let submitted = Dual16::quantize(&smallmodel())
        .arg("--detach")
        .on(&server)
        .inside(environment)
        .run()
        .success();
    let name = submitted.stdout.trim().to_owned();
    let job = server.wait_for(&name, LIMIT, |job| job["state"] == "SUCCEEDED");
    assert_eq!(job["trace_id"], TRACE_ID);

    let client = within_trace(&submitted.stderr);
    assert!(told(&client, "job submitted"), "{}", submitted.stderr);
    let drained = worker.drain();
    let worked = within_trace(&drained.stderr);
    let ends = worked
        .iter()
        .filter(|line| line["fields"]["message"] == "task ends");
    let tasks: u64 = job["stages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|stage| stage["done"].as_u64().unwrap())
        .sum();
    assert_eq!(ends.count() as u64, tasks, "{}", drained.stderr);
    let served = within_trace(&server.stderr());
    assert!(told(&served, "job queued"), "{}", server.stderr());
}

#[test]
fn a_job_of_another_command_has_another_trace() {
    let server = ServerProcess::start();
    let names = [(); 2].map(|()| server.submit(Dual16::quantize(&smallmodel())));
    let [first, second] = names.map(|name| server.ask(&["show", &name])["trace_id"].clone());
    assert_eq!(first.as_str().unwrap().len(), 32);
    assert_ne!(first, second);
}

/// The log lines that carry the trace id in one of their spans.
fn within_trace(stderr: &str) -> Vec<Value> {
    let lines = stderr
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines
        .filter(|line| {
            let spans = line["spans"].as_array().into_iter().flatten();
            spans.into_iter().any(|span| span["trace_id"] == TRACE_ID)
        })
        .collect()
}

fn told(lines: &[Value], message: &str) -> bool {
    lines
        .iter()
        .any(|line| line["fields"]["message"] == message)
}

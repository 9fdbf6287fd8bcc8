//! The ops ports of a server and a worker while they work: probes tell the truth, metrics parse and
//! add up with what the API says of the same job.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use dual16_tests::{
    Dual16, ServerProcess, WorkerProcess,
    data::smallmodel,
    events,
    ops::{Scrape, get},
};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn the_metrics_of_a_job_parse_and_add_up() {
    let server = ServerProcess::start();
    let worker = WorkerProcess::start(&server, "worker", 1);
    let worker_ops = worker.ops();
    let name = server.submit(Dual16::quantize(&smallmodel()).args(["--linear", "*=auto"]));
    let mut largest = 0;
    let job = server.wait_for(&name, LIMIT, |job| {
        // Every scrape in the midst of things parses, too.
        largest = Scrape::of(server.ops()).series().max(largest);
        Scrape::of(&worker_ops);
        job["state"] == "SUCCEEDED"
    });
    let tasks: f64 = all(&job["stages"]).map(|stage| count(&stage["done"])).sum();
    let stages = job["stages"].as_array().unwrap().len() as f64;
    let done = events::parse_all(
        &Dual16::new(["watch", &name, "--output", "jsonl"])
            .on(&server)
            .run()
            .success()
            .stdout,
    );

    let seen = Scrape::of(server.ops());
    let sum = |name: &str, labels: &[(&str, &str)]| seen.sum(name, labels);
    for state in ["pending", "running", "succeeded"] {
        assert_eq!(
            sum("dual16_jobs_total", &[("state", state)]),
            1.0,
            "{state}"
        );
    }
    assert_eq!(sum("dual16_tasks_completed_total", &[]), tasks);
    assert_eq!(sum("dual16_attempts_total", &[]), tasks);
    assert_eq!(sum("dual16_retries_total", &[]), 0.0);
    assert_eq!(sum("dual16_dead_letters_total", &[]), 0.0);
    assert_eq!(sum("dual16_task_seconds_count", &[]), tasks);
    assert_eq!(sum("dual16_stage_seconds_count", &[]), stages);
    for gauge in [
        "open_jobs",
        "queued_tasks",
        "leased_tasks",
        "oldest_lease_age_seconds",
    ] {
        assert_eq!(sum(&format!("dual16_{gauge}"), &[]), 0.0, "{gauge}");
    }
    let completed = [("rpc", "WorkerService/Complete"), ("code", "OK")];
    assert_eq!(sum("dual16_rpcs_total", &completed), tasks);
    let watched = [("rpc", "JobService/WatchJob"), ("code", "OK")];
    assert_eq!(sum("dual16_rpcs_total", &watched), 1.0);
    let uploaded = sum(
        "dual16_rpc_received_bytes_total",
        &[("rpc", "BlobService/Upload")],
    );
    assert!(uploaded >= input_bytes(), "{uploaded} of {}", input_bytes());
    assert!(sum("dual16_store_seconds_count", &[("access", "change")]) >= tasks);

    let did = Scrape::of(&worker_ops);
    assert_eq!(did.sum("dual16_tasks_total", &[("outcome", "done")]), tasks);
    assert_eq!(did.sum("dual16_tasks_total", &[]), tasks);
    assert_eq!(did.sum("dual16_task_seconds_count", &[]), tasks);
    assert_eq!(did.sum("dual16_running_tasks", &[]), 0.0);
    assert!(did.sum("dual16_blob_received_bytes_total", &[]) >= input_bytes());
    assert!(did.sum("dual16_blob_cache_hits_total", &[]) > 0.0);
    assert!(did.sum("dual16_process_resident_memory_bytes", &[]) > 1e6);
    for (way, products) in products_by_way(&done) {
        let kernel = [("way", way.as_str())];
        assert_eq!(
            did.sum("dual16_kernel_products_total", &kernel),
            products,
            "{way}"
        );
        assert!(
            did.sum("dual16_kernel_seconds_total", &kernel) > 0.0,
            "{way}"
        );
    }
    assert!(largest < 2000 && seen.series() < 2000, "{largest} series");
}

#[test]
fn probes_follow_what_can_be_done() {
    let mut server = ServerProcess::start();
    assert_eq!(get(server.ops(), "/livez").status, 200);
    assert_eq!(get(server.ops(), "/readyz").status, 200);
    assert_eq!(get(server.ops(), "/").status, 404);
    // A data directory that takes no file: here because something else has the probe's name.
    fs::create_dir(server.state().join("ready.probe")).unwrap();
    let unready = get(server.ops(), "/readyz");
    assert_eq!(unready.status, 503);
    assert!(unready.body.contains("data directory"), "{}", unready.body);
    assert_eq!(get(server.ops(), "/livez").status, 200);
    fs::remove_dir(server.state().join("ready.probe")).unwrap();
    assert_eq!(get(server.ops(), "/readyz").status, 200);

    let worker = WorkerProcess::start(&server, "worker", 1);
    let ops = worker.ops();
    wait_until(&ops, 200);
    server.kill();
    wait_until(&ops, 503);
    assert!(get(&ops, "/readyz").body.contains("does not answer"));
    assert_eq!(get(&ops, "/livez").status, 200);
    server.restart();
    wait_until(&ops, 200);
    assert!(worker.drain().status.success());
}

#[test]
fn a_worker_that_waits_for_its_server_is_alive_and_not_ready() {
    let worker = WorkerProcess::start_at("http://127.0.0.1:1", "lonely", &[]);
    let ops = worker.ops();
    assert_eq!(get(&ops, "/livez").status, 200);
    let unready = get(&ops, "/readyz");
    assert_eq!((unready.status, unready.body.as_str()), (503, "starting\n"));
    assert_eq!(get(&ops, "/metrics").status, 503);
}

fn wait_until(ops: &str, status: u16) {
    let deadline = Instant::now() + LIMIT;
    while get(ops, "/readyz").status != status {
        assert!(Instant::now() < deadline, "/readyz did not become {status}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Multiply-accumulates of all batches, by way, from what the job reports of one batch.
fn products_by_way(done: &[Value]) -> Vec<(String, f64)> {
    let mut ways = std::collections::BTreeMap::<String, f64>::new();
    for layer in done.iter().map(|event| &event["layer_measured"]) {
        for way in all(&layer["ways"]) {
            // A fit runs the kernels of the way that it is a fit of.
            let name = way["way"].as_str().unwrap().split('+').next().unwrap();
            *ways.entry(name.to_owned()).or_default() += count(&way["macs"]) * batches();
        }
    }
    assert!(ways.len() >= 5, "{ways:?}");
    ways.into_iter().collect()
}

fn batches() -> f64 {
    fs::read_dir(smallmodel().join("calib")).unwrap().count() as f64
}

fn input_bytes() -> f64 {
    let size = |path: std::path::PathBuf| fs::metadata(path).unwrap().len();
    let calib = fs::read_dir(smallmodel().join("calib")).unwrap();
    let calib: u64 = calib.map(|entry| size(entry.unwrap().path())).sum();
    (calib + size(smallmodel().join("model.onnx"))) as f64
}

fn all(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn count(number: &Value) -> f64 {
    number.as_f64().unwrap()
}

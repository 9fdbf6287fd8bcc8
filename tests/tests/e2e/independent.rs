//! Clients that share no code with dual16: Python, with stubs generated from the protos, and with
//! none at all.

use std::path::PathBuf;

use dual16_tests::{
    Dual16, Results, ServerProcess, WorkerProcess,
    data::{repository, smallmodel},
    python,
    results::layer,
};
use serde_json::Value;

fn text(path: PathBuf) -> String {
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_python_client_submits_watches_and_downloads() {
    let server = ServerProcess::start();
    let _worker = WorkerProcess::start(&server, "worker", 1);
    let run = python::run(
        "submit_and_watch.py",
        &[
            server.address(),
            &text(repository().join("proto")),
            &text(smallmodel().join("model.onnx")),
            &text(smallmodel().join("calib")),
        ],
    )
    .success();

    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(report["state"], "SUCCEEDED", "{report:#}");
    let sequences = report["sequences"].as_array().unwrap();
    for (index, sequence) in sequences.iter().enumerate() {
        assert_eq!(sequence.as_u64(), Some(index as u64 + 1), "{sequences:?}");
    }
    assert_eq!(layer(&report["result"], "linear2")["effective"], "split");
    assert_eq!(report["layers_measured"]["linear2"], "split");

    // Equal work has equal results, whoever asked for it.
    let local = Results::new();
    Dual16::quantize(&smallmodel())
        .out(&local.path())
        .run()
        .success();
    assert_eq!(report["result"]["layers"], local.result()["layers"]);
}

#[test]
fn reflection_alone_tells_the_services_and_their_methods() {
    let server = ServerProcess::start();
    let run = python::run("reflect.py", &[server.address()]).success();
    let methods: Value = serde_json::from_str(&run.stdout).unwrap();
    for (service, method) in [
        ("dual16.v1.JobService", "WatchJob"),
        ("dual16.v1.BlobService", "Upload"),
        ("dual16.v1.WorkerService", "Lease"),
        ("dual16.v1.InfoService", "GetInfo"),
        ("grpc.health.v1.Health", "Check"),
    ] {
        let listed = methods[service].as_array();
        let found = listed.is_some_and(|listed| listed.contains(&Value::from(method)));
        assert!(found, "{service}.{method} is not in {methods:#}");
    }
}

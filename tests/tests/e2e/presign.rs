//! Signed URLs on real processes: what worker, command line and Python client fetch past the server, from
//! a real S3 server.

use std::{fs, path::Path, process::Command, time::Duration};

use dual16_server::digest::Digest;
use dual16_tests::{
    Dual16, Finished, Results, ServerProcess, WorkerProcess,
    data::{repository, smallmodel},
    ops::Scrape,
    process::Process,
    python,
    results::PAGE,
    s3::S3,
};

/// What a server sends of a file that it only names is below this.
const FEW: f64 = 1024.0;

fn start(store: &S3, flags: &[&str]) -> ServerProcess {
    let places = ["--blobs", &store.url(), "--presign"];
    let flags = [&places, flags].concat();
    ServerProcess::start_in(store.environment(), "127.0.0.1:0", &flags)
}

/// Downloads so far, and bytes of them that the server sent itself.
fn downloads(server: &ServerProcess) -> (f64, f64) {
    let seen = Scrape::of(server.ops());
    let of = [("rpc", "BlobService/Download")];
    let calls = seen.sum("dual16_rpcs_total", &of);
    (calls, seen.sum("dual16_rpc_sent_bytes_total", &of))
}

/// Bytes that a worker has fetched.
fn received(worker: &WorkerProcess) -> f64 {
    Scrape::of(&worker.ops()).sum("dual16_blob_received_bytes_total", &[])
}

/// What must have come to the worker: the model and its batches.
fn inputs(model: &Path) -> f64 {
    let size = |path: &Path| fs::metadata(path).unwrap().len() as f64;
    let batches = fs::read_dir(model.join("calib")).unwrap();
    let batches: f64 = batches.map(|entry| size(&entry.unwrap().path())).sum();
    size(&model.join("model.onnx")) + batches
}

/// The results of a job, as the Python client brings them.
fn fetch_by_python(server: &ServerProcess, job: &str, to: &Results) -> Finished {
    const SCRIPT: &str =
        "import sys, dual16; dual16.Client(sys.argv[1]).job(sys.argv[2]).fetch(sys.argv[3])";
    let mut command = Command::new(python::interpreter());
    command
        .args(["-c", SCRIPT, &server.url(), job])
        .arg(to.path());
    command.env("PYTHONPATH", repository().join("client/python/src"));
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    let fetch = Process::spawn("dual16.Client", command);
    fetch.wait(Duration::from_secs(60)).success()
}

#[test]
fn a_job_is_done_past_the_server_and_through_it_with_the_same_results() {
    let store = S3::start();
    let here = Results::new();
    let local = Dual16::quantize(&smallmodel()).out(&here.path());
    local.run().success();
    let artifacts = |results: &Results| {
        let mut files = results.files();
        files.remove(PAGE);
        files
    };
    let artifact_bytes: usize = artifacts(&here).values().map(Vec::len).sum();
    // Worker, command line and Python client.
    let all = inputs(&smallmodel()) + 2.0 * artifact_bytes as f64;
    for nowhere in [false, true] {
        let endpoint = ["--presign-endpoint", "http://127.0.0.1:1"];
        let server = start(&store, if nowhere { &endpoint } else { &[] });
        let worker = WorkerProcess::start(&server, "worker", 2);
        let (by_rust, by_python) = (Results::new(), Results::new());
        let name = server.submit(Dual16::quantize(&smallmodel()));
        let watch = Dual16::new(["watch", &name]).on(&server);
        watch.run().success();
        let fetch = Dual16::new(["fetch", &name]).on(&server);
        let fetch = fetch.env("DUAL16_LOG", "warn");
        let rust = fetch.out(&by_rust.path()).run().success();
        let python = fetch_by_python(&server, &name, &by_python);

        by_rust.assert_same_but_job(&here);
        assert!(artifacts(&by_rust) == artifacts(&by_python));
        assert!(received(&worker) >= inputs(&smallmodel()));
        let (calls, sent) = downloads(&server);
        for said in [worker.stderr(), rust.stderr, python.stderr] {
            let warned = said.contains("cannot be had from its store");
            assert_eq!(warned, nowhere, "{said}");
        }
        if nowhere {
            assert!(sent > all, "{sent} bytes in {calls} downloads");
        } else {
            assert!(sent < calls * FEW, "{sent} bytes in {calls} downloads");
            assert!(calls * FEW < all / 10.0, "{calls} downloads prove nothing");
        }
    }
}

#[test]
fn what_was_changed_in_the_store_is_noticed_by_whoever_fetches_it() {
    let store = S3::start();
    let server = start(&store, &["--retry-backoff-millis", "0"]);
    let ended = |name: &str, state: &str| {
        let limit = Duration::from_secs(120);
        server.wait_for(name, limit, |job| job["state"] == state)
    };
    let flip = |file: &Path| store.flip(&Digest::of(&fs::read(file).unwrap()).to_string());

    // By the worker, before it computes anything.
    let name = server.submit(Dual16::quantize(&smallmodel()));
    flip(&smallmodel().join("calib/000.safetensors"));
    let _worker = WorkerProcess::start(&server, "worker", 2);
    let error = ended(&name, "FAILED")["error"].to_string();
    assert!(error.contains("damaged"), "{error}");

    // The server has put it away by then, so that the same command sends it again.
    let name = server.submit(Dual16::quantize(&smallmodel()));
    ended(&name, "SUCCEEDED");

    // By the command line, which keeps nothing of it.
    let (whole, refused) = (Results::new(), Results::new());
    let fetch = |to: &Results| {
        let fetch = Dual16::new(["fetch", &name]).on(&server);
        fetch.out(&to.path()).run()
    };
    fetch(&whole).success();
    flip(&whole.path().join("converted.safetensors"));
    let said = fetch(&refused);
    assert_eq!(said.code(), 1, "{said}");
    assert!(said.stderr.contains("damaged"), "{said}");
    assert_eq!(refused.names(), [""; 0]);
    let (calls, sent) = downloads(&server);
    assert!(sent < calls * FEW, "{sent} bytes in {calls} downloads");
}

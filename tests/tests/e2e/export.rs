//! Spans that leave the process: real programs export to a collector that shares no code with them,
//! and do their work all the same where there is none.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use dual16_tests::{
    Dual16, Results, ServerProcess, WorkerProcess,
    collector::{Collector, Span},
    data::smallmodel,
};

const VARIABLE: &str = "DUAL16_OTLP_ENDPOINT";
/// Of an exit that waits for a collector: the programs give it two seconds.
const EXIT: Duration = Duration::from_secs(15);

#[test]
fn a_collector_gets_one_trace_from_the_command_to_the_kernels() {
    let mut collector = Collector::start();
    let export = ["--otlp-endpoint", &collector.url()];
    let server = ServerProcess::start_with(&export);
    let worker = WorkerProcess::start_with(&server, "worker", &export);
    let out = Results::new();
    Dual16::quantize(&smallmodel())
        .args(["--linear", "*=auto"])
        .out(&out.path())
        .env(VARIABLE, collector.url())
        .on(&server)
        .run()
        .success();
    let jobs = server.ask(&["jobs"]);
    let job = server.ask(&["show", jobs["jobs"][0]["name"].as_str().unwrap()]);
    // In the midst of life, and the rest when they are asked to stop.
    collector.wait_for(|span| span.service == "dual16-server");
    worker.drain().success();
    server.stop().success();

    let spans = collector.finish();
    let trace = job["trace_id"].as_str().unwrap();
    let trace: Vec<&Span> = spans.iter().filter(|span| span.trace == trace).collect();
    let by_id: BTreeMap<&str, &Span> = trace.iter().map(|span| (&*span.id, *span)).collect();
    assert_eq!(by_id.len(), trace.len(), "a span came twice");
    let named = |name| trace.iter().filter(move |span| span.name == name).copied();

    let roots: Vec<_> = trace.iter().filter(|span| span.parent.is_empty()).collect();
    let [command] = roots[..] else {
        panic!("a trace has one root: {roots:#?}")
    };
    assert_eq!((&*command.service, &*command.name), ("dual16", "command"));
    for span in &trace {
        assert!(span.time.0 <= span.time.1, "{span:#?}");
        let Some(parent) = by_id.get(&*span.parent) else {
            assert_eq!(span.id, command.id, "its parent is missing: {span:#?}");
            continue;
        };
        assert!(parent.time.0 <= span.time.0, "{span:#?} of {parent:#?}");
    }

    // The dry run, and the job.
    let mut created: Vec<_> = named("rpc")
        .filter(|span| span.field("rpc") == "JobService/CreateJob")
        .collect();
    created.sort_by_key(|span| span.time);
    let created = created.last().unwrap();
    assert_eq!(created.service, "dual16-server");
    assert_eq!(created.parent, command.id);

    let stages = job["stages"].as_array().unwrap();
    let done = stages.iter().map(|stage| stage["done"].as_u64().unwrap());
    assert_eq!(named("task").count() as u64, done.sum::<u64>());
    let mut seen = BTreeSet::new();
    for task in named("task") {
        assert_eq!(task.service, "dual16-worker");
        assert_eq!(task.parent, created.id, "{task:#?}");
        seen.insert(task.field("stage"));
        let completed = named("rpc")
            .filter(|span| span.parent == task.id && span.field("rpc") == "WorkerService/Complete");
        assert_eq!(completed.count(), 1, "{task:#?}");
    }
    let stages: BTreeSet<_> = ["plan", "observe", "evaluate", "validate", "convert"].into();
    assert_eq!(seen, stages);

    let mut ways = BTreeSet::new();
    for way in named("way") {
        let task = by_id[&*way.parent];
        assert_eq!((&*task.name, task.field("stage")), ("task", "evaluate"));
        ways.insert((way.field("layer"), way.field("way")));
    }
    assert!(ways.len() >= 3 * 5, "{ways:?}");
    for span in named("rpc") {
        let caller = &by_id[&*span.parent].name;
        assert!(["command", "task"].contains(&&**caller), "{span:#?}");
    }
    for span in &spans {
        assert_tells_no_secret(span);
    }

    // There was one job: every file that moved moved for it.
    let moved = |span: &&Span| span.field("rpc").starts_with("BlobService/");
    let of_trace = trace.iter().copied().filter(moved).count();
    assert_eq!(spans.iter().filter(moved).count(), of_trace);
    for (caller, rpc) in [
        ("command", "Upload"),
        ("command", "Download"),
        ("task", "Upload"),
        ("task", "Download"),
    ] {
        let rpc = format!("BlobService/{rpc}");
        let by_caller = |span: &&Span| by_id[&*span.parent].name == caller;
        let mut of_caller = named("rpc").filter(by_caller);
        assert!(
            of_caller.any(|span| span.field("rpc") == rpc),
            "{caller} {rpc}"
        );
    }
}

/// What leaves the machine is decided field by field: none holds a path, a token or a message.
fn assert_tells_no_secret(span: &Span) {
    const FIELDS: [&str; 8] = [
        "attempt", "layer", "rpc", "stage", "target", "task", "trace_id", "way",
    ];
    for (field, value) in &span.attributes {
        assert!(FIELDS.contains(&&**field), "{field} is new: {span:#?}");
        let path = [
            "/home/",
            "/tmp/",
            "/root/",
            env!("CARGO_MANIFEST_DIR"),
            ".onnx",
        ];
        let value = value.to_string();
        assert!(!path.iter().any(|part| value.contains(part)), "{span:#?}");
    }
    assert!(span.line.contains(r#""events": []"#), "{span:#?}");
    assert!(span.line.contains(r#""message": """#), "{span:#?}");
}

#[test]
fn a_collector_may_ask_for_tls() {
    let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let [certificate, key] = ["crt", "key"].map(|name| folder.path().join(name));
    fs::write(&certificate, own.cert.pem()).unwrap();
    fs::write(&key, own.signing_key.serialize_pem()).unwrap();
    let collector = Collector::start_tls(&certificate, &key);
    let server = ServerProcess::start();
    let url = format!("https://{}", collector.address());
    let list = || Dual16::new(["jobs"]).env(VARIABLE, &url).on(&server);
    // The authorities are the system's, which this variable names.
    let known = list().env("SSL_CERT_FILE", &certificate);
    known.run().success();
    let unknown = list().env("DUAL16_LOG", "warn").run().success();
    assert!(unknown.stderr.contains("spans do not reach"), "{unknown}");
    assert_eq!(collector.finish().len(), 1);
}

#[test]
fn a_trace_that_its_caller_does_not_record_is_not_exported() {
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let collector = Collector::start();
    let export = ["--otlp-endpoint", &collector.url()];
    let server = ServerProcess::start_with(&export);
    let worker = WorkerProcess::start_with(&server, "worker", &export);
    let out = Results::new();
    let unrecorded = format!("00-{trace}-b7ad6b7169203331-00");
    Dual16::quantize(&smallmodel())
        .env("TRACEPARENT", unrecorded)
        .env(VARIABLE, collector.url())
        .out(&out.path())
        .on(&server)
        .run()
        .success();
    // Recorded, but by a program that was not told to export.
    let told = Dual16::new(["jobs"])
        // The variables of others do not count as being told.
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url())
        .env("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", collector.url());
    told.on(&server).run().success();
    worker.drain().success();
    server.stop().success();

    let spans = collector.finish();
    let leaked: Vec<_> = spans.iter().filter(|span| span.trace == trace).collect();
    assert!(leaked.is_empty(), "{leaked:#?}");
    let listed = |span: &&Span| span.field("rpc") == "JobService/ListJobs";
    assert_eq!(spans.iter().filter(listed).count(), 1, "{spans:#?}");
    assert!(!spans.iter().any(|span| span.service == "dual16"));
}

#[test]
fn a_collector_that_is_not_there_costs_a_moment_at_the_end_and_a_line() {
    // A port that was free a moment ago, and one whose owner takes everything and never answers.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = closed.local_addr().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_address = silent.local_addr().unwrap();
    thread::spawn(move || {
        let calls: Vec<TcpStream> = silent.incoming().map_while(Result::ok).collect();
        drop(calls);
    });
    for address in [closed, silent_address] {
        let url = format!("http://{address}");
        let export = ["--otlp-endpoint", &url];
        let server = ServerProcess::start_with(&export);
        let worker = WorkerProcess::start_with(&server, "worker", &export);
        let quantize = Dual16::quantize(&smallmodel()).arg("--detach");
        let quantize = quantize.env(VARIABLE, &url).env("DUAL16_LOG", "warn");
        let submitted = quantize.on(&server).run().success();
        let job = submitted.stdout.trim();
        server.wait_for(job, Duration::from_secs(120), |job| {
            job["state"] == "SUCCEEDED"
        });
        let asked = Instant::now();
        let drained = worker.drain().success();
        let stopped = server.stop().success();
        assert!(asked.elapsed() < EXIT, "{:?}", asked.elapsed());
        for ended in [&submitted, &drained, &stopped] {
            let lines = ended.stderr.matches("spans do not reach").count();
            assert_eq!(lines, 1, "{ended}");
            assert!(ended.stderr.contains("--otlp-endpoint"), "{ended}");
        }
    }
}

#[test]
fn what_is_no_collectors_url_is_refused_or_said() {
    for bad in ["127.0.0.1:4317", "ftp://127.0.0.1:4317", "http://", ""] {
        let flags = ["--otlp-endpoint", bad];
        let refused = WorkerProcess::refused(&flags);
        assert_ne!(refused.code(), 0, "{refused}");
        let named = refused.stderr.contains("--otlp-endpoint");
        assert!(
            named && refused.stderr.contains("http://127.0.0.1:4317"),
            "{refused}"
        );
    }
    // A command does its work all the same, and says why nobody will see its spans.
    let server = ServerProcess::start();
    let listed = Dual16::new(["jobs"]).env(VARIABLE, "127.0.0.1:4317");
    let listed = listed.on(&server).run().success();
    assert!(listed.stderr.contains(VARIABLE), "{listed}");
}

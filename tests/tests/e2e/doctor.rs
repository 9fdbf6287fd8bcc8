//! `dual16 doctor` against what it will meet: all well, no worker, nothing there, something else
//! there, and nothing but this machine.

use std::net::TcpListener;

use dual16_tests::{Dual16, Finished, ServerProcess, WorkerProcess};
use serde_json::Value;

#[test]
fn a_server_with_a_worker_passes_every_check_and_keeps_nothing() {
    let server = ServerProcess::start();
    let _worker = WorkerProcess::start(&server, "worker", 1);
    let (run, report) = examine(&["--server", &server.url(), "--deadline", "120"]);
    assert_eq!(run.code(), 0, "{run}");
    assert_eq!(report["healthy"], true);
    let checks = report["checks"].as_array().unwrap();
    assert!(
        checks.iter().all(|check| check["verdict"] == "ok"),
        "{report:#}"
    );
    let names: Vec<_> = checks
        .iter()
        .map(|check| check["check"].as_str().unwrap())
        .collect();
    let all = [
        "name", "tcp", "tls", "grpc", "access", "version", "clock", "latency", "limits", "blob",
        "dry run", "job",
    ];
    assert_eq!(names, all);
    assert_eq!(server.ask(&["jobs"])["jobs"], Value::Array(Vec::new()));
}

#[test]
fn a_server_without_a_worker_works_with_a_warning_that_says_so() {
    let server = ServerProcess::start();
    let (run, report) = examine(&["--server", &server.url(), "--deadline", "1"]);
    assert_eq!(run.code(), 0, "{run}");
    let job = check(&report, "job");
    assert_eq!(job["verdict"], "warn");
    assert!(
        job["found"].as_str().unwrap().starts_with("no worker"),
        "{job}"
    );
    assert!(
        job["remedy"].as_str().unwrap().contains("dual16-worker"),
        "{job}"
    );
    assert_eq!(server.ask(&["jobs"])["jobs"], Value::Array(Vec::new()));

    let table = Dual16::new(["doctor", "--deadline", "1"])
        .on(&server)
        .run()
        .success();
    assert!(table.stdout.contains("→ start a dual16-worker"), "{table}");
    assert!(
        table
            .stdout
            .trim_end()
            .ends_with("it works, with 1 warning"),
        "{table}"
    );
}

#[test]
fn a_closed_port_fails_with_the_remedy_and_the_rest_is_skipped() {
    // A port that was free a moment ago and that nobody listens on.
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let (run, report) = examine(&["--server", &format!("http://127.0.0.1:{port}")]);
    assert_eq!(run.code(), 1, "{run}");
    assert_eq!(check(&report, "tcp")["verdict"], "fail");
    let remedy = check(&report, "tcp")["remedy"].as_str().unwrap();
    assert!(
        remedy.contains("dual16-server") && remedy.contains(&port.to_string()),
        "{remedy}"
    );
    for name in [
        "tls", "grpc", "access", "version", "clock", "blob", "dry run", "job",
    ] {
        assert_eq!(check(&report, name)["verdict"], "skipped", "{name}");
    }
    assert!(run.stderr.contains("1 of the checks failed"), "{run}");
}

#[test]
fn names_and_urls_that_cannot_be_are_told_apart() {
    let (run, report) = examine(&["--server", "http://no-such-host.invalid:7016"]);
    assert_eq!(
        (run.code(), &check(&report, "name")["verdict"]),
        (1, &Value::from("fail"))
    );
    let (run, report) = examine(&["--server", "ftp://host:1"]);
    assert_eq!(
        (run.code(), &check(&report, "url")["verdict"]),
        (1, &Value::from("fail"))
    );
}

#[test]
fn a_port_of_something_else_is_reached_but_is_no_server() {
    let server = ServerProcess::start();
    // The ops port speaks HTTP/1 only.
    let (run, report) = examine(&["--server", &format!("http://{}", server.ops())]);
    assert_eq!(run.code(), 1, "{run}");
    assert_eq!(check(&report, "tcp")["verdict"], "ok");
    assert_eq!(check(&report, "grpc")["verdict"], "fail");
    assert_eq!(check(&report, "job")["verdict"], "skipped");
}

#[test]
fn without_a_server_this_machine_is_examined() {
    let (run, report) = examine(&["--deadline", "120"]);
    assert_eq!(run.code(), 0, "{run}");
    assert_eq!(check(&report, "job")["verdict"], "ok", "{report:#}");
}

fn examine(arguments: &[&str]) -> (Finished, Value) {
    let run = Dual16::new(["doctor", "--output", "json"])
        .args(arguments)
        .run();
    let report = serde_json::from_str(&run.stdout);
    let report = report.unwrap_or_else(|error| panic!("no JSON ({error}): {run}"));
    (run, report)
}

fn check<'a>(report: &'a Value, name: &str) -> &'a Value {
    let checks = report["checks"].as_array().unwrap();
    let found = checks.iter().find(|check| check["check"] == name);
    found.unwrap_or_else(|| panic!("no check {name}: {report:#}"))
}

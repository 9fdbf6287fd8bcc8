//! What `dual16 doctor` and a worker's readiness say to somebody who is kept out.

use std::{
    ffi::OsString,
    fs, thread,
    time::{Duration, Instant},
};

use dual16_tests::{Dual16, ops::get};
use serde_json::Value;

use super::{
    LIMIT,
    secured::{Authority, Secured},
};

#[test]
fn doctor_says_at_which_step_a_caller_is_kept_out_and_what_lets_it_in() {
    let mut server = Secured::start_mutual();
    let submitter = server.token("ann", "submit");
    let worker = server.token("workers", "worker");
    server.reload();
    let certificate = server.client_certificate();
    let all = |token: &std::path::Path| {
        let token = ["--token-file".into(), token.as_os_str().to_owned()];
        [&server.flags(&certificate)[..], &token].concat()
    };
    let stranger = server.file("stranger", &Authority::new().pem());
    let trusting = |url: &str, ca: &std::path::Path| -> Vec<OsString> {
        vec!["--server".into(), url.into(), "--tls-ca".into(), ca.into()]
    };
    let wrong = server.file("wrong", "dual16_00");
    let plain = Secured::start_plain();
    let expired = Secured::start_expired();
    let http = vec![
        "--server".into(),
        server.url().replace("https", "http").into(),
    ];
    let https = trusting(&plain.url().replace("http", "https"), &stranger);

    let good = examine(&all(&submitter));
    for check in ["tls", "grpc", "access", "dry run"] {
        assert_eq!(verdict(&good, check), "ok", "{good:#}");
    }
    for (arguments, check, remedy) in [
        (trusting(&server.url(), &stranger), "tls", "--tls-ca"),
        (http, "tls", "use https://"),
        (https, "tls", "use http://"),
        (expired.trust(), "tls", "have it renewed"),
        (server.trust(), "tls", "--tls-cert"),
        (server.flags(&certificate), "access", "--token-file"),
        (all(&wrong), "access", "token new"),
        (all(&worker), "dry run", "may submit"),
    ] {
        let report = examine(&arguments);
        assert_eq!(report["healthy"], false, "{report:#}");
        let checks = report["checks"].as_array().unwrap();
        let failed: Vec<_> = checks
            .iter()
            .filter(|one| one["verdict"] == "fail")
            .collect();
        let [failed] = failed[..] else {
            panic!("one thing is wrong: {report:#}")
        };
        assert_eq!(failed["check"], check, "{report:#}");
        let said = failed["remedy"].as_str().unwrap();
        assert!(said.contains(remedy), "{report:#}");
        assert_eq!(verdict(&report, "job"), "skipped", "{report:#}");
    }
}

fn examine(arguments: &[OsString]) -> Value {
    let command = Dual16::new(["doctor", "--output", "json", "--deadline", "1"]);
    let run = command.args(arguments).run();
    serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("no JSON ({error}): {run}"))
}

fn verdict<'a>(report: &'a Value, check: &str) -> &'a str {
    let checks = report["checks"].as_array().unwrap();
    let found = checks.iter().find(|one| one["check"] == check);
    found.and_then(|one| one["verdict"].as_str()).unwrap()
}

#[test]
fn a_worker_that_gets_no_tasks_is_not_ready_until_its_token_lets_it() {
    let mut server = Secured::start_mutual();
    let token = server.token("ann", "submit");
    let right = server.token("workers", "worker");
    server.reload();
    let port_file = server.folder().join("ops");
    let more: Vec<OsString> = vec![
        "--token-file".into(),
        token.clone().into(),
        "--ops-listen".into(),
        "127.0.0.1:0".into(),
        "--ops-port-file".into(),
        port_file.clone().into(),
    ];
    let worker = server.worker_and(&server.client_certificate(), &more);
    let deadline = Instant::now() + LIMIT;
    let wait = |wanted: &str| loop {
        let found = match fs::read_to_string(&port_file) {
            Ok(address) => get(address.trim(), "/readyz").body,
            Err(_) => "no port".to_owned(),
        };
        if found.starts_with(wanted) {
            return;
        }
        assert!(Instant::now() < deadline, "{found}: {}", worker.stderr());
        thread::sleep(Duration::from_millis(50));
    };
    wait("the server refuses to give tasks");
    fs::copy(right, token).unwrap();
    wait("ready");
    let lines = worker.stderr().matches("refuses to give tasks").count();
    assert_eq!(lines, 1, "{}", worker.stderr());
}

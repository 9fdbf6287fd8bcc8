//! Tokens, TLS and client certificates as people use them: real programs, their flags and variables,
//! and what they say when something does not fit.

mod examined;
mod keda;
mod secured;

use std::{process::Command, time::Duration};

use dual16_tests::{Dual16, Results, data::smallmodel, process::Finished, results::FILES};

use self::secured::{Authority, Secured};

const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn a_job_runs_over_mutual_tls_and_is_its_owners_alone() {
    let mut server = Secured::start_mutual();
    let ann = server.token("ann", "submit");
    let bob = server.token("bob", "submit");
    let certificates = server.client_certificate();
    server.certificate_entry("workers", "worker");
    server.reload();
    let _worker = server.worker(&certificates);

    let as_ann = |command: Dual16| {
        let command = command.args(server.flags(&certificates));
        command.arg("--token-file").arg(&ann)
    };
    let quantize = as_ann(Dual16::quantize(&smallmodel())).arg("--detach");
    let job = quantize.run().success().stdout.trim().to_owned();
    let watched = as_ann(Dual16::new(["watch", &job])).spawn().wait(LIMIT);
    watched.success();
    let out = Results::new();
    let fetch = as_ann(Dual16::new(["fetch", &job])).out(&out.path());
    fetch.run().success();
    assert_eq!(out.names(), FILES);

    // The token in a variable; a certificate that stands for a worker does not matter beside it.
    let secret = std::fs::read_to_string(&bob).unwrap();
    let as_bob = |command: &[&str]| {
        let mut env = Command::new("env");
        env.arg(format!("DUAL16_TOKEN={}", secret.trim()));
        let command = Dual16::new(command).args(server.flags(&certificates));
        command.inside(env).run()
    };
    let show = as_bob(&["show", &job]);
    assert_eq!(show.code(), 2, "{show}");
    assert!(show.stderr.contains("JOB_NOT_FOUND"), "{show}");
    let listed = as_bob(&["jobs", "--output", "json"]).success();
    assert!(!listed.stdout.contains(&job), "{listed}");

    let secrets = [&ann, &bob].map(|token| std::fs::read_to_string(token).unwrap());
    let log = server.stop();
    for secret in secrets {
        assert!(!log.stderr.contains(secret.trim()), "a token is in the log");
    }
}

/// `dual16 jobs` with these arguments ends with this code and says this.
fn refused(arguments: Dual16, code: i32, said: &str) {
    let ended: Finished = arguments.run();
    assert_eq!(ended.code(), code, "{ended}");
    assert!(ended.stderr.contains(said), "{said:?}: {ended}");
}

#[test]
fn what_does_not_fit_is_said_with_what_would() {
    let mut mutual = Secured::start_mutual();
    let token = mutual.token("ann", "submit");
    mutual.reload();
    let certificates = mutual.client_certificate();
    let jobs = || Dual16::new(["jobs"]);
    let with_all = || jobs().args(mutual.flags(&certificates));

    refused(with_all(), 2, "--token-file");
    let wrong = mutual.file("wrong", "dual16_00");
    refused(with_all().arg("--token-file").arg(wrong), 2, "not known");
    let empty = mutual.file("empty", "\n");
    refused(
        with_all().arg("--token-file").arg(empty),
        2,
        "holds no token",
    );
    let with_token = |command: Dual16| command.arg("--token-file").arg(&token);
    with_token(with_all()).run().success();

    let https = mutual.url();
    let on = |url: &str| with_token(jobs()).args(["--server", url]);
    let ca = mutual.file("ca", &mutual.authority().pem());
    refused(
        on(&https).arg("--tls-ca").arg(&ca),
        3,
        "name one with --tls-cert and --tls-key",
    );
    refused(
        on(&https),
        3,
        "name that authority's certificate with --tls-ca",
    );
    let stranger = mutual.file("stranger", &Authority::new().pem());
    refused(
        on(&https).arg("--tls-ca").arg(stranger),
        3,
        "not trusted here",
    );
    let foreign = Authority::new().client_files(mutual.folder());
    let foreign = with_token(jobs().args(mutual.flags(&foreign)));
    refused(foreign, 3, "does not accept the client certificate");
    refused(on(&https.replace("https", "http")), 3, "use https://");
    let half = on(&https).arg("--tls-cert").arg(&ca);
    refused(half, 2, "--tls-cert needs --tls-key");
    let no_pem = on(&https).arg("--tls-ca").arg(&token);
    refused(no_pem, 2, "holds no certificate");

    let expired = Secured::start_expired();
    refused(jobs().args(expired.trust()), 3, "has expired");
    let misnamed = Secured::start_for(&["other.example"]);
    refused(jobs().args(misnamed.trust()), 3, "other.example");

    let plain = Secured::start_plain();
    let trusting = jobs().args(["--server", &plain.url().replace("http", "https")]);
    refused(trusting, 3, "does not speak TLS; use http://");
    let trusting = jobs().args(["--server", &plain.url(), "--tls-ca"]).arg(&ca);
    refused(trusting, 2, "does not begin with https://");
    // An address that nobody has: the token stays here because nothing is sent at all.
    refused(on("http://192.0.2.1:7016"), 2, "in the clear");
}

#[test]
fn a_worker_that_is_not_let_in_says_why() {
    let mut server = Secured::start_mutual();
    let certificates = server.client_certificate();
    let token = server.token("ann", "submit");
    server.reload();
    let ended = server.worker(&certificates).wait(LIMIT);
    assert_eq!(ended.code(), 1, "{ended}");
    assert!(ended.stderr.contains("asks who is calling"), "{ended}");
    let flags = [certificates, vec!["--tls-ca".into(), token.clone()]].concat();
    let ended = server.worker_with(&flags).wait(LIMIT);
    let said = "holds no certificate";
    assert_eq!(ended.stderr.matches(said).count(), 1, "{ended}");
    assert!(ended.stderr.starts_with("error: "), "{ended}");
}

//! Blobs in an object store: a job whose files lie there, and a server that cannot have it.

use std::{process::Command, time::Duration};

use dual16_tests::{
    Dual16, Results, ServerProcess, WorkerProcess, data::smallmodel, process::Process,
    programs::program,
};

/// A part of the bucket of its own.
fn place(test: &str) -> String {
    let bucket = std::env::var("DUAL16_TEST_S3").unwrap_or_else(|_| {
        panic!(
            "DUAL16_TEST_S3 must be the URL of a bucket for tests, s3://BUCKET, with its AWS_* variables; ./test starts a server that has one"
        )
    });
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    format!("{bucket}/{test}-{}-{}", std::process::id(), now.as_nanos())
}

#[test]
fn a_job_has_its_files_in_a_bucket_and_gives_what_it_gives_elsewhere() {
    let place = place("job");
    let mut server = ServerProcess::start_with(&["--blobs", &place]);
    let _worker = WorkerProcess::start(&server, "worker", 2);
    let name = server.submit(Dual16::quantize(&smallmodel()));
    server.wait_for(&name, Duration::from_secs(120), |job| {
        job["state"] == "SUCCEEDED"
    });
    // The job outlives its server, and so do its files.
    server.restart();
    assert!(!server.state().join("blobs").exists());
    let (from_bucket, here) = (Results::new(), Results::new());
    Dual16::new(["fetch", &name])
        .on(&server)
        .out(&from_bucket.path())
        .run()
        .success();
    Dual16::quantize(&smallmodel())
        .out(&here.path())
        .run()
        .success();
    from_bucket.assert_same_but_job(&here);
}

#[test]
fn a_server_that_may_not_use_its_bucket_says_which_and_what_it_was_told() {
    let place = place("refused");
    let data = tempfile::tempdir().unwrap();
    let refused = |url: &str| {
        let mut command = Command::new(program("dual16-server"));
        command.args(["--listen", "127.0.0.1:0", "--blobs", url]);
        command.arg("--data").arg(data.path().join("state"));
        command.env("AWS_SECRET_ACCESS_KEY", "not-the-secret");
        let finished = Process::spawn("dual16-server", command).wait(Duration::from_secs(60));
        assert_ne!(finished.code(), 0);
        assert!(!finished.stderr.contains("not-the-secret"), "{finished}");
        finished.stderr
    };
    let stderr = refused(&place);
    assert!(stderr.contains(&format!("--blobs {place}: ")), "{stderr}");
    assert!(stderr.contains("SignatureDoesNotMatch"), "{stderr}");
    assert!(stderr.contains("the bucket must be there"), "{stderr}");
    let stderr = refused("s3://key:not-the-secret@bucket/prefix");
    assert!(
        stderr.contains("credentials come from the environment"),
        "{stderr}"
    );
}

//! What the server keeps and for whom, over loopback: collection of blobs, retention, quotas; and
//! workers it keeps at a distance.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "the helpers of tests fail as the tests themselves do"
)]

mod support;

use std::time::{Duration, Instant};

use dual16_proto::v1::{self, complete_request::Next};
use dual16_server::{limits::Limits, store::Retention, upkeep::Keeping};
use support::*;
use tonic::Code;

const GRACE: Duration = Duration::from_millis(400);

fn short_grace() -> Keeping {
    Keeping {
        jobs: Retention::default(),
        blob_grace: GRACE,
        ..Keeping::default()
    }
}

async fn missing(server: &TestServer, digests: &[&str]) -> Vec<String> {
    let request = v1::FindMissingRequest {
        digests: digests.iter().map(|digest| (*digest).to_owned()).collect(),
    };
    let answer = server.blobs.clone().find_missing(request).await.unwrap();
    answer.into_inner().missing
}

#[tokio::test]
async fn a_deleted_job_frees_its_blobs_and_no_others() {
    let data = tempfile::tempdir().unwrap();
    let server = serve_keeping(data.path(), Limits::default(), short_grace()).await;
    let job = server.create("").await;
    // A blob that only an opaque payload knows of, and an artifact.
    let inner = server.upload(b"left for later tasks").await.digest;
    let artifact = server.upload(b"artifact").await.digest;
    let plan = server.lease_one().await;
    let finish = v1::Finish {
        artifacts: vec![v1::Artifact {
            name: "out.bin".into(),
            digest: artifact.clone(),
            size: 8,
        }],
    };
    let done = v1::CompleteRequest {
        blobs: vec![inner.clone()],
        next: Some(Next::Finish(finish)),
        ..completion(&plan, "done")
    };
    server.complete(done).await.unwrap();
    let v1::job_spec::Model::Onnx(onnx) = job.spec.unwrap().model.unwrap() else {
        panic!()
    };
    let model = onnx.model.unwrap().digest;
    // Long past the grace, everything that the job needs is there.
    tokio::time::sleep(3 * GRACE).await;
    let all = [model.as_str(), &inner, &artifact];
    assert_eq!(missing(&server, &all).await, Vec::<String>::new());

    let delete = v1::DeleteJobRequest { name: job.name };
    server.jobs.clone().delete_job(delete).await.unwrap();
    let blobs = data.path().join("blobs/sha256");
    let files = || {
        let shards = std::fs::read_dir(&blobs).unwrap();
        let files = shards.map(|shard| std::fs::read_dir(shard.unwrap().path()).unwrap().count());
        files.sum::<usize>()
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    while files() > 0 {
        assert!(
            Instant::now() < deadline,
            "{} blobs were not collected",
            files()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(missing(&server, &all).await, all);
}

#[tokio::test]
async fn an_ended_job_goes_when_its_time_is_over() {
    let keeping = Keeping {
        jobs: Retention {
            keep_for: Some(Duration::from_secs(3600)),
            max_jobs: None,
        },
        ..short_grace()
    };
    let data = tempfile::tempdir().unwrap();
    let server = serve_keeping(data.path(), Limits::default(), keeping).await;
    let (ended, open) = (server.create("").await, server.create("").await);
    let cancel = v1::CancelJobRequest {
        name: ended.name.clone(),
    };
    server.jobs.clone().cancel_job(cancel).await.unwrap();
    server.clock.advance(Duration::from_secs(3601));
    let request = v1::GetJobRequest { name: ended.name };
    let deadline = Instant::now() + Duration::from_secs(20);
    while server.jobs.clone().get_job(request.clone()).await.is_ok() {
        assert!(Instant::now() < deadline, "the job was not removed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(server.job(&open.name).await.state(), v1::JobState::Pending);
}

#[tokio::test]
async fn beyond_a_quota_the_error_says_which() {
    let limits = Limits {
        owner_jobs: 1,
        stored_bytes: 100,
        ..Limits::default()
    };
    let server = serve_limited(limits).await;
    let first = server.create("").await;
    let request = submission(first.spec.clone().unwrap());
    let refused = server.jobs.clone().create_job(request).await.unwrap_err();
    let details = assert_refused(&refused, Code::ResourceExhausted, "QUOTA_EXCEEDED");
    let violation = &details.quota_failure().unwrap().violations[0];
    assert_eq!(violation.subject, "anonymous");
    assert!(
        violation.description.contains("quota of 1"),
        "{violation:?}"
    );

    let message = v1::UploadRequest {
        digest: dual16_server::digest::Digest::of(&[7; 100]).to_string(),
        size: 100,
        offset: 0,
        data: vec![7; 100].into(),
    };
    let upload = tokio_stream::once(message);
    let refused = server.blobs.clone().upload(upload).await.unwrap_err();
    let details = assert_refused(&refused, Code::ResourceExhausted, "QUOTA_EXCEEDED");
    assert!(details.quota_failure().is_some() && details.retry_info().is_some());
}

#[tokio::test]
async fn a_worker_that_fails_everything_gets_nothing_until_a_result_clears_it() {
    let server = serve_new().await;
    for _ in 0..7 {
        server.create("").await;
    }
    let mut leases = server.lease(7, Duration::from_secs(3)).await;
    let good = leases.pop().unwrap();
    let why = "no space left in the cache";
    let bad_input = leases.pop().unwrap();
    server.fail(&bad_input, "IO", why, true).await.unwrap();
    for lease in &leases {
        server.fail(lease, "IO", why, false).await.unwrap();
    }
    let ask = async |worker: &str| ask(&server, worker, 1).await;
    let answer = ask("fake").await;
    assert_eq!(answer.leases, []);
    assert_eq!(answer.quarantined_for.map(|time| time.seconds), Some(60));
    let request = v1::GetInfoRequest {};
    let info = server.info.clone().get_info(request).await.unwrap();
    assert_eq!(info.into_inner().quarantined_workers, 1);
    // Another one is not concerned, and a result of what it still had clears this one.
    assert_eq!(ask("healthy").await.leases.len(), 1);
    server.complete(do_task(&good)).await.unwrap();
    let answer = ask("fake").await;
    assert_eq!((answer.leases.len(), answer.quarantined_for), (1, None));
}

#[tokio::test]
async fn what_every_worker_would_meet_is_held_against_none() {
    let server = serve_new().await;
    for _ in 0..7 {
        server.create("").await;
    }
    let leases = server.lease(6, Duration::from_secs(3)).await;
    let codes = [
        "MEMORY_LIMIT",
        "RESULT_REFUSED",
        "STORAGE_FULL",
        "TASK_PROCESS_DIED",
    ];
    for (lease, code) in leases.iter().zip(codes.into_iter().cycle()) {
        server.fail(lease, code, "too much", false).await.unwrap();
    }
    let answer = ask(&server, "fake", 1).await;
    assert_eq!((answer.leases.len(), answer.quarantined_for), (1, None));
}

#[tokio::test]
async fn a_crash_is_one_failure_of_its_worker() {
    let server = serve_new().await;
    let mut jobs = Vec::new();
    for _ in 0..6 {
        jobs.push(server.create("").await);
    }
    assert_eq!(server.lease(6, Duration::from_secs(3)).await.len(), 6);
    let run_out = async || {
        server.clock.advance(Duration::from_secs(2));
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let info = server.info.clone().get_info(v1::GetInfoRequest {}).await;
            if info.unwrap().into_inner().leased_tasks == 0 {
                return;
            }
            assert!(Instant::now() < deadline, "the leases did not run out");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    run_out().await;
    // Under the same name, and not put aside.
    for _ in 0..2 {
        assert_eq!(server.lease(6, Duration::from_secs(3)).await.len(), 6);
        run_out().await;
    }
    let failed = server.job(&jobs[0].name).await;
    assert_eq!(failed.error.unwrap().attempts.len(), 3);
}

/// Asks for tasks.
async fn ask(server: &TestServer, worker: &str, max_tasks: u32) -> v1::LeaseResponse {
    let request = v1::LeaseRequest {
        worker: worker.into(),
        max_tasks,
        max_wait: None,
        jobs: Vec::new(),
    };
    let answer = server.workers.clone().lease(request).await;
    answer.unwrap().into_inner()
}

#[tokio::test]
async fn a_lease_tells_what_is_left_of_the_deadline_of_its_job() {
    let server = serve_new().await;
    let spec = v1::JobSpec {
        deadline_seconds: 100,
        ..server.spec().await
    };
    let request = submission(spec);
    let job = server.jobs.clone().create_job(request).await.unwrap();
    let name = job.into_inner().name;
    // What it waits counts.
    server.clock.advance(Duration::from_secs(50));
    let plan = server.lease_one().await;
    let left = |lease: &v1::Lease| lease.job_deadline.unwrap().seconds;
    assert_eq!(left(&plan), 50);
    server.clock.advance(Duration::from_millis(500));
    server.complete(do_task(&plan)).await.unwrap();
    let map = server.lease_one().await;
    assert_eq!(left(&map), 49);
    let cancel = v1::CancelJobRequest { name: name.clone() };
    server.jobs.clone().cancel_job(cancel).await.unwrap();
    server.clock.advance(Duration::from_secs(1000));
    // Whoever retries it gives it its time once more.
    let retry = v1::RetryJobRequest { name };
    server.jobs.clone().retry_job(retry).await.unwrap();
    assert_eq!(left(&server.lease_one().await), 100);
}

//! Jobs over loopback: the whole way, watching, leases, restarts, idempotency.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "the helpers of tests fail as the tests themselves do"
)]

mod support;

use std::time::Duration;

use dual16_proto::v1::{self, complete_request::Next, event_detail::Detail};
use dual16_server::{ServerOptions, StartError, digest::Digest, limits::Limits, start};
use prost::Message as _;
use support::*;
use tokio::net::TcpListener;
use tonic::Code;

#[tokio::test]
async fn a_job_runs_from_plan_to_finish_and_can_be_watched_from_anywhere() {
    let server = serve_new().await;
    let job = server.create("").await;
    assert_eq!(
        (job.state(), job.display_name.as_str()),
        (v1::JobState::Pending, "model.onnx")
    );
    let (all, ()) = tokio::join!(server.watch(&job.name, 0), async {
        for _ in 0..4 {
            server.work_once().await;
        }
        let reduce = server.lease_one().await;
        assert_eq!(
            (reduce.kind(), reduce.payload.clone()),
            (v1::TaskKind::Reduce, Some(inline("reduce")))
        );
        let expected: Vec<_> = (0..3).map(|i| inline(&format!("result {i}"))).collect();
        assert_eq!(reduce.inputs, expected);
        assert_eq!(reduce.spec_digest, job.spec_digest);
        assert_eq!(server.job_spec(&reduce).await.ok(), job.spec);
        server.complete(do_task(&reduce)).await.unwrap();
    });
    let ended = server.job(&job.name).await;
    assert_eq!(ended.state(), v1::JobState::Succeeded);
    assert!(
        ended
            .stages
            .iter()
            .all(|stage| stage.done == stage.tasks && stage.running == 0)
    );
    assert!(ended.end_time.is_some());
    let sequences: Vec<_> = all.iter().map(|event| event.sequence).collect();
    assert_eq!(sequences, (1..=ended.last_sequence).collect::<Vec<_>>());
    let last = all.last().and_then(|event| event.detail.clone()?.detail);
    assert!(matches!(last, Some(Detail::StateChanged(changed))
        if changed.state() == v1::JobState::Succeeded));
    // From the middle, from the end, and from beyond it.
    assert_eq!(server.watch(&job.name, 4).await, all[4..]);
    assert_eq!(server.watch(&job.name, ended.last_sequence).await, []);
    let refused = no(server.watching(&job.name, 999)).await;
    assert_refused(&refused, Code::OutOfRange, "SEQUENCE_OUT_OF_RANGE");
    server.server.shutdown(Duration::from_secs(2)).await;
}

/// A job that names a thousand files has a thousand tasks: what its spec costs is told once.
#[tokio::test]
async fn the_leases_of_a_thousand_batches_grow_with_their_number_and_not_its_square() {
    const BATCHES: usize = 1000;
    let server = serve_new().await;
    let mut spec = server.spec().await;
    let batch = spec.calibration.remove(0);
    let file = |i| v1::InputFile {
        name: format!("calib/{i:04}.npz"),
        ..batch.clone()
    };
    spec.calibration = (0..BATCHES).map(file).collect();
    let request = submission(spec.clone());
    server.jobs.clone().create_job(request).await.unwrap();
    let plan = server.lease_one().await;
    let told = server.job_spec(&plan).await.unwrap();
    assert_eq!(told, spec);
    assert_eq!(plan.spec_size, told.encoded_len() as u64);
    assert_eq!(
        plan.spec_digest,
        Digest::of(&told.encode_to_vec()).to_string()
    );
    let stage = v1::Stage {
        name: "observe".into(),
        maps: (0..BATCHES).map(|i| inline(&format!("map {i}"))).collect(),
        reduce: Some(inline("reduce")),
        expected_seconds: 0,
    };
    let next = Some(Next::Stage(stage));
    let planned = v1::CompleteRequest {
        next,
        ..completion(&plan, "")
    };
    server.complete(planned).await.unwrap();
    let (mut leases, mut bytes) = (1, plan.encoded_len() + told.encoded_len());
    while leases <= BATCHES {
        let leased = server.lease(64, Duration::from_secs(3)).await;
        leases += leased.len();
        bytes += leased.iter().map(v1::Lease::encoded_len).sum::<usize>();
    }
    println!(
        "{leases} leases and a spec of {} bytes: {bytes} bytes",
        told.encoded_len()
    );
    let largest = 512;
    assert!(bytes < told.encoded_len() + leases * largest, "{bytes}");
    ok(server.workers.clone().release(v1::ReleaseRequest {
        worker: "fake".into(),
        leases: vec![lease_ref(&plan)],
    }))
    .await;
    let lost = server.job_spec(&plan).await.unwrap_err();
    assert_eq!(reason(&lost).0, "LEASE_LOST");
}

#[tokio::test]
async fn a_waiting_worker_is_woken_and_an_idle_one_gets_an_empty_answer() {
    let server = serve_new().await;
    assert!(server.lease(1, Duration::from_millis(20)).await.is_empty());
    let (leased, _) = tokio::join!(server.lease(1, Duration::from_secs(20)), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        server.create("").await
    });
    assert_eq!(leased.len(), 1);
}

#[tokio::test]
async fn a_silent_worker_loses_its_task_and_cannot_write_any_more() {
    let server = serve_new().await;
    let job = server.create("").await;
    let zombie = server.lease_one().await;
    let heartbeat = v1::HeartbeatRequest {
        worker: "fake".into(),
        leases: vec![lease_ref(&zombie)],
    };
    let answer = ok(server.workers.clone().heartbeat(heartbeat.clone())).await;
    assert_eq!(answer.revoked, []);
    server.clock.advance(Duration::from_secs(2));
    let holder = server.lease_one().await;
    assert_eq!(
        (holder.task.as_str(), holder.attempt),
        (zombie.task.as_str(), 2)
    );
    let answer = ok(server.workers.clone().heartbeat(heartbeat)).await;
    assert_eq!(answer.revoked, [lease_ref(&zombie)]);
    let refused = server.complete(do_task(&zombie)).await.unwrap_err();
    assert_refused(&refused, Code::FailedPrecondition, "LEASE_LOST");
    server.complete(do_task(&holder)).await.unwrap();
    server.complete(do_task(&holder)).await.unwrap();
    let done = server.job(&job.name).await.stages[0].done;
    assert_eq!(done, 1);
}

#[tokio::test]
async fn cancelling_revokes_and_retrying_goes_on() {
    let server = serve_new().await;
    let job = server.create("").await;
    server.work_once().await;
    server.work_once().await;
    let running = server.lease_one().await;
    let name = job.name.clone();
    let deletion = v1::DeleteJobRequest { name: name.clone() };
    let refused = no(server.jobs.clone().delete_job(deletion.clone())).await;
    assert_eq!(reason(&refused).0, "JOB_NOT_ENDED");
    let cancel = v1::CancelJobRequest { name: name.clone() };
    let cancelled = ok(server.jobs.clone().cancel_job(cancel)).await;
    assert_eq!(cancelled.state(), v1::JobState::Cancelled);
    let refused = server.complete(do_task(&running)).await.unwrap_err();
    assert_eq!(reason(&refused).0, "LEASE_LOST");
    let retry = v1::RetryJobRequest { name: name.clone() };
    let retried = ok(server.jobs.clone().retry_job(retry.clone())).await;
    assert_eq!(
        (retried.state(), retried.stages[1].done),
        (v1::JobState::Running, 1)
    );
    for _ in 0..3 {
        server.work_once().await;
    }
    assert_eq!(server.job(&name).await.state(), v1::JobState::Succeeded);
    let refused = server.jobs.clone().retry_job(retry).await.unwrap_err();
    assert_eq!(reason(&refused).0, "JOB_NOT_RETRYABLE");
    server.jobs.clone().delete_job(deletion).await.unwrap();
    let gone = no(server.jobs.clone().get_job(v1::GetJobRequest { name })).await;
    assert_refused(&gone, Code::NotFound, "JOB_NOT_FOUND");
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let data = tempfile::tempdir().unwrap();
    let server = serve(data.path()).await;
    let job = server.create("once").await;
    server.work_once().await;
    server.work_once().await;
    let running = server.lease_one().await;
    let before = server.job(&job.name).await;

    let survivor = tempfile::tempdir().unwrap();
    copy_dir(data.path(), survivor.path());
    let restarted = serve(survivor.path()).await;
    assert_eq!(restarted.job(&job.name).await, before);
    assert_eq!(restarted.create("once").await.name, job.name);
    // The worker never noticed: its lease still holds.
    restarted.complete(do_task(&running)).await.unwrap();
    restarted.work_once().await;
    restarted.work_once().await;
    assert_eq!(
        restarted.job(&job.name).await.state(),
        v1::JobState::Succeeded
    );
    let events = restarted.watch(&job.name, before.last_sequence).await;
    assert_eq!(events[0].sequence, before.last_sequence + 1);
}

#[tokio::test]
async fn a_stopped_server_frees_its_directory_and_ends_its_streams() {
    let data = tempfile::tempdir().unwrap();
    let server = serve(data.path()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let second = start(ServerOptions::new(data.path()), listener).await;
    assert!(matches!(second.err(), Some(StartError::InUse { .. })));

    let job = server.create("").await;
    let mut watching = server.watching(&job.name, 0).await.unwrap();
    assert!(watching.message().await.unwrap().is_some());
    server.work_once().await;
    let poll = server.workers.clone();
    let begun = std::time::Instant::now();
    server.server.shutdown(Duration::from_millis(500)).await;
    assert!(begun.elapsed() < Duration::from_secs(3));
    drop(poll);
    let ended = loop {
        match watching.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("an open job's stream must not end as if it were over"),
            Err(status) => break status,
        }
    };
    assert_refused(&ended, Code::Unavailable, "SHUTTING_DOWN");

    let server = serve(data.path()).await;
    assert_eq!(server.job(&job.name).await.stages.len(), 2);
}

#[tokio::test]
async fn a_request_id_is_good_for_one_job() {
    let limits = Limits {
        queued_jobs: 2,
        ..Limits::default()
    };
    let server = serve_limited(limits).await;
    let first = server.create("id").await;
    assert_eq!(server.create("id").await.name, first.name);
    let mut other = server.spec().await;
    other.calibration.pop();
    let request = v1::CreateJobRequest {
        request_id: "id".into(),
        ..submission(other)
    };
    let refused = no(server.jobs.clone().create_job(request.clone())).await;
    assert_refused(&refused, Code::AlreadyExists, "REQUEST_ID_REUSED");
    let dry = v1::CreateJobRequest {
        validate_only: true,
        ..request
    };
    let checked = ok(server.jobs.clone().create_job(dry)).await;
    assert_eq!(checked.name, "");
    assert!(checked.spec_digest.starts_with("sha256:"));

    let second = server.create("").await;
    let full = submission(second.spec.clone().unwrap());
    let refused = server.jobs.clone().create_job(full).await.unwrap_err();
    let details = assert_refused(&refused, Code::ResourceExhausted, "QUEUE_FULL");
    assert!(details.retry_info().is_some());

    let page = v1::ListJobsRequest {
        page_size: 1,
        ..Default::default()
    };
    let newest = ok(server.jobs.clone().list_jobs(page.clone())).await;
    assert_eq!(newest.jobs[0].name, second.name);
    let page = v1::ListJobsRequest {
        page_token: newest.next_page_token,
        ..page
    };
    let oldest = ok(server.jobs.clone().list_jobs(page)).await;
    assert_eq!(
        (
            oldest.jobs[0].name.as_str(),
            oldest.next_page_token.as_str()
        ),
        (first.name.as_str(), "")
    );
}

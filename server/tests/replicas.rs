//! Two servers of one database: what is asked of one is seen at the other, and done once.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "the helpers of tests fail as the tests themselves do"
)]

mod support;

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use dual16_proto::v1;
use dual16_server::ServerOptions;
use support::*;
use tempfile::TempDir;
use tonic::Code;

/// Servers of one database, each with files of its own.
async fn replicas() -> ([TestServer; 2], [TempDir; 2]) {
    let url = database("replicas").await;
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let [first, second] = [&folders[0], &folders[1]].map(|data| ServerOptions {
        store: Some(url.clone()),
        ..ServerOptions::new(data.path())
    });
    ([serve_from(first).await, serve_from(second).await], folders)
}

/// A job whose files are at both.
async fn submit(servers: &[TestServer; 2], request: &str) -> v1::Job {
    servers[1].spec().await;
    servers[0].create(request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_goes_its_way_through_both() {
    let (servers, _folders) = replicas().await;
    let [first, second] = &servers;
    let job = submit(&servers, "request").await;
    assert_eq!(second.job(&job.name).await, job);
    assert_eq!(second.create("request").await.name, job.name);

    let watching = second.watch(&job.name, 0);
    let working = async {
        // Leased here, renewed there, handed in there, in turns.
        let mut turn = [first, second].into_iter().cycle();
        loop {
            let (here, there) = (turn.next().unwrap(), turn.next().unwrap());
            turn.next();
            let lease = here.lease_one().await;
            assert!(heartbeat(there, &lease).await.is_empty());
            there.complete(do_task(&lease)).await.unwrap();
            let late = here
                .fail(&lease, "FLAKY", "flaky", false)
                .await
                .unwrap_err();
            assert_eq!(late.code(), Code::FailedPrecondition, "{late}");
            if first.job(&job.name).await.state() == v1::JobState::Succeeded {
                return;
            }
        }
    };
    let (events, ()) = tokio::join!(watching, working);
    let sequences: Vec<_> = events.iter().map(|event| event.sequence).collect();
    let all: Vec<_> = (1..=sequences.len() as u64).collect();
    assert_eq!(sequences, all);
    assert_eq!(first.watch(&job.name, 0).await, events);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_at_one_hears_of_what_the_other_queues() {
    let (servers, _folders) = replicas().await;
    let [first, second] = &servers;
    // Long before the poll ends.
    let waiting = second.lease(1, Duration::from_secs(30));
    let submitting = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        submit(&servers, "late").await;
        Instant::now()
    };
    let (leases, submitted) = tokio::join!(waiting, submitting);
    assert_eq!(leases.len(), 1);
    assert!(submitted.elapsed() < Duration::from_secs(10));
    first.complete(do_task(&leases[0])).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_task_is_leased_twice_whoever_asks_where() {
    let (servers, _folders) = replicas().await;
    for number in 0..6 {
        submit(&servers, &format!("{number}")).await;
    }
    let mut taken = HashSet::new();
    loop {
        let [first, second] = &servers;
        let wait = Duration::from_millis(200);
        let asked = [first, second, first, second].map(|server| server.lease(2, wait));
        let [a, b, c, d] = asked;
        let (a, b, c, d) = tokio::join!(a, b, c, d);
        let leases: Vec<_> = [a, b, c, d].into_iter().flatten().collect();
        if leases.is_empty() {
            break;
        }
        for lease in leases {
            assert!(
                taken.insert(lease.task.clone()),
                "{} was leased twice",
                lease.task
            );
            first.complete(do_task(&lease)).await.unwrap();
        }
    }
    for job in first_page(&servers[1]).await {
        assert_eq!(job.state(), v1::JobState::Succeeded, "{job:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_looks_after_leases_when_the_first_is_gone() {
    let (servers, _folders) = replicas().await;
    let job = submit(&servers, "orphan").await;
    let lease = servers[0].lease_one().await;
    let [first, second] = servers;
    first.server.shutdown(Duration::from_secs(1)).await;
    // Nobody renews it; it runs out after its second.
    let again = second.lease(1, Duration::from_secs(20)).await;
    assert_eq!((&again[0].task, again[0].attempt), (&lease.task, 2));
    let late = second.complete(do_task(&lease)).await.unwrap_err();
    assert_eq!(late.code(), Code::FailedPrecondition, "{late}");
    second.complete(do_task(&again[0])).await.unwrap();
    assert_eq!(second.job(&job.name).await.state(), v1::JobState::Running);
}

/// The leases that are revoked.
async fn heartbeat(server: &TestServer, lease: &v1::Lease) -> Vec<v1::LeaseRef> {
    let beat = v1::HeartbeatRequest {
        worker: "fake".into(),
        leases: vec![lease_ref(lease)],
    };
    let beaten = server.workers.clone().heartbeat(beat).await.unwrap();
    beaten.into_inner().revoked
}

async fn first_page(server: &TestServer) -> Vec<v1::Job> {
    let mut jobs = server.jobs.clone();
    let listed = jobs.list_jobs(v1::ListJobsRequest::default()).await;
    listed.unwrap().into_inner().jobs
}

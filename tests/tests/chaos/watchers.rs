//! A thousand watchers of one job: each gets every event, and the server hardly notices.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use dual16_proto::v1;
use dual16_tests::{ServerProcess, WorkerProcess};
use tokio::task::JoinSet;

use crate::support::{Api, TinyJob, memory};

const WATCHERS: usize = 1_000;
/// Watchers of one connection.
const SHARED: usize = 20;
const MOST: u64 = 100 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_watchers_of_one_job_cost_less_than_a_hundred_megabytes() {
    let server = tokio::task::block_in_place(ServerProcess::start);
    let job = TinyJob::new("watched")
        .submit(&Api::to(&server.url()))
        .await;
    let before = memory::peak(server.id());
    let watching = Arc::new(AtomicUsize::new(0));
    let mut watchers = JoinSet::new();
    for _ in 0..WATCHERS / SHARED {
        let api = Api::to(&server.url());
        for _ in 0..SHARED {
            let (api, name, watching) = (api.clone(), job.name.clone(), Arc::clone(&watching));
            watchers.spawn(async move { watch(&api, name, &watching).await });
        }
    }
    // All of them are there, and have nothing to do but to wait, before the work begins.
    while watching.load(Ordering::Relaxed) < WATCHERS {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let _worker = WorkerProcess::start(&server, "worker", 1);
    let told = watchers.join_all().await;
    let last = Api::to(&server.url()).job(&job.name).await.last_sequence;
    assert!(last > 10, "the job has only {last} events");
    for sequences in told {
        assert_eq!(sequences, (1..=last).collect::<Vec<_>>());
    }
    let cost = memory::peak(server.id()).saturating_sub(before);
    println!("{WATCHERS} watchers cost {cost} bytes");
    assert!(cost < MOST, "{WATCHERS} watchers cost {cost} bytes");
}

/// Sequences of the events that a watcher gets, of which the first is there from the beginning.
async fn watch(api: &Api, name: String, watching: &AtomicUsize) -> Vec<u64> {
    let request = v1::WatchJobRequest {
        name,
        after_sequence: 0,
    };
    let mut stream = api.jobs().watch_job(request).await.unwrap().into_inner();
    let mut sequences = Vec::new();
    while let Some(event) = stream.message().await.unwrap() {
        if sequences.is_empty() {
            watching.fetch_add(1, Ordering::Relaxed);
        }
        sequences.push(event.sequence);
    }
    sequences
}

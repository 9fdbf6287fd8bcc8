//! Half an hour of a busy day in seconds: thousands of small jobs come, are done and are deleted, and
//! the server is as large afterwards as it was before.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use dual16_proto::v1::{self, complete_request::Next, job_spec::Model};
use dual16_tests::ServerProcess;
use tokio::task::JoinSet;

use crate::support::{Api, Plan, Watched, memory};

/// Clients, each with one job at a time, and as many workers that compute nothing.
const CLIENTS: usize = 16;
/// Jobs of one client in one round.
const JOBS: usize = 20;
/// Rounds after which caches and pools have the size that they keep.
const WARM_UP: u32 = 6;
/// Bytes of memory that a job may leave: less than its own records take. The cache of the store
/// fills up to its limit meanwhile.
const LEFT_BY_A_JOB: u64 = 1 << 10;
/// What an allocator keeps for each thread, and how many threads there were at once, is chance.
const POOLS: u64 = 8 << 20;
/// Growth of the store's file, which grows by segments of 2 MiB: a few that wait to be used again.
const SEGMENTS: u64 = 8 << 20;
/// How long a blob stays that no job keeps.
const GRACE_SECONDS: &str = "2";
/// Far beyond the grace and the collection that follows it, on a busy machine.
const COLLECTED: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_jobs_that_come_and_go_leave_memory_and_disk_as_they_were() {
    let plan = Plan::of("soak", 24);
    let start = || ServerProcess::start_with(&["--blob-grace", GRACE_SECONDS]);
    let server = tokio::task::block_in_place(start);
    let api = Api::to(&server.url());
    let mut workers = JoinSet::new();
    for worker in 0..CLIENTS {
        let api = api.clone();
        workers.spawn(async move { work(&api, &format!("worker {worker}")).await });
    }
    let mut warm = None;
    for round in 0..plan.rounds {
        if round == WARM_UP {
            warm = Some(size(&server));
        }
        let mut clients = JoinSet::new();
        for client in 0..CLIENTS {
            let (api, name) = (api.clone(), format!("{round}-{client}"));
            clients.spawn(async move { come_and_go(&api, &name).await });
        }
        clients.join_all().await;
    }
    assert_eq!(api.all_jobs().await, Vec::<String>::new());
    all_blobs_go(&server).await;
    let (before, after) = (warm.unwrap(), size(&server));
    println!("{before:?} before, {after:?} after");
    let jobs = u64::from(plan.rounds - WARM_UP) * (CLIENTS * JOBS) as u64;
    let memory = before.memory + POOLS + jobs * LEFT_BY_A_JOB;
    assert!(after.memory < memory, "{before:?}, {after:?}");
    assert!(
        after.store < before.store + SEGMENTS,
        "{before:?}, {after:?}"
    );
}

/// Waits until the blobs of the deleted jobs are collected, to the last one.
async fn all_blobs_go(server: &ServerProcess) {
    let blobs = server.state().join("blobs");
    let deadline = Instant::now() + COLLECTED;
    loop {
        let left = memory::files_in(&blobs);
        if left == 0 {
            return;
        }
        assert!(Instant::now() < deadline, "{left} blobs were not collected");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// What the server takes.
#[derive(Debug)]
struct Size {
    memory: u64,
    /// On disk, without the blobs, which come and go by themselves.
    store: u64,
}

fn size(server: &ServerProcess) -> Size {
    let blobs = memory::on_disk(&server.state().join("blobs"));
    Size {
        memory: memory::resident(server.id()),
        store: memory::on_disk(&server.state()) - blobs,
    }
}

/// Submits jobs one after the other, sees each to its end, and deletes it.
async fn come_and_go(api: &Api, name: &str) {
    for number in 0..JOBS {
        let bytes = format!("{name}-{number}").repeat(100).into_bytes();
        let spec = v1::JobSpec {
            model: Some(Model::Layers(v1::LayerModel {
                weights: Some(api.upload("w.safetensors", &bytes).await),
            })),
            calibration: vec![api.upload("0.safetensors", &bytes).await],
            ..v1::JobSpec::default()
        };
        let job = api.create(&spec, "").await.name;
        let watched = Watched::to_the_end(api, &job).await;
        assert_eq!(watched.retried(), 0, "{job}");
        let delete = v1::DeleteJobRequest { name: job };
        api.jobs().delete_job(delete).await.unwrap();
    }
}

/// Takes tasks and finishes their jobs at once, until the test ends.
async fn work(api: &Api, worker: &str) {
    let worker = Arc::<str>::from(worker);
    loop {
        let request = v1::LeaseRequest {
            worker: worker.to_string(),
            max_tasks: 1,
            max_wait: prost_types::Duration::try_from(std::time::Duration::from_secs(5)).ok(),
            jobs: Vec::new(),
        };
        let leases = api.workers().lease(request).await.unwrap().into_inner();
        for lease in leases.leases {
            let done = v1::CompleteRequest {
                lease: Some(v1::LeaseRef {
                    task: lease.task,
                    lease_id: lease.lease_id,
                    attempt: lease.attempt,
                }),
                worker: worker.to_string(),
                next: Some(Next::Finish(v1::Finish::default())),
                ..v1::CompleteRequest::default()
            };
            api.workers().complete(done).await.unwrap();
        }
    }
}

//! A model that takes down the process that runs it. Nothing is injected: it asks for a constant of 2^47
//! bytes, and a program that cannot have the memory it needs is ended by its allocator.

use std::time::{Duration, Instant};

use dual16_proto::v1;
use dual16_tests::{ServerProcess, WorkerProcess};

use crate::support::{Api, Hostile, Load, TinyJob, Watched, results, undisturbed};

/// Tasks that the worker runs at once.
const SLOTS: usize = 4;

/// What goes down together comes back together.
const FLAGS: [&str; 4] = ["--lease-ttl", "2", "--retry-backoff-millis", "0"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_always_crashes_ends_its_job_and_costs_no_other_an_attempt() {
    let server = tokio::task::block_in_place(|| ServerProcess::start_on("127.0.0.1:0", &FLAGS));
    let api = Api::to(&server.url());
    let slots = SLOTS.to_string();
    let mut worker = tokio::task::block_in_place(|| {
        WorkerProcess::start_at(&server.url(), "only", &["--workers", &slots])
    });
    // With it they fill the worker, and are at work when it crashes.
    let mut neighbours = Vec::new();
    for i in 1..SLOTS {
        let job = TinyJob::slow(format!("neighbour {i}"));
        neighbours.push(job.submit(&api).await.name);
    }
    let spec = doomed(&api).await;
    for name in &neighbours {
        at_work(&api, name).await;
    }
    let doomed = api.create(&spec, "doomed").await.name;
    let mut load = Load::on(&server.url());
    for round in 0..4 {
        load.begin_round(round);
    }
    judge(&api, &doomed).await;

    let expected = undisturbed(TinyJob::slow("undisturbed")).await;
    for name in &neighbours {
        let watched = Watched::to_the_end(&api, name).await;
        let job = api.job(name).await;
        assert_eq!(job.state(), v1::JobState::Succeeded, "{job:#?}");
        assert_eq!(watched.retried(), 0);
        assert!(
            results(&api, &job).await == expected,
            "{name} left other bytes"
        );
    }
    // So they are out of the way of the others' own check that nothing was lost.
    for name in neighbours.into_iter().chain([doomed]) {
        let delete = v1::DeleteJobRequest { name };
        api.jobs().delete_job(delete).await.unwrap();
    }
    let ended = load.end().await;
    assert_eq!(ended.jobs, 8, "{ended:?}");
    assert!(worker.is_running(), "only the job's own process was to die");
}

/// Waits until tasks of the job read its batch, which takes them longer than anything else here.
async fn at_work(api: &Api, name: &str) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let job = api.job(name).await;
        if job.stages.iter().skip(1).any(|stage| stage.running > 0) {
            return;
        }
        let ended = ![v1::JobState::Pending, v1::JobState::Running].contains(&job.state());
        assert!(!ended && Instant::now() < deadline, "{job:#?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits for the end of the job, which names what it wanted and who refused it, once.
async fn judge(api: &Api, doomed: &str) {
    Watched::to_the_end(api, doomed).await;
    let job = api.job(doomed).await;
    let error = job.error.clone().unwrap_or_default();
    assert_eq!(job.state(), v1::JobState::Failed, "{job:#?}");
    assert_eq!(error.code, "MEMORY_LIMIT", "{error:#?}");
    assert!(error.message.contains("134217728 MiB"), "{error:#?}");
    assert!(error.task.starts_with(doomed), "{error:#?}");
    let [attempt] = error.attempts.as_slice() else {
        panic!("{error:#?}")
    };
    assert_eq!(attempt.worker, "only");
}

/// A model that is well-formed and cannot be run.
async fn doomed(api: &Api) -> v1::JobSpec {
    Hostile::Constant([1 << 15, 1 << 15, 1 << 15])
        .spec(api, "doomed")
        .await
}

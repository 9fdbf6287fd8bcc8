//! The server goes away, the worker goes away, compute takes every thread: the work survives.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use dual16_worker::{TaskError, TaskOutput};

use crate::cluster::{Cluster, Gate, PATIENCE, Script, Task, finish};

const STOP: Duration = Duration::from_secs(1);

/// A one-task job that waits at a gate.
fn gated(gate: &Arc<Gate>) -> impl Fn(Task<'_>) -> Result<TaskOutput, TaskError> + use<> {
    let gate = Arc::clone(gate);
    move |_| {
        gate.wait();
        Ok(finish(Vec::new()))
    }
}

#[tokio::test]
async fn a_result_survives_a_restart_of_the_server_in_mid_task() {
    let mut cluster = Cluster::start().await;
    let gate = Gate::new();
    let worker = cluster.worker("w", Script(gated(&gate))).await;
    let job = cluster.create_job().await;
    gate.arrived(1).await;
    cluster.stop_server().await;
    // The task ends while nobody is there to take its result.
    gate.open();
    tokio::time::sleep(Duration::from_millis(200)).await;
    cluster.start_server().await;
    cluster.succeeded_at_once(&job).await;
    worker.shutdown(STOP).await;
}

#[tokio::test]
async fn a_failure_gets_through_however_much_it_says() {
    let cluster = Cluster::start().await;
    let script = |_: Task<'_>| {
        Err(TaskError {
            code: "INVALID_BATCH".into(),
            message: "batch 0: ".to_owned() + &"ä".repeat(3 << 20),
            permanent: true,
        })
    };
    let worker = cluster.worker("w", Script(script)).await;
    let job = cluster.create_job().await;
    let (job, _) = cluster.ended(&job).await;
    let error = job.error.unwrap();
    assert_eq!(error.code, "INVALID_BATCH", "{}", error.message);
    assert!(error.message.starts_with("batch 0: ää"));
    assert!(error.message.len() <= 2100, "{}", error.message.len());
    assert_eq!(error.attempts.len(), 1);
    worker.shutdown(STOP).await;
}

#[tokio::test]
async fn an_idle_worker_finds_a_restarted_server_again() {
    let mut cluster = Cluster::start().await;
    let worker = cluster
        .worker("w", Script(|_: Task<'_>| Ok(finish(Vec::new()))))
        .await;
    cluster.stop_server().await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    cluster.start_server().await;
    let job = cluster.create_job().await;
    cluster.succeeded_at_once(&job).await;
    worker.shutdown(STOP).await;
}

#[tokio::test]
async fn leases_live_while_compute_holds_every_thread_beyond_their_time() {
    let cluster = Cluster::start().await;
    let script = |_: Task<'_>| {
        let begun = Instant::now();
        rayon::broadcast(|_| while begun.elapsed() < Duration::from_millis(1500) {});
        Ok(finish(Vec::new()))
    };
    let worker = cluster.worker("w", Script(script)).await;
    let job = cluster.create_job().await;
    cluster.succeeded_at_once(&job).await;
    worker.shutdown(STOP).await;
}

#[tokio::test]
async fn a_drain_gives_back_what_does_not_end_in_time_and_counts_no_attempt() {
    let cluster = Cluster::start().await;
    let (stuck, open) = (Gate::new(), Gate::new());
    open.open();
    let first = cluster.worker("first", Script(gated(&stuck))).await;
    let job = cluster.create_job().await;
    stuck.arrived(1).await;
    let begun = Instant::now();
    assert_eq!(first.shutdown(Duration::from_millis(100)).await.released, 1);
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );
    let second = cluster.worker("second", Script(gated(&open))).await;
    cluster.succeeded_at_once(&job).await;
    stuck.open();
    second.shutdown(STOP).await;
}

#[tokio::test]
async fn a_drain_lets_a_task_end_and_takes_no_other() {
    let cluster = Cluster::start().await;
    let gate = Gate::new();
    let worker = cluster.worker("w", Script(gated(&gate))).await;
    let job = cluster.create_job().await;
    gate.arrived(1).await;
    let drain = tokio::spawn(worker.shutdown(PATIENCE));
    tokio::time::sleep(Duration::from_millis(100)).await;
    let late = cluster.create_job().await;
    gate.open();
    assert_eq!(drain.await.unwrap().released, 0);
    cluster.succeeded_at_once(&job).await;
    let job = cluster
        .jobs()
        .await
        .get_job(dual16_proto::v1::GetJobRequest { name: late })
        .await;
    let stages = job.unwrap().into_inner().stages;
    assert!(
        stages
            .iter()
            .all(|stage| stage.done == 0 && stage.running == 0),
        "{stages:?}"
    );
}

#[tokio::test]
async fn a_drain_ends_though_the_server_is_gone() {
    let mut cluster = Cluster::start().await;
    let gate = Gate::new();
    let worker = cluster.worker("w", Script(gated(&gate))).await;
    cluster.create_job().await;
    gate.arrived(1).await;
    cluster.stop_server().await;
    let begun = Instant::now();
    assert_eq!(
        worker.shutdown(Duration::from_millis(100)).await.released,
        1
    );
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    gate.open();
}

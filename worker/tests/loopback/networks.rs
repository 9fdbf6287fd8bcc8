//! Networks as they are: slow, and dead without a word.

use std::{thread, time::Duration};

use dual16_proto::v1::GetJobRequest;
use dual16_worker::{RunningWorker, TaskError, TaskOutput, WorkerOptions};

use crate::{
    cluster::{Cluster, Gate, Script, Task, finish, stage},
    proxy::Proxy,
};

const STOP: Duration = Duration::from_secs(1);

async fn worker_behind(proxy: &Proxy, options: WorkerOptions) -> RunningWorker {
    let options = WorkerOptions {
        server: proxy.url.clone(),
        ..options
    };
    dual16_worker::start(options).await.unwrap()
}

#[tokio::test]
async fn a_lease_outlives_the_connection_that_renews_it() {
    let ttl = Duration::from_secs(3);
    let cluster = Cluster::leasing_for(ttl).await;
    let proxy = Proxy::start(cluster.addr, Duration::ZERO).await;
    let gate = Gate::new();
    let waiting = std::sync::Arc::clone(&gate);
    let script = Script(move |_: Task<'_>| {
        waiting.wait();
        Ok(finish(Vec::new()))
    });
    let worker = worker_behind(&proxy, cluster.options("w", script)).await;
    let job = cluster.create_job().await;
    gate.arrived(1).await;
    // The heartbeat's connection is its own, and opened with the first renewal.
    while proxy.connections() < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    proxy.kill(1);
    tokio::time::sleep(ttl + ttl / 2).await;
    gate.open();
    cluster.succeeded_at_once(&job).await;
    worker.shutdown(STOP).await;
}

/// A plan, and then many short tasks.
fn many(task: Task<'_>) -> Result<TaskOutput, TaskError> {
    match task.lease.stage.as_str() {
        "plan" => Ok(stage("many", vec![Vec::new(); 40])),
        _ if task.inputs.is_empty() => {
            thread::sleep(Duration::from_millis(10));
            Ok(TaskOutput::default())
        }
        _ => Ok(finish(Vec::new())),
    }
}

#[tokio::test]
async fn workers_that_stop_while_tasks_are_on_their_way_lose_none() {
    let cluster = Cluster::start().await;
    let proxy = Proxy::start(cluster.addr, Duration::from_millis(40)).await;
    let job = cluster.create_job().await;
    let mut jobs = cluster.jobs().await;
    for round in 0..8 {
        let name = format!("w{round}");
        let worker = worker_behind(&proxy, cluster.options(&name, Script(many))).await;
        // Granted, and by the lag not told yet, if the worker has just asked.
        let running = async {
            loop {
                let request = GetJobRequest { name: job.clone() };
                let found = jobs.get_job(request).await.unwrap().into_inner();
                if found.stages.iter().any(|stage| stage.running > 0) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(1), running)
            .await
            .unwrap();
        worker.shutdown(Duration::ZERO).await;
    }
    let last = cluster.worker("last", Script(many)).await;
    cluster.succeeded_at_once(&job).await;
    last.shutdown(STOP).await;
}

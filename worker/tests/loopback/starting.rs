//! Starting: what a worker refuses, and what it waits for.

use std::time::Duration;

use dual16_worker::{StartError, start};

use crate::cluster::{Cluster, Script, Task, finish};

fn idle(_: Task<'_>) -> Result<dual16_worker::TaskOutput, dual16_worker::TaskError> {
    Ok(finish(Vec::new()))
}

#[tokio::test]
async fn a_url_that_makes_no_sense_is_refused() {
    let cluster = Cluster::start().await;
    let mut options = cluster.options("w", Script(idle));
    options.server = "ftp://127.0.0.1:7016".to_owned();
    let error = start(options).await.unwrap_err();
    assert!(matches!(error, StartError::InvalidServer { .. }), "{error}");
    assert!(
        error.to_string().contains("use http://HOST:PORT"),
        "{error}"
    );
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_an_error_in_time() {
    let mut cluster = Cluster::start().await;
    cluster.stop_server().await;
    let mut options = cluster.options("w", Script(idle));
    options.connect_timeout = Some(Duration::from_millis(300));
    let error = start(options).await.unwrap_err();
    assert!(matches!(error, StartError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn a_worker_started_before_its_server_waits_for_it() {
    let mut cluster = Cluster::start().await;
    cluster.stop_server().await;
    let mut options = cluster.options("w", Script(idle));
    options.connect_timeout = None;
    let starting = tokio::spawn(start(options));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!starting.is_finished());
    cluster.start_server().await;
    let worker = starting.await.unwrap().unwrap();
    let job = cluster.create_job().await;
    cluster.succeeded_at_once(&job).await;
    worker.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn two_workers_do_not_share_a_cache_folder() {
    let cluster = Cluster::start().await;
    let worker = cluster.worker("w", Script(idle)).await;
    let error = start(cluster.options("w", Script(idle))).await.unwrap_err();
    assert!(matches!(error, StartError::Cache { .. }), "{error}");
    worker.shutdown(Duration::from_secs(1)).await;
}

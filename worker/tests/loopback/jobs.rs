//! Whole jobs: what tasks are given, what becomes of what they leave, and how they fail.

use std::{
    fs,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use dual16_proto::v1::{CancelJobRequest, JobState, event_detail::Detail, job_spec};
use dual16_quant::flow::FileRef;
use dual16_worker::{TaskError, TaskOutput};

use crate::cluster::{Cluster, Gate, PATIENCE, Script, Task, digest, finish, notice, stage};

/// Above the server's limit for a payload within a message.
const LARGE: usize = 100_000;

const STOP: Duration = Duration::from_secs(1);

fn io(error: std::io::Error) -> TaskError {
    TaskError::io(error.to_string())
}

/// plan -> spread (3 maps) -> finish. Map i reads the model and leaves 100 000 bytes of i; the
/// reduce checks their order and stores them all.
fn spread(task: Task<'_>) -> Result<TaskOutput, TaskError> {
    match (task.lease.stage.as_str(), task.payload) {
        ("plan", []) => Ok(stage("spread", vec![vec![1; LARGE], vec![2], vec![3]])),
        ("spread", [first, ..]) => {
            let Some(job_spec::Model::Onnx(onnx)) = task.spec.model.clone() else {
                panic!("the spec has no ONNX model");
            };
            let model = task.blobs.path(&onnx.model.unwrap().digest).map_err(io)?;
            assert_eq!(fs::read(model).unwrap(), b"a model");
            let events = vec![notice(&format!("MAP_{first}"))];
            Ok(TaskOutput {
                result: vec![*first; LARGE],
                events,
                next: None,
            })
        }
        ("spread", []) => {
            let all = task.inputs.concat();
            let file = tempfile::NamedTempFile::new().unwrap();
            fs::write(file.path(), &all).unwrap();
            let digest = task.blobs.put_file(file.path()).map_err(io)?;
            let size = all.len() as u64;
            let artifacts = vec![FileRef {
                name: "all.bin".to_owned(),
                digest,
                size,
            }];
            Ok(TaskOutput {
                events: vec![notice("END")],
                ..finish(artifacts)
            })
        }
        other => panic!("unexpected task {other:?}"),
    }
}

#[tokio::test]
async fn stages_run_to_the_end_and_large_payloads_travel_as_blobs() {
    let cluster = Cluster::start().await;
    let worker = cluster.worker("w", Script(spread)).await;
    let name = cluster.create_job().await;
    let (job, events) = cluster.succeeded_at_once(&name).await;

    let expected = [vec![1; LARGE], vec![2; LARGE], vec![3; LARGE]].concat();
    let [artifact] = &job.artifacts[..] else {
        panic!("{:?}", job.artifacts)
    };
    assert_eq!(
        (artifact.name.as_str(), &artifact.digest),
        ("all.bin", &digest(&expected))
    );
    assert_eq!(cluster.download(&artifact.digest).await, expected);
    let codes = events.into_iter().filter_map(|event| match event {
        Detail::Notice(notice) => Some(notice.code),
        _ => None,
    });
    let mut codes: Vec<_> = codes.collect();
    assert_eq!(codes.pop().as_deref(), Some("END"));
    codes.sort();
    assert_eq!(codes, ["MAP_1", "MAP_2", "MAP_3"]);
    assert_eq!(worker.shutdown(STOP).await.released, 0);
}

#[tokio::test]
async fn two_slots_run_two_tasks_at_once_and_no_more() {
    static RUNNING: AtomicUsize = AtomicUsize::new(0);
    static PEAK: AtomicUsize = AtomicUsize::new(0);
    let cluster = Cluster::start().await;
    let script = |task: Task<'_>| match (task.lease.stage.as_str(), task.payload) {
        ("plan", _) => Ok(stage("maps", vec![vec![1]; 4])),
        (_, []) => Ok(finish(Vec::new())),
        _ => {
            let running = RUNNING.fetch_add(1, Ordering::SeqCst) + 1;
            PEAK.fetch_max(running, Ordering::SeqCst);
            let begun = Instant::now();
            while PEAK.load(Ordering::SeqCst) < 2 && begun.elapsed() < PATIENCE / 2 {
                std::thread::yield_now();
            }
            std::thread::sleep(Duration::from_millis(20));
            RUNNING.fetch_sub(1, Ordering::SeqCst);
            Ok(TaskOutput::default())
        }
    };
    let worker = cluster.worker("w", Script(script)).await;
    let job = cluster.create_job().await;
    cluster.succeeded_at_once(&job).await;
    assert_eq!(PEAK.load(Ordering::SeqCst), 2);
    worker.shutdown(STOP).await;
}

#[tokio::test]
async fn a_panic_is_an_attempt_and_the_last_one_fails_the_job() {
    let cluster = Cluster::start().await;
    let script = |task: Task<'_>| -> Result<TaskOutput, TaskError> {
        panic!("boom in attempt {}", task.lease.attempt)
    };
    let worker = cluster.worker("w", Script(script)).await;
    let job = cluster.create_job().await;
    let (job, events) = cluster.ended(&job).await;
    assert_eq!(job.state(), JobState::Failed);
    let error = job.error.unwrap();
    assert_eq!(error.code, "ATTEMPTS_EXHAUSTED");
    let messages: Vec<_> = error
        .attempts
        .iter()
        .map(|attempt| attempt.message.as_str())
        .collect();
    assert_eq!(messages.len(), 3);
    assert!(
        messages[0].contains("panicked: boom in attempt 1"),
        "{messages:?}"
    );
    let retried = events
        .iter()
        .filter(|event| matches!(event, Detail::TaskRetried(_)));
    assert_eq!(retried.count(), 2);
    worker.shutdown(STOP).await;
}

#[tokio::test]
async fn a_permanent_error_fails_the_job_at_once() {
    let cluster = Cluster::start().await;
    let script = |_: Task<'_>| {
        let message = "model.onnx: truncated".to_owned();
        Err(TaskError {
            code: "INVALID_MODEL".into(),
            message,
            permanent: true,
        })
    };
    let worker = cluster.worker("w", Script(script)).await;
    let job = cluster.create_job().await;
    let (job, _) = cluster.ended(&job).await;
    let error = job.error.unwrap();
    assert_eq!(
        (error.code.as_str(), error.attempts.len()),
        ("INVALID_MODEL", 1)
    );
    assert!(
        error.message.contains("model.onnx: truncated"),
        "{}",
        error.message
    );
    worker.shutdown(STOP).await;
}

#[tokio::test]
async fn a_result_that_the_server_refuses_fails_the_job_with_the_reason() {
    let cluster = Cluster::start().await;
    // A reduce must say what comes next.
    let worker = cluster
        .worker("w", Script(|_: Task<'_>| Ok(TaskOutput::default())))
        .await;
    let job = cluster.create_job().await;
    let (job, _) = cluster.ended(&job).await;
    let error = job.error.unwrap();
    let last = error.attempts.last().unwrap();
    assert!(
        last.message.contains("the server refused the result"),
        "{}",
        last.message
    );
    worker.shutdown(STOP).await;
}

#[tokio::test]
async fn cancelling_a_job_stops_its_running_task_and_frees_the_slot() {
    let cluster = Cluster::start().await;
    let gate = Gate::new();
    let script = {
        let gate = gate.clone();
        move |task: Task<'_>| {
            gate.open();
            gate.wait();
            let begun = Instant::now();
            while !task.control.cancelled() {
                assert!(begun.elapsed() < PATIENCE, "never cancelled");
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(TaskError {
                code: "CANCELLED".into(),
                message: String::new(),
                permanent: true,
            })
        }
    };
    let worker = cluster.worker("w", Script(script)).await;
    let job = cluster.create_job().await;
    gate.arrived(1).await;
    cluster
        .jobs()
        .await
        .cancel_job(CancelJobRequest { name: job.clone() })
        .await
        .unwrap();
    let (job, _) = cluster.ended(&job).await;
    assert_eq!(job.state(), JobState::Cancelled);
    // A drain that finds nothing running ends at once: the task has really stopped.
    let begun = Instant::now();
    assert_eq!(worker.shutdown(PATIENCE).await.released, 0);
    assert!(begun.elapsed() < PATIENCE / 2);
}

//! A model that takes down every worker that touches it. Nothing is injected: it asks for a constant
//! of 2^47 bytes, and a program that cannot have the memory it needs is ended by its allocator.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use dual16_proto::v1::{self, job_spec::Model};
use dual16_quant::onnx::{
    GraphProto, ModelProto, OperatorSetIdProto, f32_initializer, f32_value, int64_initializer, node,
};
use dual16_tests::{ServerProcess, WorkerProcess, data::smallmodel};
use ndarray::ArrayD;
use prost::Message as _;

use crate::support::{Api, Load, TinyJob, Watched, results, undisturbed};

/// Tasks that the worker runs at once.
const SLOTS: usize = 4;

/// What goes down together comes back together.
const FLAGS: [&str; 4] = ["--lease-ttl", "2", "--retry-backoff-millis", "0"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_always_crashes_its_worker_ends_its_job_and_no_other() {
    let server = tokio::task::block_in_place(|| ServerProcess::start_on("127.0.0.1:0", &FLAGS));
    let api = Api::to(&server.url());
    let worker = Supervisor::of(server.url(), "only");
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
    let mut beside = 0;
    for name in &neighbours {
        let watched = Watched::to_the_end(&api, name).await;
        let job = api.job(name).await;
        assert_eq!(job.state(), v1::JobState::Succeeded, "{job:#?}");
        let lost = watched.lost();
        // To the first crash; a second one it cannot be beside.
        assert!(lost.values().all(|attempts| *attempts == 1), "{lost:?}");
        beside += lost.len();
        assert!(
            results(&api, &job).await == expected,
            "{name} left other bytes"
        );
    }
    assert!(beside > 0, "nothing was at work when the worker crashed");
    // So they are out of the way of the others' own check that nothing was lost.
    for name in neighbours.into_iter().chain([doomed]) {
        let delete = v1::DeleteJobRequest { name };
        api.jobs().delete_job(delete).await.unwrap();
    }
    let ended = load.end().await;
    assert_eq!(ended.jobs, 8, "{ended:?}");
    let crashes = tokio::task::block_in_place(|| worker.stop());
    assert_eq!(crashes, 3, "one an attempt was to come");
}

/// What an orchestrator is to a worker: it starts again what has ended, under the same name.
struct Supervisor {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<usize>>,
}

impl Supervisor {
    fn of(url: String, name: &'static str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let slots = SLOTS.to_string();
            let start = || WorkerProcess::start_at(&url, name, &["--workers", &slots]);
            let mut worker = start();
            let mut crashes = 0;
            while !stopped.load(Ordering::Relaxed) {
                if !worker.is_running() {
                    crashes += 1;
                    worker = start();
                }
                thread::sleep(Duration::from_millis(20));
            }
            crashes
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }

    /// Ends the worker; returns how often it crashed.
    fn stop(mut self) -> usize {
        self.end().unwrap().unwrap()
    }

    fn end(&mut self) -> Option<thread::Result<usize>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map(JoinHandle::join)
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        // A test that failed has said why; the worker must not outlive it.
        let _ = self.end();
    }
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

/// Waits for the end of the job, which names each of its attempts.
async fn judge(api: &Api, doomed: &str) {
    Watched::to_the_end(api, doomed).await;
    let job = api.job(doomed).await;
    let error = job.error.clone().unwrap_or_default();
    assert_eq!(job.state(), v1::JobState::Failed, "{job:#?}");
    assert_eq!(error.code, "ATTEMPTS_EXHAUSTED", "{error:#?}");
    assert_eq!(error.attempts.len(), 3, "{error:#?}");
    assert!(error.task.starts_with(doomed), "{error:#?}");
    for attempt in &error.attempts {
        let named = attempt.worker == "only" && !attempt.message.is_empty();
        assert!(named, "{error:#?}");
    }
}

/// A model that is well-formed and cannot be run.
async fn doomed(api: &Api) -> v1::JobSpec {
    let weight = ArrayD::from_elem(vec![256, 4], 0.5_f32);
    let graph = GraphProto {
        name: "doomed".to_owned(),
        node: vec![
            node("MatMul", &["x", "weight"], &["h"]),
            node("ConstantOfShape", &["shape"], &["huge"]),
            node("ReduceMax", &["huge"], &["one"]),
            node("Add", &["h", "one"], &["y"]),
        ],
        initializer: vec![
            f32_initializer("weight", weight.view()),
            int64_initializer("shape", &[1 << 15, 1 << 15, 1 << 15]),
        ],
        input: vec![f32_value("x", Some(&[Some(2), Some(100), Some(256)]))],
        output: vec![f32_value("y", None)],
        ..GraphProto::default()
    };
    let model = ModelProto {
        ir_version: 8,
        opset_import: vec![OperatorSetIdProto {
            domain: String::new(),
            version: 17,
        }],
        graph: Some(graph),
        ..ModelProto::default()
    };
    let batch = std::fs::read(smallmodel().join("calib/000.safetensors")).unwrap();
    v1::JobSpec {
        model: Some(Model::Onnx(v1::OnnxModel {
            model: Some(api.upload("doomed.onnx", &model.encode_to_vec()).await),
            external_data: Vec::new(),
        })),
        calibration: vec![api.upload("calib/0.safetensors", &batch).await],
        ..v1::JobSpec::default()
    }
}

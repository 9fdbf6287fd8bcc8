//! A model that takes down every worker that touches it. Nothing is injected: it asks for a constant
//! of 2^47 bytes, and a program that cannot have the memory it needs is ended by its allocator.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use dual16_proto::v1::{self, job_spec::Model};
use dual16_quant::onnx::{
    GraphProto, ModelProto, OperatorSetIdProto, f32_initializer, f32_value, int64_initializer, node,
};
use dual16_tests::{ServerProcess, WorkerProcess, data::smallmodel};
use ndarray::ArrayD;
use prost::Message as _;

use crate::support::{Api, Load, Watched};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_always_crashes_its_worker_ends_its_job_and_no_other() {
    let server = tokio::task::block_in_place(|| {
        ServerProcess::start_on("127.0.0.1:0", &["--lease-ttl", "2"])
    });
    let supervisors = ["first", "second"].map(|name| Supervisor::of(server.url(), name));
    judge(&server).await;
    let crashes: usize = supervisors.into_iter().map(Supervisor::stop).sum();
    assert!(
        crashes >= 3,
        "{crashes} crashes: one an attempt were to come"
    );
}

/// What an orchestrator is to a worker: it starts again what has ended. The worker takes one task at
/// a time, so that no other goes down with the one that crashes it.
struct Supervisor {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<usize>,
}

impl Supervisor {
    fn of(url: String, name: &'static str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut worker = WorkerProcess::start_at(&url, name, &["--workers", "1"]);
            let mut crashes = 0;
            while !stopped.load(Ordering::Relaxed) {
                if !worker.is_running() {
                    crashes += 1;
                    worker = WorkerProcess::start_at(&url, name, &["--workers", "1"]);
                }
                thread::sleep(Duration::from_millis(20));
            }
            crashes
        });
        Self { stop, thread }
    }

    /// Ends the worker; returns how often it crashed.
    fn stop(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

async fn judge(server: &ServerProcess) {
    let api = Api::to(&server.url());
    let mut load = Load::on(&server.url());
    load.begin_round(0);
    let doomed = api.create(&doomed(&api).await, "doomed").await.name;
    for round in 1..4 {
        load.begin_round(round);
    }
    Watched::to_the_end(&api, &doomed).await;
    let job = api.job(&doomed).await;
    let error = job.error.clone().unwrap_or_default();
    assert_eq!(job.state(), v1::JobState::Failed, "{job:#?}");
    assert_eq!(error.code, "ATTEMPTS_EXHAUSTED", "{error:#?}");
    assert_eq!(error.attempts.len(), 3, "{error:#?}");
    assert!(error.task.starts_with(&doomed), "{error:#?}");
    for attempt in &error.attempts {
        let named = ["first", "second"].contains(&attempt.worker.as_str());
        assert!(named && !attempt.message.is_empty(), "{error:#?}");
    }
    // So it is out of the way of the others' own check that nothing was lost.
    let delete = v1::DeleteJobRequest { name: doomed };
    api.jobs().delete_job(delete).await.unwrap();
    let ended = load.end().await;
    assert_eq!(ended.jobs, 8, "{ended:?}");
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

//! A job's tasks stay with the worker that has its files.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroUsize,
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use dual16_proto::v1::{TaskKind, job_spec};
use dual16_worker::{RunningWorker, TaskError, TaskOutput};

use crate::cluster::{Cluster, PATIENCE, Script, Task, finish, stage};

const JOBS: usize = 6;
const STAGES: usize = 8;
const MODEL_BYTES: usize = 1 << 20;

/// Two tasks leave together, so that their workers ask for the next ones at the same time.
#[derive(Default)]
struct Pairs {
    come: Mutex<usize>,
    changed: Condvar,
}

impl Pairs {
    fn meet(&self) {
        let mut come = self.come.lock().unwrap();
        let whole = *come / 2 * 2 + 2;
        *come += 1;
        self.changed.notify_all();
        let alone = |come: &mut usize| *come < whole;
        let (_come, timeout) = { &self.changed }
            .wait_timeout_while(come, PATIENCE, alone)
            .unwrap();
        assert!(!timeout.timed_out(), "the other worker has no task");
    }
}

/// The workers that ran tasks of each job.
type Seen = Arc<Mutex<BTreeMap<String, BTreeSet<&'static str>>>>;

/// One task after the other: enough for one worker. Each needs the model.
fn narrow(
    worker: &'static str,
    pairs: Arc<Pairs>,
    seen: Seen,
) -> impl Fn(Task<'_>) -> Result<TaskOutput, TaskError> {
    move |task| {
        let Some(job_spec::Model::Onnx(onnx)) = &task.spec.model else {
            panic!("the spec has no ONNX model");
        };
        let model = onnx.model.as_ref().unwrap();
        task.blobs.path(&model.digest).unwrap();
        let (job, _) = task.lease.task.split_once("/tasks/").unwrap();
        let mut jobs = seen.lock().unwrap();
        jobs.entry(job.to_owned()).or_default().insert(worker);
        drop(jobs);
        pairs.meet();
        let next = match task.lease.stage.as_str() {
            "plan" => 0,
            stage => stage.parse::<usize>().unwrap() + 1,
        };
        Ok(match (task.lease.kind(), next) {
            (TaskKind::Map, _) => TaskOutput::default(),
            (_, STAGES) => finish(Vec::new()),
            (_, next) => stage(&next.to_string(), vec![vec![1]]),
        })
    }
}

async fn received(worker: &RunningWorker) -> u64 {
    let text = worker.observed().metrics().await;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("dual16_blob_received_bytes_total "));
    line.unwrap_or_else(|| panic!("{text}")).parse().unwrap()
}

#[tokio::test]
async fn the_tasks_of_a_job_stay_where_its_model_is() {
    let cluster = Cluster::start().await;
    let mut jobs = Vec::new();
    for job in 0..JOBS {
        let model = vec![job as u8; MODEL_BYTES];
        jobs.push(cluster.create_job_over(&model).await);
    }
    let (pairs, seen) = (Arc::new(Pairs::default()), Seen::default());
    let mut workers = Vec::new();
    for name in ["one", "other"] {
        let script = narrow(name, Arc::clone(&pairs), Arc::clone(&seen));
        let mut options = cluster.options(name, Script(script));
        options.slots = NonZeroUsize::MIN;
        workers.push(dual16_worker::start(options).await.unwrap());
    }
    for job in &jobs {
        cluster.succeeded_at_once(job).await;
    }
    let mut bytes = 0;
    for worker in workers {
        bytes += received(&worker).await;
        worker.shutdown(Duration::from_secs(1)).await;
    }
    println!("two workers fetched {bytes} bytes of {JOBS} jobs with a model of {MODEL_BYTES}");
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), JOBS);
    for (job, workers) in &*seen {
        assert_eq!(workers.len(), 1, "{job} ran on {workers:?}");
    }
    assert_eq!(bytes, (JOBS * MODEL_BYTES) as u64);
}

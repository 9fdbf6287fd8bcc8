//! A task that was lost with a worker has the next one to itself: it waits for the others there, and
//! nothing begins beside it.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use dual16_proto::v1::{CancelJobRequest, GetJobRequest, Job, JobState, event_detail::Detail};
use dual16_worker::{RunningWorker, TaskError, TaskOutput, WorkerOptions};

use crate::cluster::{Cluster, Gate, LEASE_TTL, PATIENCE, Script, Task, finish, stage};

const STOP: Duration = Duration::from_secs(1);

/// A worker of four slots with three tasks that go on until `gate` opens, and one that waits for them.
struct Waiting {
    cluster: Cluster,
    worker: RunningWorker,
    /// The job of the task that waits, and the job of the others.
    lost: String,
    others: String,
    gate: Arc<Gate>,
    /// How many tasks were under way when the lone one began, and the most until it ended.
    beside: Arc<Mutex<Vec<usize>>>,
}

impl Waiting {
    async fn new() -> Self {
        let cluster = Cluster::start().await;
        let fallen = Gate::new();
        let stuck = Arc::clone(&fallen);
        let script = move |_: Task<'_>| {
            stuck.wait();
            Ok(finish(Vec::new()))
        };
        let options = WorkerOptions {
            slots: NonZeroUsize::MIN,
            ..cluster.options("fallen", Script(script))
        };
        let fallen_worker = dual16_worker::start(options).await.unwrap();
        let lost = cluster.create_job().await;
        fallen.arrived(1).await;

        let (gate, beside) = (Gate::new(), Arc::default());
        let worker = four_slots(&cluster, "busy", &gate, &beside).await;
        let others = cluster.create_job().await;
        gate.arrived(3).await;
        let before = job(&cluster, &lost).await.last_sequence;
        drop(fallen_worker);
        until(async || {
            let job = job(&cluster, &lost).await;
            job.last_sequence > before && job.stages[0].running == 1
        })
        .await;
        fallen.open();
        Self {
            cluster,
            worker,
            lost,
            others,
            gate,
            beside,
        }
    }
}

/// Waits for a job, which must succeed after so many lost attempts.
async fn succeeded_after(cluster: &Cluster, job: &str, lost: usize) {
    let (job, events) = cluster.ended(job).await;
    assert_eq!(job.state(), JobState::Succeeded, "{:?}", job.error);
    let retried = events.iter().filter_map(|event| match event {
        Detail::TaskRetried(retried) => Some(&retried.task),
        _ => None,
    });
    let retried: Vec<_> = retried.collect();
    assert_eq!(retried.len(), lost, "{retried:?}");
}

/// Starts a worker that runs a stage of three maps, which wait at the gate, for every job but the
/// one whose plan is to run alone, which takes a while.
async fn four_slots(
    cluster: &Cluster,
    name: &str,
    gate: &Arc<Gate>,
    beside: &Arc<Mutex<Vec<usize>>>,
) -> RunningWorker {
    let (gate, beside) = (Arc::clone(gate), Arc::clone(beside));
    let (running, begun) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let script = move |task: Task<'_>| -> Result<TaskOutput, TaskError> {
        let before = begun.fetch_add(1, Ordering::SeqCst);
        let now = running.fetch_add(1, Ordering::SeqCst) + 1;
        let outcome = match (task.lease.stage.as_str(), task.payload) {
            ("plan", _) if task.lease.alone => {
                std::thread::sleep(Duration::from_millis(300));
                let more = begun.load(Ordering::SeqCst) - before - 1;
                beside.lock().unwrap().extend([now - 1, more]);
                finish(Vec::new())
            }
            ("plan", _) => stage("maps", vec![vec![1]; 3]),
            (_, []) => finish(Vec::new()),
            _ => {
                gate.wait();
                TaskOutput::default()
            }
        };
        running.fetch_sub(1, Ordering::SeqCst);
        Ok(outcome)
    };
    let options = WorkerOptions {
        slots: NonZeroUsize::new(4).unwrap(),
        ..cluster.options(name, Script(script))
    };
    dual16_worker::start(options).await.unwrap()
}

async fn job(cluster: &Cluster, name: &str) -> Job {
    let request = GetJobRequest {
        name: name.to_owned(),
    };
    let answer = cluster.jobs().await.get_job(request).await;
    answer.unwrap().into_inner()
}

async fn until(mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "it did not come so far in time");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn it_begins_when_the_others_have_ended_and_nothing_begins_beside_it() {
    let waiting = Waiting::new().await;
    let cluster = &waiting.cluster;
    let held = job(cluster, &waiting.lost).await.last_sequence;
    let late = cluster.create_job().await;
    // The lease lives meanwhile, beyond its time, and the free slots stay free.
    tokio::time::sleep(3 * LEASE_TTL).await;
    assert_eq!(job(cluster, &waiting.lost).await.last_sequence, held);
    assert_eq!(job(cluster, &late).await.state(), JobState::Pending);
    assert!(waiting.beside.lock().unwrap().is_empty());
    waiting.gate.open();
    succeeded_after(cluster, &waiting.lost, 1).await;
    succeeded_after(cluster, &waiting.others, 0).await;
    cluster.succeeded_at_once(&late).await;
    assert_eq!(*waiting.beside.lock().unwrap(), [0, 0]);
    waiting.worker.shutdown(STOP).await;
}

#[tokio::test]
async fn a_cancellation_ends_the_wait() {
    let waiting = Waiting::new().await;
    let cluster = &waiting.cluster;
    let cancel = CancelJobRequest {
        name: waiting.lost.clone(),
    };
    cluster.jobs().await.cancel_job(cancel).await.unwrap();
    // The fourth slot takes the next task while the others go on.
    let late = cluster.create_job().await;
    until(async || job(cluster, &late).await.state() == JobState::Running).await;
    assert_eq!(job(cluster, &waiting.others).await.stages[1].done, 0);
    waiting.gate.open();
    cluster.succeeded_at_once(&late).await;
    assert!(waiting.beside.lock().unwrap().is_empty());
    waiting.worker.shutdown(STOP).await;
}

#[tokio::test]
async fn a_drain_gives_it_back_at_once_and_no_attempt_is_counted() {
    let waiting = Waiting::new().await;
    let worker = tokio::spawn(waiting.worker.shutdown(PATIENCE));
    let beside = Arc::default();
    let next = four_slots(&waiting.cluster, "next", &waiting.gate, &beside).await;
    until(async || !beside.lock().unwrap().is_empty()).await;
    assert_eq!(
        job(&waiting.cluster, &waiting.others).await.stages[1].done,
        0
    );
    succeeded_after(&waiting.cluster, &waiting.lost, 1).await;
    waiting.gate.open();
    assert_eq!(worker.await.unwrap().released, 0);
    succeeded_after(&waiting.cluster, &waiting.others, 0).await;
    next.shutdown(STOP).await;
}

#[tokio::test]
async fn the_death_of_its_worker_is_the_others_doing() {
    let waiting = Waiting::new().await;
    drop(waiting.worker);
    let gate = Gate::new();
    gate.open();
    let next = four_slots(&waiting.cluster, "next", &gate, &waiting.beside).await;
    succeeded_after(&waiting.cluster, &waiting.lost, 1).await;
    succeeded_after(&waiting.cluster, &waiting.others, 3).await;
    waiting.gate.open();
    next.shutdown(STOP).await;
}

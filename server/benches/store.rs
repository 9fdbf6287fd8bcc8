//! The store on a real disk, every write durable: tasks leased and completed a second by 16 callers,
//! and the latency of single verbs with 100 and with 10,000 jobs queued.
//!
//! ```sh
//! cargo bench -p dual16-server --bench store
//! ```

#![allow(
    clippy::unwrap_used,
    reason = "a bench that fails has nothing to measure"
)]

use std::{
    io::{self, Write as _},
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use dual16_proto::v1;
use dual16_server::{
    clock::{Clock as _, SystemClock},
    digest::Digest,
    job::{
        Backoff, Completion, JobId, LeaseRef, Machine, NewJob, Next, PlannedStage, Slot, State,
        TaskName,
    },
    principal::Principal,
    store::{Claim, JobQuery, LeasedTask, Quota, RecordStore, SledEngine, Store, StoreConfig},
};

const CALLERS: usize = 16;
const TASKS: u64 = 20_000;
const MAPS_OF_A_STAGE: u64 = 1_000;
const SAMPLES: usize = 1_000;

fn main() {
    // Cargo asks for a list when it collects tests.
    if std::env::args().any(|argument| argument == "--list" || argument == "--test") {
        return;
    }
    let mut out = io::stdout();
    let rate = throughput();
    writeln!(
        out,
        "lease + complete, {CALLERS} callers: {rate:.0} tasks/s"
    )
    .unwrap();
    let few = latencies(100);
    let many = latencies(10_000);
    writeln!(out, "p99 in ms      100 jobs   10,000 jobs   ratio").unwrap();
    for ((verb, few), (_, many)) in few.into_iter().zip(many) {
        let ratio = many / few;
        writeln!(out, "{verb:<10} {few:>12.2} {many:>13.2} {ratio:>7.2}").unwrap();
    }
}

fn open(directory: &Path) -> impl Store {
    let config = StoreConfig {
        machine: Machine {
            max_attempts: 3,
            max_stages: u32::MAX,
            backoff: Backoff::NONE,
        },
        max_open_jobs: u64::MAX,
        quota: Quota {
            open_jobs: u64::MAX,
            bytes: u64::MAX,
        },
    };
    let engine = SledEngine::open(directory).unwrap();
    let now = SystemClock::new().now();
    RecordStore::open(engine, config, now, Duration::from_secs(30)).unwrap()
}

fn create(store: &impl Store) -> JobId {
    let id = JobId::generate();
    let new = NewJob {
        id,
        owner: Principal::anonymous(),
        display_name: "model.onnx".into(),
        spec_digest: Digest::of(b"spec"),
        request_id: None,
        blobs: Vec::new(),
        trace: None,
    };
    let file = v1::InputFile {
        name: "calib/000.safetensors".into(),
        digest: Digest::of(b"batch").to_string(),
        size: 1,
    };
    let spec = v1::JobSpec {
        calibration: vec![file; 32],
        ..v1::JobSpec::default()
    };
    store
        .create_job(new, &spec, SystemClock::new().now())
        .unwrap();
    id
}

fn claim(store: &impl Store) -> Option<LeasedTask> {
    let claim = Claim {
        worker: "bench".into(),
        max_tasks: 1,
        max_bytes: 1 << 20,
        ttl: Duration::from_secs(600),
    };
    let now = SystemClock::new().now();
    store.claim(&claim, now).unwrap().tasks.pop()
}

fn payload() -> v1::Payload {
    v1::Payload {
        kind: Some(v1::payload::Kind::Inline(vec![7; 64])),
    }
}

fn complete(store: &impl Store, task: &LeasedTask, next: Option<Next>) {
    let lease = LeaseRef {
        name: TaskName {
            job: task.job.id,
            task: task.task,
        },
        fence: task.grant.fence,
    };
    let completion = Completion {
        result: payload(),
        blobs: Vec::new(),
        details: Vec::new(),
        next,
    };
    let now = SystemClock::new().now();
    store.complete(lease, completion, now).unwrap();
}

fn stage() -> Next {
    Next::Stage(PlannedStage {
        name: "measure".into(),
        maps: (0..MAPS_OF_A_STAGE).map(|_| payload()).collect(),
        reduce: payload(),
        seconds: 0,
    })
}

/// Tasks a second, from the first lease to the last result.
fn throughput() -> f64 {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    create(&store);
    let plan = claim(&store).unwrap();
    complete(&store, &plan, Some(stage()));
    let done = AtomicU64::new(0);
    let began = Instant::now();
    thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                while done.load(Ordering::Relaxed) < TASKS {
                    // Empty for a moment between the last map and the reduce.
                    let Some(task) = claim(&store) else {
                        continue;
                    };
                    let next = (task.task.slot == Slot::Reduce).then(stage);
                    complete(&store, &task, next);
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    done.into_inner() as f64 / began.elapsed().as_secs_f64()
}

/// p99 of each verb in milliseconds, with so many jobs queued.
fn latencies(jobs: usize) -> Vec<(&'static str, f64)> {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    fill(&store, jobs);
    let submit = p99(
        || {
            let id = create(&store);
            move |store: &_| remove(store, id)
        },
        &store,
    );
    let list = p99(
        || {
            let query = JobQuery {
                before: None,
                owner: None,
                states: vec![State::Pending],
                limit: 50,
                max_bytes: 2 << 20,
            };
            store.list_jobs(&query).unwrap();
            |_: &_| {}
        },
        &store,
    );
    let lease = p99(
        || {
            let task = claim(&store).unwrap();
            move |store: &_| {
                let lease = LeaseRef {
                    name: task.job.task_name(task.task),
                    fence: task.grant.fence,
                };
                Store::release(store, &[lease], SystemClock::new().now()).unwrap();
            }
        },
        &store,
    );
    vec![("submit", submit), ("list", list), ("claim", lease)]
}

fn fill<S: Store>(store: &S, jobs: usize) {
    // Many at a time: their syncs are shared.
    thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                for _ in 0..jobs.div_ceil(CALLERS) {
                    create(store);
                }
            });
        }
    });
}

fn remove<S: Store>(store: &S, id: JobId) {
    store.cancel(id, SystemClock::new().now()).unwrap();
    store.delete(id).unwrap();
}

/// p99 of `verb` in milliseconds; what it returns puts things back, unmeasured.
fn p99<S, B: FnOnce(&S)>(mut verb: impl FnMut() -> B, store: &S) -> f64 {
    let mut times: Vec<Duration> = Vec::with_capacity(SAMPLES);
    for _ in 0..SAMPLES {
        let began = Instant::now();
        let back = verb();
        times.push(began.elapsed());
        back(store);
    }
    times.sort();
    let p99 = times.get(SAMPLES * 99 / 100).copied().unwrap_or_default();
    p99.as_secs_f64() * 1e3
}

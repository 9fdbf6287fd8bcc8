//! Stores on a real disk, every write durable: tasks leased and completed a second by 1 to 64 callers, and
//! the latency of single verbs with 100 and with 10,000 jobs queued. sled, and PostgreSQL where
//! `DUAL16_BENCH_POSTGRES` names a database, whose own settings say what is durable there.
//!
//! ```sh
//! cargo bench --workspace --bench store
//! ```

#![allow(
    clippy::unwrap_used,
    reason = "a bench that fails has nothing to measure"
)]

use std::{
    env,
    io::{self, Write as _},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use dual16_proto::v1;
use dual16_server::{
    clock::{Clock as _, SystemClock, Timestamp},
    digest::Digest,
    job::{
        Backoff, Completion, JobId, LeaseRef, Machine, NewJob, Next, PlannedStage, Priority, Slot,
        State, TaskName,
    },
    principal::Principal,
    store::{
        Claim, Embedded, JobQuery, LeasedTask, PostgresStore, Quota, RecordStore, SledEngine,
        Store, StoreConfig,
    },
};
use sqlx::Connection as _;
use tokio::task::JoinSet;

/// Callers at once.
const CALLERS: [usize; 4] = [1, 4, 16, 64];
/// Jobs that they work on.
const JOBS: usize = 4;
/// Time that each number of callers is measured for.
const MEASURED: Duration = Duration::from_secs(5);
const MAPS_OF_A_STAGE: u64 = 1_000;
const SAMPLES: usize = 500;

#[tokio::main]
async fn main() {
    // Cargo asks for a list when it collects tests.
    if env::args().any(|argument| argument == "--list" || argument == "--test") {
        return;
    }
    let url = env::var("DUAL16_BENCH_POSTGRES").ok();
    let places = [Some(Place::Sled), url.map(Place::Postgres)];
    for place in places.into_iter().flatten() {
        let name = place.name();
        for callers in CALLERS {
            let measured = throughput(&place, callers).await;
            print(format!(
                "{name:<10} {callers:>2} callers: {:>6.0} tasks leased and completed a second, claim p50 {:.1} ms, p99 {:.1} ms",
                measured.rate, measured.p50, measured.p99
            ));
        }
        let few = latencies(&place, 100).await;
        let many = latencies(&place, 10_000).await;
        print(format!(
            "{name:<10} p99 in ms  100 jobs   10,000 jobs   ratio"
        ));
        for ((verb, few), (_, many)) in few.into_iter().zip(many) {
            let ratio = many / few;
            print(format!("{verb:<20} {few:>9.2} {many:>13.2} {ratio:>7.2}"));
        }
    }
}

fn print(line: String) {
    let mut out = io::stdout();
    writeln!(out, "{line}").unwrap();
}

/// Where a store is measured.
enum Place {
    Sled,
    Postgres(String),
}

impl Place {
    fn name(&self) -> &'static str {
        match self {
            Self::Sled => "sled",
            Self::Postgres(_) => "postgres",
        }
    }

    /// An empty store. The directory goes with its guard.
    async fn open(&self) -> (Arc<dyn Store>, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let config = config();
        let store: Arc<dyn Store> = match self {
            Self::Sled => sled(directory.path(), config),
            Self::Postgres(url) => {
                let schema = format!(
                    "bench_{}",
                    JobId::generate().to_string().replace(['/', '-'], "_")
                );
                let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
                let create = sqlx::AssertSqlSafe(format!("CREATE SCHEMA {schema}"));
                sqlx::query(create).execute(&mut connection).await.unwrap();
                let url = format!("{url}?options=-c%20search_path%3D{schema}");
                let ttl = Duration::from_secs(30);
                Arc::new(PostgresStore::open(&url, config, None, ttl).await.unwrap())
            }
        };
        (store, directory)
    }
}

fn config() -> StoreConfig {
    StoreConfig {
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
    }
}

fn sled(directory: &Path, config: StoreConfig) -> Arc<dyn Store> {
    let engine = SledEngine::open(directory).unwrap();
    let ttl = Duration::from_secs(30);
    let records = RecordStore::open(engine, config, now(), ttl).unwrap();
    Arc::new(Embedded::new(records))
}

fn now() -> Timestamp {
    SystemClock::new().now()
}

async fn create(store: &dyn Store) -> JobId {
    let id = JobId::generate();
    let new = NewJob {
        id,
        owner: Principal::anonymous(),
        priority: Priority::Normal,
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
    store.create_job(new, &spec, now()).await.unwrap();
    id
}

async fn claim(store: &dyn Store) -> Option<LeasedTask> {
    let claim = Claim {
        worker: "bench".into(),
        jobs: Vec::new(),
        max_tasks: 1,
        max_bytes: 1 << 20,
        ttl: Duration::from_secs(600),
    };
    store.claim(&claim, now()).await.unwrap().tasks.pop()
}

fn payload() -> v1::Payload {
    v1::Payload {
        kind: Some(v1::payload::Kind::Inline(vec![7; 64])),
    }
}

async fn complete(store: &dyn Store, task: &LeasedTask, next: Option<Next>) {
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
    store.complete(lease, completion, now()).await.unwrap();
}

fn stage() -> Next {
    Next::Stage(PlannedStage {
        name: "measure".into(),
        maps: (0..MAPS_OF_A_STAGE).map(|_| payload()).collect(),
        reduce: payload(),
        seconds: 0,
    })
}

struct Measured {
    /// Tasks a second.
    rate: f64,
    /// Of a claim that got a task, in milliseconds.
    p50: f64,
    p99: f64,
}

async fn throughput(place: &Place, callers: usize) -> Measured {
    let (store, _directory) = place.open().await;
    let mut plans = Vec::new();
    for _ in 0..JOBS {
        create(&*store).await;
        plans.extend(claim(&*store).await);
    }
    for plan in plans {
        complete(&*store, &plan, Some(stage())).await;
    }
    let done = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let mut working = JoinSet::new();
    for _ in 0..callers {
        let (store, done) = (Arc::clone(&store), Arc::clone(&done));
        working.spawn(async move {
            let mut claims = Vec::new();
            while began.elapsed() < MEASURED {
                let asked = Instant::now();
                // Empty for a moment between the last map and the reduce.
                let Some(task) = claim(&*store).await else {
                    continue;
                };
                claims.push(asked.elapsed());
                let next = (task.task.slot == Slot::Reduce).then(stage);
                complete(&*store, &task, next).await;
                done.fetch_add(1, Ordering::Relaxed);
            }
            claims
        });
    }
    let mut claims: Vec<_> = working.join_all().await.into_iter().flatten().collect();
    let rate = done.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64();
    claims.sort_unstable();
    Measured {
        rate,
        p50: percentile(&claims, 50),
        p99: percentile(&claims, 99),
    }
}

/// p99 of each verb in milliseconds, with so many jobs queued.
async fn latencies(place: &Place, jobs: usize) -> Vec<(&'static str, f64)> {
    let (store, _directory) = place.open().await;
    // Many at a time: their syncs are shared.
    let mut filling = JoinSet::new();
    for _ in 0..16 {
        let store = Arc::clone(&store);
        filling.spawn(async move {
            for _ in 0..jobs.div_ceil(16) {
                create(&*store).await;
            }
        });
    }
    filling.join_all().await;
    let (mut submit, mut list, mut lease) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..SAMPLES {
        let began = Instant::now();
        let id = create(&*store).await;
        submit.push(began.elapsed());
        store.cancel(id, now()).await.unwrap();
        store.delete(id).await.unwrap();

        let query = JobQuery {
            before: None,
            owner: None,
            states: vec![State::Pending],
            limit: 50,
            max_bytes: 2 << 20,
        };
        let began = Instant::now();
        store.list_jobs(&query).await.unwrap();
        list.push(began.elapsed());

        let began = Instant::now();
        let task = claim(&*store).await.unwrap();
        lease.push(began.elapsed());
        let held = LeaseRef {
            name: task.job.task_name(task.task),
            fence: task.grant.fence,
        };
        store.release(&[held], now()).await.unwrap();
    }
    [("submit", submit), ("list", list), ("claim", lease)]
        .map(|(verb, mut times)| {
            times.sort_unstable();
            (verb, percentile(&times, 99))
        })
        .to_vec()
}

/// Of sorted times, in milliseconds.
fn percentile(times: &[Duration], percent: usize) -> f64 {
    let at = times.len() * percent / 100;
    let time = times.get(at).copied().unwrap_or_default();
    time.as_secs_f64() * 1e3
}

//! Jobs that hold, fill or crash what runs them: they are ended by name and in time, and no other job of
//! the same worker feels it. Nothing that a worker starts outlives it.

use std::{
    future::Future,
    process::Command,
    time::{Duration, Instant},
};

use dual16_proto::v1;
use dual16_tests::{
    ServerProcess, WorkerProcess,
    ops::{self, Scrape},
};

use crate::support::{Api, Hostile, TinyJob, Watched};

const TTL: [&str; 4] = ["--lease-ttl", "1", "--retry-backoff-millis", "0"];

/// Until a job that was cancelled holds nothing any more.
const FREE: Duration = Duration::from_secs(2);

/// Longer than anything here takes on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(90);

const PAUSE: Duration = Duration::from_millis(20);

/// Two workers of two slots each, and four jobs that hold all of them.
struct Held {
    api: Api,
    workers: [WorkerProcess; 2],
    jobs: Vec<String>,
    _server: ServerProcess,
}

impl Held {
    async fn start(flags: &[&str]) -> Self {
        let flags = [&TTL, flags].concat();
        let server = tokio::task::block_in_place(|| ServerProcess::start_on("127.0.0.1:0", &flags));
        let api = Api::to(&server.url());
        let workers = ["a", "b"].map(|name| WorkerProcess::start(&server, name, 2));
        let mut jobs = Vec::new();
        for (i, kind) in [Hostile::Loop, Hostile::Products]
            .into_iter()
            .cycle()
            .take(4)
            .enumerate()
        {
            let note = format!("hostile {i}");
            let spec = kind.spec(&api, &note).await;
            jobs.push(api.create(&spec, &note).await.name);
        }
        let held = Self {
            api,
            workers,
            jobs,
            _server: server,
        };
        until("all slots are held", PATIENCE, async || {
            held.running() == 4.0
        })
        .await;
        held
    }

    /// Tasks that the workers run.
    fn running(&self) -> f64 {
        let running =
            |worker: &WorkerProcess| Scrape::of(&worker.ops()).sum("dual16_running_tasks", &[]);
        self.workers.iter().map(running).sum()
    }

    async fn honest(&self) -> String {
        let job = TinyJob::new("honest");
        job.submit(&self.api).await.name
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_without_an_end_hold_nothing_once_they_are_cancelled() {
    let held = Held::start(&[]).await;
    let honest = held.honest().await;
    for name in &held.jobs {
        let cancel = v1::CancelJobRequest { name: name.clone() };
        held.api.jobs().cancel_job(cancel).await.unwrap();
    }
    let cancelled = Instant::now();
    let others = || held.running() == 0.0;
    until("the slots are free", FREE, async || {
        // The honest job may have them by now.
        others() || held.api.job(&honest).await.state() == v1::JobState::Succeeded
    })
    .await;
    succeeded(&held.api, &honest).await;
    // What was told to stop and did not is gone as well, and computes no more.
    until("their processes are gone", FREE, async || {
        let busy = held.workers.iter().flat_map(WorkerProcess::children);
        busy.filter(|child| threads_at_work(*child)).count() == 0
    })
    .await;
    assert!(cancelled.elapsed() < PATIENCE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_without_an_end_are_ended_at_their_deadline_by_name() {
    let held = Held::start(&["--limit-task-seconds", "5"]).await;
    let honest = held.honest().await;
    for (i, name) in held.jobs.iter().enumerate() {
        let error = failed(&held.api, name).await;
        assert_eq!(error.code, "DEADLINE_EXCEEDED", "{error:#?}");
        let node = ["at 'node_y'", "'node_h' to 'node_y'"][i % 2];
        for part in ["5 s", "--limit-task-seconds", node] {
            assert!(error.message.contains(part), "{part}: {error:#?}");
        }
    }
    succeeded(&held.api, &honest).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_with_a_deadline_of_its_own_is_ended_by_it() {
    let server = tokio::task::block_in_place(|| ServerProcess::start_on("127.0.0.1:0", &TTL));
    let api = Api::to(&server.url());
    let spec = v1::JobSpec {
        deadline_seconds: 2,
        ..Hostile::Loop.spec(&api, "limited").await
    };
    let ended = async |note| {
        let name = api.create(&spec, note).await.name;
        let error = failed(&api, &name).await;
        assert_eq!(error.code, "DEADLINE_EXCEEDED", "{error:#?}");
        error.message
    };
    let message = ended("without a worker").await;
    assert!(message.contains("no worker was at it"), "{message}");
    let _worker = WorkerProcess::start(&server, "only", 1);
    let message = ended("with a worker").await;
    assert!(message.contains("the job has a deadline"), "{message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_that_want_too_much_memory_are_refused_by_name_and_disturb_nobody() {
    const LIMIT_MIB: u64 = 512;
    let server = tokio::task::block_in_place(|| ServerProcess::start_on("127.0.0.1:0", &TTL));
    let api = Api::to(&server.url());
    let limit = format!("{LIMIT_MIB}MiB");
    let flags = ["--workers", "3", "--memory-limit", &limit];
    let worker = WorkerProcess::start_with(&server, "small", &flags);
    let honest = TinyJob::slow("honest").submit(&api).await.name;
    until("it runs", PATIENCE, async || {
        api.job(&honest).await.state() != v1::JobState::Pending
    })
    .await;
    // 1 TiB, and 2.4 GB.
    for (shape, wants) in [
        ([1 << 13, 1 << 13, 1 << 12], "1048576 MiB"),
        ([600, 1000, 1000], "2289 MiB"),
    ] {
        let spec = Hostile::Constant(shape).spec(&api, wants).await;
        let name = api.create(&spec, wants).await.name;
        let error = failed(&api, &name).await;
        assert_eq!(error.code, "MEMORY_LIMIT", "{error:#?}");
        assert_eq!(error.attempts.len(), 1, "{error:#?}");
        for part in [
            wants,
            "lets a job have",
            "'node_h' to 'node_y'",
            "--memory-limit",
        ] {
            assert!(error.message.contains(part), "{part}: {error:#?}");
        }
    }
    succeeded(&api, &honest).await;
    let peak = worker.peak_mib();
    assert!(peak < LIMIT_MIB * 11 / 10, "{peak} MiB");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_costs_its_own_job_an_attempt_and_no_process_outlives_its_worker() {
    let server = tokio::task::block_in_place(|| ServerProcess::start_on("127.0.0.1:0", &TTL));
    let api = Api::to(&server.url());
    let mut worker = WorkerProcess::start(&server, "only", 2);
    let victim = TinyJob::slow("victim").submit(&api).await.name;
    until("its process runs", PATIENCE, async || {
        worker.children().len() == 1
    })
    .await;
    let process = worker.children()[0];
    let other = TinyJob::slow("other").submit(&api).await.name;
    until("another beside it", PATIENCE, async || {
        worker.children().len() == 2
    })
    .await;
    signal(process, "ABRT");
    let watched = Watched::to_the_end(&api, &victim).await;
    assert_eq!(api.job(&victim).await.state(), v1::JobState::Succeeded);
    // The tasks that ran in it, where it was not between two.
    assert!(watched.retried() <= 2, "{}", watched.retried());
    succeeded(&api, &other).await;

    // One that does not answer is told of.
    let endless = Hostile::Loop.spec(&api, "endless").await;
    api.create(&endless, "endless").await;
    until("a process that loops", PATIENCE, async || {
        worker
            .children()
            .iter()
            .any(|child| threads_at_work(*child))
    })
    .await;
    let children = worker.children();
    for child in &children {
        signal(*child, "STOP");
    }
    until("the worker says so", PATIENCE, async || {
        let answer = ops::get(&worker.ops(), "/readyz");
        answer.status == 503 && answer.body.contains("has not answered")
    })
    .await;
    assert_eq!(ops::get(&worker.ops(), "/livez").status, 200);

    worker.kill();
    until("nothing is left", FREE, async || {
        !children.iter().any(|child| is_alive(*child))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_leaves_no_process_either() {
    let server = tokio::task::block_in_place(|| ServerProcess::start_on("127.0.0.1:0", &TTL));
    let api = Api::to(&server.url());
    let flags = ["--workers", "1", "--drain-seconds", "0"];
    let worker = WorkerProcess::start_with(&server, "only", &flags);
    let spec = Hostile::Loop.spec(&api, "endless").await;
    let name = api.create(&spec, "endless").await.name;
    until("its process runs", PATIENCE, async || {
        worker.children().len() == 1
    })
    .await;
    let children = worker.children();
    tokio::task::block_in_place(|| worker.drain()).success();
    assert!(!children.iter().any(|child| is_alive(*child)));
    let job = api.job(&name).await;
    assert_eq!(job.state(), v1::JobState::Running, "{job:#?}");
    assert_eq!(job.stages[0].running, 0, "it was given back");
}

/// Waits until something is so.
async fn until<F: Future<Output = bool>>(what: &str, limit: Duration, so: impl Fn() -> F) {
    let deadline = Instant::now() + limit;
    while !so().await {
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        tokio::time::sleep(PAUSE).await;
    }
}

/// Waits for a job that must not have lost an attempt.
async fn succeeded(api: &Api, name: &str) {
    let watched = Watched::to_the_end(api, name).await;
    let job = api.job(name).await;
    assert_eq!(job.state(), v1::JobState::Succeeded, "{job:#?}");
    assert_eq!(watched.retried(), 0);
}

/// Waits for the error of a job.
async fn failed(api: &Api, name: &str) -> v1::JobError {
    Watched::to_the_end(api, name).await;
    let job = api.job(name).await;
    assert_eq!(job.state(), v1::JobState::Failed, "{job:#?}");
    job.error.unwrap_or_default()
}

fn signal(process: u32, name: &str) {
    let kill = r#"kill -s "$1" "$2""#;
    let number = process.to_string();
    let status = Command::new("sh")
        .args(["-c", kill, "sh", name, &number])
        .status();
    assert!(
        status.unwrap().success(),
        "{process} cannot be sent SIG{name}"
    );
}

fn state(file: &str) -> Option<char> {
    let stat = std::fs::read_to_string(file).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.chars().next()
}

fn is_alive(process: u32) -> bool {
    state(&format!("/proc/{process}/stat")).is_some_and(|state| state != 'Z' && state != 'X')
}

/// Whether a thread of a process computes, now and a moment later.
fn threads_at_work(process: u32) -> bool {
    let works = || {
        let Ok(threads) = std::fs::read_dir(format!("/proc/{process}/task")) else {
            return false;
        };
        let stat = |thread: std::fs::DirEntry| thread.path().join("stat").display().to_string();
        let mut states = threads.filter_map(|thread| state(&stat(thread.ok()?)));
        states.any(|state| state == 'R')
    };
    works() && {
        std::thread::sleep(PAUSE);
        works()
    }
}

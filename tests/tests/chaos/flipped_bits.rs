//! Bits flip in what is kept, while jobs run: in the cache of a worker and in the blobs of a server. A
//! job may fail for it where nobody has the right bytes any more; it never succeeds with wrong ones.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use dual16_proto::v1;
use dual16_tests::{ServerProcess, WorkerProcess, ops::Scrape};
use tonic::Code;

use crate::support::{Api, Plan, TinyJob, Watched, comparable, reference, results};

/// What is tested is damage and not patience.
const PATIENT: [&str; 4] = ["--limit-attempts", "1000", "--retry-backoff-millis", "0"];
/// What nobody has any more is asked for so often, and no more.
const BRIEF: [&str; 4] = ["--limit-attempts", "8", "--retry-backoff-millis", "0"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bits_that_flip_in_a_workers_cache_change_no_result() {
    let plan = Plan::of("bits in a cache", 50);
    let server = tokio::task::block_in_place(|| ServerProcess::start_on("127.0.0.1:0", &PATIENT));
    let worker = tokio::task::block_in_place(|| WorkerProcess::start(&server, "only", 2));
    let api = Api::to(&server.url());
    let flipper = Flipper::over(worker.cache().join("blobs"), plan);
    for round in 0..flipper.rounds {
        let job = TinyJob::new(format!("round {round}")).submit(&api).await;
        Watched::to_the_end(&api, &job.name).await;
        let job = api.job(&job.name).await;
        assert!(
            results(&api, &job).await == *reference(&job).await,
            "{} left other bytes",
            job.name
        );
    }
    assert!(flipper.end() > 0, "nothing was ever flipped");
    let metrics = tokio::task::block_in_place(|| Scrape::of(&worker.ops()));
    let found = metrics.sum("dual16_blob_cache_damaged_total", &[]);
    assert!(found > 0.0, "no flipped bit was ever met");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bits_that_flip_in_stored_blobs_are_never_computed_on_nor_handed_out() {
    let plan = Plan::of("stored bits", 50);
    let server = tokio::task::block_in_place(|| ServerProcess::start_on("127.0.0.1:0", &BRIEF));
    let _worker = tokio::task::block_in_place(|| WorkerProcess::start(&server, "only", 2));
    let api = Api::to(&server.url());
    let flipper = Flipper::over(server.state().join("blobs"), plan);
    let mut lost = Vec::new();
    for round in 0..flipper.rounds {
        let job = TinyJob::new(format!("round {round}"));
        let spec = job.spec(&api).await;
        let job = match api.try_create(&spec, &job.note).await {
            Ok(job) => job,
            // What was damaged since its upload is missing, and the server says so.
            Err(status) => {
                assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
                continue;
            }
        };
        Watched::to_the_end(&api, &job.name).await;
        let job = api.job(&job.name).await;
        if job.state() == v1::JobState::Succeeded {
            let right = reference(&job).await;
            for artifact in &job.artifacts {
                match api.try_download(&artifact.digest).await {
                    Ok(bytes) => assert!(
                        comparable(bytes, &job) == right[&artifact.name],
                        "{} of {} is wrong",
                        artifact.name,
                        job.name
                    ),
                    Err(status) => assert!(
                        [Code::DataLoss, Code::NotFound].contains(&status.code()),
                        "{status}"
                    ),
                }
            }
        } else {
            lost.push(job.error.unwrap_or_default());
        }
    }
    assert!(flipper.end() > 0, "nothing was ever flipped");
    let by_damage = |error: &v1::JobError| match error.code.as_str() {
        "BLOB_DAMAGED" | "BLOB_MISSING" | "IO" => true,
        // Of its bytes too: nobody sends them again.
        "ATTEMPTS_EXHAUSTED" => ["was damaged", "does not exist"]
            .iter()
            .any(|words| error.message.contains(words)),
        _ => false,
    };
    assert!(lost.iter().all(by_damage), "{lost:#?}");
}

/// Flips a bit of some file now and then.
struct Flipper {
    rounds: u32,
    ended: Arc<AtomicBool>,
    thread: thread::JoinHandle<usize>,
}

impl Flipper {
    fn over(folder: PathBuf, mut plan: Plan) -> Self {
        let (rounds, ended) = (plan.rounds, Arc::new(AtomicBool::new(false)));
        let stop = Arc::clone(&ended);
        let thread = thread::spawn(move || {
            let mut flipped = 0;
            while !stop.load(Ordering::Relaxed) {
                thread::sleep(plan.time(2..60));
                flipped += usize::from(flip(&folder, &mut plan).is_some());
            }
            flipped
        });
        Self {
            rounds,
            ended,
            thread,
        }
    }

    /// How many bits it has flipped.
    fn end(self) -> usize {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// Flips one bit of one file below a folder, where there is one just now.
fn flip(folder: &Path, plan: &mut Plan) -> Option<()> {
    let mut files = Vec::new();
    below(folder, &mut files);
    files.sort();
    let path = files.get(plan.number(0..files.len().max(1)))?;
    let file = File::options().read(true).write(true).open(path).ok()?;
    let size = usize::try_from(file.metadata().ok()?.len()).ok()?;
    let at = plan.number(0..size.max(1)) as u64;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).ok()?;
    byte[0] ^= 1 << plan.number(0..8);
    file.write_all_at(&byte, at).ok()
}

fn below(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => below(&entry.path(), files),
            Ok(kind) if kind.is_file() => files.push(entry.path()),
            _ => {}
        }
    }
}

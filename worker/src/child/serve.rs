//! What runs in a process of a job's tasks. It has no network, no token and no server: everything
//! that a task needs it asks of the worker over the socket that is its stdin.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, BufReader},
    num::NonZeroUsize,
    os::{fd::AsFd as _, unix::net::UnixStream},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use dual16_proto::v1::JobSpec;
use dual16_quant::{
    flow::KernelRun,
    memory::{Held, Kind, Lender, MemoryBudget},
    place,
};
use rustix::process::{Resource, Rlimit, Signal, set_parent_process_death_signal, setrlimit};

use super::{
    place::Slot,
    spans,
    wire::{
        self, Ask, Begin, Borrow, Done, Failure, KernelRan, Lent, Order, Report, Run, Share,
        answer, ask, done, order, report,
    },
};
use crate::{
    compute,
    quantize_runner::QuantizeRunner,
    runner::{Blobs, Control, TaskError, TaskRunner},
};

/// How long a task waits before it asks again for memory that others hold.
const AGAIN: Duration = Duration::from_millis(20);

/// The kernel ends this process before any of those that hold it, where memory is short.
const SCORE: &str = "500";

/// Runs what the worker sends until the worker goes away.
pub(super) fn serve() -> ExitCode {
    // Whatever of this the system refuses, the socket still ends the process with its worker.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    let _ = fs::write("/proc/self/oom_score_adj", SCORE);
    let no_core = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let _ = setrlimit(Resource::Core, no_core);
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        // The worker is gone, or no worker has started this.
        Err(_) => ExitCode::FAILURE,
    }
}

fn run() -> io::Result<()> {
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let places = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let mut from = BufReader::new(socket.try_clone()?);
    let begin = wire::read::<Order>(&mut from)?.and_then(|order| order.kind);
    let Some(order::Kind::Begin(begin)) = begin else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let Begin {
        threads,
        memory,
        spec,
    } = *begin;
    let threads = usize::try_from(threads).ok().and_then(NonZeroUsize::new);
    compute::bound(threads.unwrap_or(NonZeroUsize::MIN));
    let line = Arc::new(Line {
        writer: Mutex::new(socket),
        asked: Mutex::default(),
        next: AtomicU64::new(0),
        limit: memory,
    });
    let reports = Arc::clone(&line);
    spans::hand_on(Arc::new(move |kind| reports.send(kind)));
    let spec = Arc::new(spec);
    let budget = MemoryBudget::lent(Arc::clone(&line) as Arc<dyn Lender>);
    let runner = Arc::new(QuantizeRunner::new(budget));
    let mut tasks: HashMap<u64, Arc<AtomicBool>> = HashMap::new();
    while let Some(order) = wire::read::<Order>(&mut from)? {
        match order.kind {
            Some(order::Kind::Run(run)) => {
                // Whatever has ended is held by nobody else.
                tasks.retain(|_, cancelled| Arc::strong_count(cancelled) > 1);
                let cancelled = Arc::new(AtomicBool::new(false));
                tasks.insert(run.task, Arc::clone(&cancelled));
                let task = Task {
                    id: run.task,
                    spec: Arc::clone(&spec),
                    line: Arc::clone(&line),
                    cancelled,
                };
                let (runner, slot) = (
                    Arc::clone(&runner),
                    Slot::new(places.try_clone()?, run.slot),
                );
                let id = run.task;
                let spawned = thread::Builder::new()
                    .name("dual16-task".to_owned())
                    .spawn(move || task.run(&*runner, slot, &run));
                if let Err(error) = spawned {
                    line.done(
                        id,
                        failed(TaskError::io(format!("cannot start a thread: {error}"))),
                    );
                }
            }
            Some(order::Kind::Cancel(task)) => {
                if let Some(cancelled) = tasks.get(&task) {
                    cancelled.store(true, Ordering::Relaxed);
                }
            }
            Some(order::Kind::Answer(answer)) => {
                let asked = line.asked().remove(&answer.ask);
                if let (Some(asked), Some(kind)) = (asked, answer.kind) {
                    // Who asked waits.
                    let _ = asked.send(kind);
                }
            }
            Some(order::Kind::Ping(_)) => line.send(report::Kind::Pong(true)),
            Some(order::Kind::Begin(_)) | None => {}
        }
    }
    Ok(())
}

/// The way to the worker, shared by all tasks.
#[derive(Debug)]
struct Line {
    writer: Mutex<UnixStream>,
    asked: Mutex<HashMap<u64, mpsc::SyncSender<answer::Kind>>>,
    next: AtomicU64,
    /// Memory for the tasks of the whole worker.
    limit: Option<u64>,
}

impl Line {
    /// Sends a report. A worker that is gone does not take it, and its end ends this process.
    fn send(&self, kind: report::Kind) {
        let report = Report { kind: Some(kind) };
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = wire::write(&mut *writer, &report);
    }

    /// Asks, and waits for the answer.
    fn ask(&self, kind: impl FnOnce(u64) -> report::Kind) -> io::Result<answer::Kind> {
        let ask = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = mpsc::sync_channel(1);
        self.asked().insert(ask, sender);
        self.send(kind(ask));
        answer
            .recv()
            .map_err(|_| io::Error::new(io::ErrorKind::Interrupted, "the worker is gone"))
    }

    fn borrow(&self, share: Option<Share>) -> Lent {
        match self.ask(|ask| report::Kind::Borrow(Borrow { ask, share })) {
            Ok(answer::Kind::Lent(lent)) => lent,
            _ => Lent::default(),
        }
    }

    fn done(&self, task: u64, kind: done::Kind) {
        self.send(report::Kind::Done(Done {
            task,
            kind: Some(kind),
        }));
    }

    fn asked(&self) -> MutexGuard<'_, HashMap<u64, mpsc::SyncSender<answer::Kind>>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Memory is the worker's to lend: it knows what its other processes hold.
impl Lender for Line {
    fn limit(&self) -> Option<u64> {
        self.limit
    }

    fn held(&self) -> Held {
        held(self.borrow(None))
    }

    fn take(&self, kind: Kind, bytes: u64, patience: Duration) -> Result<(), Held> {
        let lent = self.borrow(Some(share(kind, bytes)));
        if lent.taken {
            return Ok(());
        }
        thread::sleep(patience.min(AGAIN));
        Err(held(lent))
    }

    fn give_back(&self, kind: Kind, bytes: u64) {
        self.send(report::Kind::GiveBack(share(kind, bytes)));
    }
}

fn held(lent: Lent) -> Held {
    Held {
        resident: lent.resident,
        running: lent.running,
    }
}

fn share(kind: Kind, bytes: u64) -> Share {
    Share {
        running: kind == Kind::Running,
        bytes,
    }
}

/// One task and what it asks of its surroundings.
#[derive(Debug)]
struct Task {
    id: u64,
    spec: Arc<JobSpec>,
    line: Arc<Line>,
    cancelled: Arc<AtomicBool>,
}

impl Task {
    fn run(&self, runner: &dyn TaskRunner, slot: Slot, run: &Run) {
        spans::of_task(self.id);
        let report: place::Report = Arc::new(move |name: &str| slot.at(name));
        let done = place::within(report, || {
            compute::guarded(|| {
                let (payload, inputs) = (&run.payload, &run.inputs);
                runner.run(&run.lease, &self.spec, payload, inputs, self, self)
            })
        });
        let kind = match done {
            Ok(output) => done::Kind::Output(output.into()),
            Err(error) => failed(error),
        };
        self.line.done(self.id, kind);
    }

    fn ask(&self, kind: ask::Kind) -> io::Result<String> {
        let task = self.id;
        let answer = self.line.ask(|ask| {
            report::Kind::Ask(Ask {
                ask,
                task,
                kind: Some(kind),
            })
        })?;
        match answer {
            answer::Kind::Text(text) => Ok(text),
            answer::Kind::Failed(error) => Err(error.into()),
            answer::Kind::Lent(_) => Err(io::Error::other("the worker answers something else")),
        }
    }
}

fn failed(error: TaskError) -> done::Kind {
    done::Kind::Failed(Failure {
        code: error.code.into_owned(),
        message: error.message,
        permanent: error.permanent,
    })
}

impl Blobs for Task {
    fn path(&self, digest: &str) -> io::Result<PathBuf> {
        self.ask(ask::Kind::Path(digest.to_owned()))
            .map(PathBuf::from)
    }

    fn put(&self, bytes: Vec<u8>) -> io::Result<String> {
        self.ask(ask::Kind::Put(bytes))
    }

    fn put_file(&self, file: &Path) -> io::Result<String> {
        let path = file.to_str().ok_or(io::ErrorKind::InvalidFilename)?;
        self.ask(ask::Kind::PutFile(path.to_owned()))
    }
}

impl Control for Task {
    fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    fn kernel_ran(&self, run: &KernelRun) {
        self.line.send(report::Kind::KernelRan(KernelRan {
            task: self.id,
            way: run.way.name().to_owned(),
            products: run.products,
            nanoseconds: u64::try_from(run.took.as_nanos()).unwrap_or(u64::MAX),
        }));
    }
}

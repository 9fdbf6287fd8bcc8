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
    wire::{self, Answer, Ask, Begin, Bytes, OfTask, Order, Report, Run},
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
    let Some(Order::Begin(begin)) = wire::read(&mut from)? else {
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
    spans::hand_on(Arc::new(move |report| reports.send(report)));
    let spec = Arc::new(spec.0);
    let budget = MemoryBudget::lent(Arc::clone(&line) as Arc<dyn Lender>);
    let runner = Arc::new(QuantizeRunner::new(budget));
    let mut tasks: HashMap<u64, Arc<AtomicBool>> = HashMap::new();
    while let Some(order) = wire::read::<Order>(&mut from)? {
        match order {
            Order::Run(run) => {
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
                    .spawn(move || task.run(&*runner, slot, *run));
                if let Err(error) = spawned {
                    let error = TaskError::io(format!("cannot start a thread: {error}"));
                    line.send(&Report::OfTask(id, OfTask::Done(Err(error))));
                }
            }
            Order::Cancel(task) => {
                if let Some(cancelled) = tasks.get(&task) {
                    cancelled.store(true, Ordering::Relaxed);
                }
            }
            Order::Answer(ask, answer) => {
                if let Some(asked) = line.asked().remove(&ask) {
                    // Who asked waits.
                    let _ = asked.send(answer);
                }
            }
            Order::Ping => line.send(&Report::Pong),
            Order::Begin(_) => {}
        }
    }
    Ok(())
}

/// The way to the worker, shared by all tasks.
#[derive(Debug)]
struct Line {
    writer: Mutex<UnixStream>,
    asked: Mutex<HashMap<u64, mpsc::SyncSender<Answer>>>,
    next: AtomicU64,
    /// Memory for the tasks of the whole worker.
    limit: Option<u64>,
}

impl Line {
    /// Sends a report. A worker that is gone does not take it, and its end ends this process.
    fn send(&self, report: &Report) {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = wire::write(&mut *writer, report);
    }

    /// Asks, and waits for the answer.
    fn ask(&self, report: impl FnOnce(u64) -> Report) -> io::Result<Answer> {
        let ask = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = mpsc::sync_channel(1);
        self.asked().insert(ask, sender);
        self.send(&report(ask));
        answer
            .recv()
            .map_err(|_| io::Error::new(io::ErrorKind::Interrupted, "the worker is gone"))
    }

    fn borrow(&self, share: Option<(Kind, u64)>) -> Result<(), Held> {
        match self.ask(|ask| Report::Borrow { ask, share }) {
            Ok(Answer::Lent(lent)) => lent,
            _ => Err(Held::default()),
        }
    }

    fn asked(&self) -> MutexGuard<'_, HashMap<u64, mpsc::SyncSender<Answer>>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Memory is the worker's to lend: it knows what its other processes hold.
impl Lender for Line {
    fn limit(&self) -> Option<u64> {
        self.limit
    }

    fn held(&self) -> Held {
        self.borrow(None).err().unwrap_or_default()
    }

    fn take(&self, kind: Kind, bytes: u64, patience: Duration) -> Result<(), Held> {
        let lent = self.borrow(Some((kind, bytes)));
        if lent.is_err() {
            thread::sleep(patience.min(AGAIN));
        }
        lent
    }

    fn give_back(&self, kind: Kind, bytes: u64) {
        self.send(&Report::GiveBack(kind, bytes));
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
    fn run(&self, runner: &dyn TaskRunner, slot: Slot, run: Run) {
        spans::of_task(self.id);
        let report: place::Report = Arc::new(move |name: &str| slot.at(name));
        let inputs: Vec<Vec<u8>> = run.inputs.into_iter().map(|input| input.0).collect();
        let done = place::within(report, || {
            compute::guarded(|| {
                let (lease, payload) = (&run.lease.0, &run.payload.0);
                runner.run(lease, &self.spec, payload, &inputs, self, self)
            })
        });
        self.tell(OfTask::Done(done.map(Into::into)));
    }

    fn tell(&self, what: OfTask) {
        self.line.send(&Report::OfTask(self.id, what));
    }

    fn ask(&self, kind: Ask) -> io::Result<String> {
        let answer = self
            .line
            .ask(|ask| Report::OfTask(self.id, OfTask::Ask { ask, kind }));
        match answer? {
            Answer::Text(done) => done.map_err(Into::into),
            Answer::Lent(_) => Err(io::Error::other("the worker answers something else")),
        }
    }
}

impl Blobs for Task {
    fn path(&self, digest: &str) -> io::Result<PathBuf> {
        self.ask(Ask::Path(digest.to_owned())).map(PathBuf::from)
    }

    fn put(&self, bytes: Vec<u8>) -> io::Result<String> {
        self.ask(Ask::Put(Bytes(bytes)))
    }

    fn put_file(&self, file: &Path) -> io::Result<String> {
        let path = file.to_str().ok_or(io::ErrorKind::InvalidFilename)?;
        self.ask(Ask::PutFile(path.to_owned()))
    }
}

impl Control for Task {
    fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    fn kernel_ran(&self, run: &KernelRun) {
        self.tell(OfTask::KernelRan {
            way: run.way.name().to_owned(),
            products: run.products,
            nanoseconds: u64::try_from(run.took.as_nanos()).unwrap_or(u64::MAX),
        });
    }
}

//! Starts the processes of jobs, watches over them and ends them. On one thread, which lives as long
//! as any of them: the kernel ends a process with the thread that started it.

use std::{
    collections::HashMap,
    io,
    path::PathBuf,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use dual16_proto::v1::JobSpec;

use super::{
    ChildProgram, Shares,
    death::Ended,
    health::{DEAF, Found, Health},
    process::{Process, Running, Surroundings},
};

/// How often processes are looked after.
const ROUND: Duration = Duration::from_millis(100);

/// How long a task may take to end once it is told to.
const GRACE: Duration = Duration::from_secs(1);

/// How long a process is kept for the next task of its job, which would have to load the model again.
const KEPT_IDLE: Duration = Duration::from_secs(5);

/// Idle processes that are kept.
const KEPT: usize = 2;

/// A process that has not answered for this long is told of as one that does not answer.
const SILENT: Duration = Duration::from_secs(5);

/// The kernel takes no longer to end a process that is killed, unless something is badly wrong.
const UNDYING: Duration = Duration::from_secs(60);

/// What a keeper is told at its start.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) program: ChildProgram,
    /// Threads of each process that compute.
    pub(crate) threads: u64,
    pub(crate) shares: Shares,
    /// Where temporary files of the processes go.
    pub(crate) folder: PathBuf,
}

/// Asks of the thread.
enum Request {
    /// A place for a task of a job.
    Enlist {
        job: String,
        spec: Arc<JobSpec>,
        reply: mpsc::SyncSender<io::Result<Running>>,
    },
    /// A job's process has read wrong bytes.
    Forget { job: String },
    /// Idle processes hold memory that another wants.
    MakeRoom { done: mpsc::SyncSender<()> },
    /// All processes are to end.
    End { done: mpsc::SyncSender<()> },
}

/// The thread; it and all processes end when this is dropped.
#[derive(Debug)]
pub(crate) struct Keeper {
    requests: mpsc::Sender<Request>,
    health: Arc<Health>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Keeper {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system has no thread left.
    pub(crate) fn start(settings: Settings) -> io::Result<Self> {
        let (requests, received) = mpsc::channel();
        let for_room = requests.clone();
        let around = Surroundings {
            program: settings.program,
            threads: settings.threads,
            shares: settings.shares,
            make_room: Box::new(move || {
                let (done, made) = mpsc::sync_channel(1);
                if for_room.send(Request::MakeRoom { done }).is_ok() {
                    // Where the thread ends instead, there is nothing to wait for.
                    let _ = made.recv();
                }
            }),
        };
        let health = Arc::new(Health::default());
        let keeper_loop = KeeperLoop {
            around: Arc::new(around),
            folder: settings.folder,
            health: Arc::clone(&health),
            current: HashMap::new(),
            all: Vec::new(),
            next: 0,
        };
        let thread = thread::Builder::new()
            .name("dual16-keeper".to_owned())
            .spawn(move || keeper_loop.run(&received))?;
        Ok(Self {
            requests,
            health,
            thread: Some(thread),
        })
    }

    pub(crate) fn health(&self) -> Arc<Health> {
        Arc::clone(&self.health)
    }

    /// A place for a task in its job's process, which is started where there is none.
    ///
    /// # Errors
    /// The process cannot be started.
    pub(super) fn enlist(&self, job: &str, spec: &Arc<JobSpec>) -> io::Result<Running> {
        let (reply, answer) = mpsc::sync_channel(1);
        let request = Request::Enlist {
            job: job.to_owned(),
            spec: Arc::clone(spec),
            reply,
        };
        let gone = || io::Error::new(io::ErrorKind::Interrupted, "the worker is stopping");
        self.requests.send(request).map_err(|_| gone())?;
        answer.recv().map_err(|_| gone())?
    }

    /// Ends the process of a job; its next task starts another.
    pub(super) fn forget(&self, job: &str) {
        // A thread that is gone has ended it.
        let _ = self.requests.send(Request::Forget {
            job: job.to_owned(),
        });
    }

    /// Ends all processes; they are gone when this returns.
    pub(crate) fn end(&self) {
        let (done, ended) = mpsc::sync_channel(1);
        // A thread that is gone has ended them.
        if self.requests.send(Request::End { done }).is_ok() {
            let _ = ended.recv();
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.end();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the keeper's thread has.
struct KeeperLoop {
    around: Arc<Surroundings>,
    folder: PathBuf,
    health: Arc<Health>,
    /// The process that takes a job's tasks.
    current: HashMap<String, Arc<Process>>,
    /// Every process that is not known to be dead.
    all: Vec<Arc<Process>>,
    next: u64,
}

impl KeeperLoop {
    fn run(mut self, requests: &mpsc::Receiver<Request>) {
        let mut due = Instant::now();
        let done = loop {
            match requests.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(Request::Enlist { job, spec, reply }) => {
                    // A task that no longer waits leaves its place when the answer is dropped.
                    let _ = reply.send(self.enlist(&job, &spec));
                }
                Ok(Request::Forget { job }) => {
                    if let Some(process) = self.current.remove(&job) {
                        process.end(Ended::ByWorker);
                    }
                }
                Ok(Request::MakeRoom { done }) => {
                    self.end_idle(0, Duration::ZERO);
                    let _ = done.send(());
                }
                Ok(Request::End { done }) => break Some(done),
                Err(mpsc::RecvTimeoutError::Disconnected) => break None,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    self.look_after();
                    due = Instant::now() + ROUND;
                }
            }
        };
        for process in &self.all {
            process.end(Ended::ByWorker);
        }
        for process in &self.all {
            if !process.wait(GRACE) {
                tracing::error!(process = process.pid(), "it does not die");
            }
        }
        // Their folders go with them, before whoever waits for this takes the cache's away.
        self.all.clear();
        self.current.clear();
        if let Some(done) = done {
            let _ = done.send(());
        }
    }

    fn enlist(&mut self, job: &str, spec: &JobSpec) -> io::Result<Running> {
        if let Some(running) = self.current.get(job).and_then(Process::enlist) {
            return Ok(running);
        }
        let folder = tempfile::Builder::new()
            .prefix("process-")
            .tempdir_in(&self.folder)?;
        let process = Process::start(&self.around, self.next, job, spec, folder)?;
        self.next += 1;
        self.all.push(Arc::clone(&process));
        self.current.insert(job.to_owned(), Arc::clone(&process));
        process
            .enlist()
            .ok_or_else(|| io::Error::other("the process for the job's tasks died at once"))
    }

    fn look_after(&mut self) {
        self.all.retain(|process| process.ending().is_ok());
        let (mut silent, mut undying) = (None, None);
        for process in &self.all {
            let pid = process.pid();
            if process.stopping().is_some_and(|since| since > GRACE) {
                tracing::info!(
                    process = pid,
                    "a task did not stop when told to; its process is ended"
                );
                process.end(Ended::ByWorker);
            }
            let silence = process.silence();
            if silence > DEAF {
                process.end(Ended::Unanswering);
            }
            if silence > SILENT {
                silent = Some(format!(
                    "the process {pid} of a job's tasks has not answered for {} s",
                    silence.as_secs()
                ));
            }
            if process.ending().is_ok_and(|since| since > UNDYING) {
                undying = Some(format!(
                    "the process {pid} of a job's tasks was killed and does not die"
                ));
            }
        }
        self.end_idle(KEPT, KEPT_IDLE);
        let alive = |process: &Arc<Process>| process.ending().is_ok_and(|since| since.is_zero());
        self.current.retain(|_, process| alive(process));
        self.health.find(Found {
            when: Instant::now(),
            silent,
            undying,
        });
    }

    /// Ends what has been idle for longer than `limit`, and all idle ones but the `most` that became
    /// so last.
    fn end_idle(&mut self, most: usize, limit: Duration) {
        let mut idle: Vec<(Duration, &Arc<Process>)> = self
            .all
            .iter()
            .filter_map(|process| Some((process.idle()?, process)))
            .collect();
        idle.sort_by_key(|(since, _)| *since);
        for (place, (since, process)) in idle.into_iter().enumerate() {
            if place >= most || since > limit {
                process.end(Ended::ByWorker);
            }
        }
    }
}

//! One process of a job's tasks, as the worker holds it. What it reports is read on a thread of its
//! own, which also sees its end.

use std::{
    collections::BTreeMap,
    io,
    net::Shutdown,
    os::{fd::OwnedFd, unix::net::UnixStream},
    process::Stdio,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use dual16_proto::v1::JobSpec;
use dual16_quant::memory::Kind;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tempfile::TempDir;

use super::{
    ChildProgram, Shares,
    command::command,
    death::{Death, Ended, forward, kills_for_memory},
    place::Places,
    wire::{self, Answer, Api, Begin, OfTask, Order, Report},
};

/// A process that takes nothing of what it is sent for this long is taken for one that never will.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// What a task hears of its process.
#[derive(Debug)]
pub(super) enum Heard {
    OfTask(OfTask),
    Died(Arc<Death>),
}

/// What a process needs of its worker.
pub(super) struct Surroundings {
    pub(super) program: ChildProgram,
    pub(super) threads: u64,
    pub(super) shares: Shares,
    /// Where processes that are idle are ended, to make room for one that is not.
    pub(super) make_room: Box<dyn Fn() + Send + Sync>,
}

/// One process.
pub(super) struct Process {
    id: u64,
    pid: u32,
    child: Mutex<std::process::Child>,
    writer: Mutex<UnixStream>,
    places: Places,
    around: Arc<Surroundings>,
    state: Mutex<State>,
    died: Condvar,
    /// Its temporary files, which go with it.
    _folder: TempDir,
    kills_before: Option<u64>,
}

#[derive(Debug)]
struct State {
    tasks: BTreeMap<u64, Task>,
    next: u64,
    /// Since when nothing runs.
    idle: Option<Instant>,
    /// When it was asked for a sign of life, and has not given it.
    asked: Option<Instant>,
    allowed: Option<u64>,
    ended: Option<(Ended, Instant)>,
    death: Option<Arc<Death>>,
}

#[derive(Debug)]
struct Task {
    slot: u64,
    /// Nobody's any more once the task is to stop.
    heard: Option<mpsc::Sender<Heard>>,
    /// Since when it is to stop.
    stopping: Option<Instant>,
}

/// A task in its process.
pub(super) struct Running {
    pub(super) process: Arc<Process>,
    pub(super) task: u64,
    pub(super) slot: u64,
    pub(super) heard: mpsc::Receiver<Heard>,
}

impl Process {
    /// Starts a process. The thread that calls this must live as long as the process is to: the
    /// kernel ends the process with it.
    ///
    /// # Errors
    /// The system has no process, thread or file left.
    pub(super) fn start(
        around: &Arc<Surroundings>,
        id: u64,
        job: &str,
        spec: &JobSpec,
        folder: TempDir,
    ) -> io::Result<Arc<Self>> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_write_timeout(Some(WRITE_TIMEOUT))?;
        let places = Places::new()?;
        let mut command = command(&around.program, job, folder.path());
        command
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::from(places.file()?));
        let kills_before = kills_for_memory();
        let mut child = command.spawn()?;
        // Ours of its ends is closed with this, so that its death is seen.
        drop(command);
        let stderr = child.stderr.take();
        let process = Arc::new(Self {
            id,
            pid: child.id(),
            child: Mutex::new(child),
            writer: Mutex::new(ours.try_clone()?),
            places,
            around: Arc::clone(around),
            state: Mutex::new(State {
                tasks: BTreeMap::new(),
                next: 0,
                idle: Some(Instant::now()),
                asked: None,
                allowed: None,
                ended: None,
                death: None,
            }),
            died: Condvar::new(),
            _folder: folder,
            kills_before,
        });
        process.allow();
        let begin = Begin {
            threads: around.threads,
            memory: around.shares.limit(),
            spec: Api(spec.clone()),
        };
        process.send(Order::Begin(Box::new(begin)));
        let name = |what: &str| thread::Builder::new().name(format!("dual16-{what}-{id}"));
        let pid = process.pid;
        let lines = name("stderr").spawn(move || match stderr {
            Some(stderr) => forward(stderr, pid),
            None => Default::default(),
        });
        let hearing = lines.and_then(|lines| {
            let process = Arc::clone(&process);
            name("hears").spawn(move || {
                process.hear(ours);
                process.record_death(lines.join().unwrap_or_default());
            })
        });
        if let Err(error) = hearing {
            process.end(Ended::ByWorker);
            return Err(error);
        }
        tracing::debug!(process = process.pid, %job, "a process for tasks");
        Ok(process)
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// A new task, unless the process is dead.
    pub(super) fn enlist(self: &Arc<Self>) -> Option<Running> {
        let mut state = self.state();
        if state.death.is_some() || state.ended.is_some() {
            return None;
        }
        let (sender, heard) = mpsc::channel();
        let taken: Vec<u64> = state.tasks.values().map(|task| task.slot).collect();
        let slot = (0..).find(|slot| !taken.contains(slot)).unwrap_or_default();
        self.places.clear(slot);
        let task = state.next;
        state.next += 1;
        state.idle = None;
        let entry = Task {
            slot,
            heard: Some(sender),
            stopping: None,
        };
        state.tasks.insert(task, entry);
        Some(Running {
            process: Arc::clone(self),
            task,
            slot,
            heard,
        })
    }

    /// Sends a message. A process that does not take it is ended.
    pub(super) fn send(&self, order: Order) {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = wire::write(&mut *writer, &order) {
            tracing::debug!(process = self.pid, %error, "it takes no message");
            drop(writer);
            // Of one that is dead, the reader sees that.
            if error.kind() == io::ErrorKind::WouldBlock {
                self.end(Ended::Unanswering);
            }
        }
    }

    /// Tells a task to end, whose end nobody waits for.
    pub(super) fn stop(&self, task: u64) {
        if let Some(task) = self.state().tasks.get_mut(&task) {
            task.stopping = Some(Instant::now());
            task.heard = None;
        }
        self.send(Order::Cancel(task));
    }

    /// What the task of a slot is at.
    pub(super) fn place(&self, slot: u64) -> Option<String> {
        self.places.read(slot)
    }

    /// How long the task has been told to stop that was told first.
    pub(super) fn stopping(&self) -> Option<Duration> {
        let state = self.state();
        let since = state.tasks.values().filter_map(|task| task.stopping).min();
        since.map(|since| since.elapsed())
    }

    /// How long nothing has run.
    pub(super) fn idle(&self) -> Option<Duration> {
        self.state().idle.map(|since| since.elapsed())
    }

    /// How long it has not given a sign of life that it was asked for. Asks for one where it gave the
    /// last, and nobody writes to it just now.
    pub(super) fn silence(&self) -> Duration {
        let mut state = self.state();
        if let Some(asked) = state.asked {
            return asked.elapsed();
        }
        state.asked = Some(Instant::now());
        drop(state);
        match self.writer.try_lock() {
            // What fails here, the reader sees.
            Ok(mut writer) => drop(wire::write(&mut *writer, &Order::Ping)),
            Err(_) => self.state().asked = None,
        }
        Duration::ZERO
    }

    /// How long it has outlived its end, or that it is dead.
    pub(super) fn ending(&self) -> Result<Duration, Arc<Death>> {
        let state = self.state();
        match &state.death {
            Some(death) => Err(Arc::clone(death)),
            None => Ok(state
                .ended
                .map_or(Duration::ZERO, |(_, when)| when.elapsed())),
        }
    }

    /// Ends the process at once. What it held is free for others.
    pub(super) fn end(&self, why: Ended) {
        self.state().ended.get_or_insert((why, Instant::now()));
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        // One that has ended is no error, and nobody else has its number before it is waited for.
        let _ = child.kill();
        drop(child);
        self.around.shares.release(self.id);
    }

    /// Waits until the process is gone, for so long at most.
    pub(super) fn wait(&self, limit: Duration) -> bool {
        let (state, _) = self
            .died
            .wait_timeout_while(self.state(), limit, |state| state.death.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        state.death.is_some()
    }

    /// Hears what it reports, to its end.
    fn hear(&self, ours: UnixStream) {
        let mut from = io::BufReader::new(&ours);
        loop {
            match wire::read::<Report>(&mut from) {
                Ok(Some(Report::OfTask(task, what))) => self.tell(task, what),
                Ok(Some(Report::Borrow { ask, share })) => self.lend(ask, share),
                Ok(Some(Report::GiveBack(kind, bytes))) => {
                    self.around.shares.give_back(self.id, kind, bytes);
                }
                Ok(Some(Report::Pong)) => self.state().asked = None,
                Ok(None) => break,
                Err(error) => {
                    tracing::debug!(process = self.pid, %error, "it can no longer be heard");
                    break;
                }
            }
        }
        // What still writes to it hears of it.
        let _ = ours.shutdown(Shutdown::Both);
    }

    /// Tells whoever waits for a task. Where nobody does any more, the task is to stop.
    fn tell(&self, task: u64, what: OfTask) {
        let done = matches!(what, OfTask::Done(_));
        let mut state = self.state();
        let listener = state.tasks.get(&task).and_then(|task| task.heard.as_ref());
        match (listener, what) {
            // A receiver that is gone has given its task up, and says so in a moment.
            (Some(sender), what) => drop(sender.send(Heard::OfTask(what))),
            (None, OfTask::Ask { ask, .. }) => {
                drop(state);
                let error = io::Error::new(io::ErrorKind::Interrupted, "the task is to stop");
                return self.send(Order::Answer(ask, Answer::Text(Err(error.into()))));
            }
            (None, _) => {}
        }
        if done {
            state.tasks.remove(&task);
            if state.tasks.is_empty() {
                state.idle = Some(Instant::now());
            }
        }
    }

    fn lend(&self, ask: u64, share: Option<(Kind, u64)>) {
        let shares = &self.around.shares;
        let lent = match share {
            None => Err(shares.held()),
            Some((kind, bytes)) => {
                let take = || shares.take(self.id, kind, bytes);
                take().or_else(|_| {
                    (self.around.make_room)();
                    take()
                })
            }
        };
        if lent.is_ok() {
            self.allow();
        }
        self.send(Order::Answer(ask, Answer::Lent(lent)));
    }

    /// Has the kernel hold the process to what it may have. That never sinks: what was freed may be
    /// kept by its allocator.
    fn allow(&self) {
        let Some(bytes) = self.around.shares.allowance(self.id) else {
            return;
        };
        let mut state = self.state();
        if state.allowed.is_some_and(|allowed| allowed >= bytes) {
            return;
        }
        let limit = Rlimit {
            current: Some(bytes),
            maximum: None,
        };
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        match prlimit(pid, Resource::Data, limit) {
            Ok(_) => state.allowed = Some(bytes),
            Err(error) => {
                tracing::warn!(process = self.pid, %error, "its memory cannot be limited")
            }
        }
    }

    /// Waits for the end of what was heard last, and tells every task of it.
    fn record_death(&self, last_lines: std::collections::VecDeque<String>) {
        let status = {
            let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
            // It has closed its socket; nothing can be done in it any more.
            let _ = child.kill();
            child.wait().ok()
        };
        let held = self.around.shares.held_by(self.id);
        self.around.shares.release(self.id);
        let kills = kills_for_memory();
        let mut state = self.state();
        let death = Arc::new(Death {
            ended: state.ended.map(|(why, _)| why),
            status,
            out_of_memory: kills.is_some() && kills > self.kills_before,
            last_lines,
            held,
            allowed: state.allowed,
        });
        if death.ended.is_none() {
            tracing::warn!(
                process = self.pid,
                ?status,
                tasks = state.tasks.len(),
                "a process for tasks died"
            );
        }
        state.death = Some(Arc::clone(&death));
        state.idle = None;
        for task in std::mem::take(&mut state.tasks).into_values() {
            if let Some(heard) = task.heard {
                let _ = heard.send(Heard::Died(Arc::clone(&death)));
            }
        }
        drop(state);
        self.died.notify_all();
    }

    /// Nothing done under the lock can panic half-way, so a poisoned one guards sound data.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

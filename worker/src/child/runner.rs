//! Runs each task in the process of its job. What the task asks for is done here, on the thread that
//! waits for it; the deadline and a lost lease are seen here as well, whatever the process does.

use std::{
    collections::HashMap,
    io,
    path::Path,
    sync::{Arc, mpsc::RecvTimeoutError},
    time::{Duration, Instant},
};

use dual16_proto::v1::{JobSpec, Lease};
use dual16_quant::flow::KernelRun;

use super::{
    Keeper,
    place::at,
    process::{Heard, Running},
    wire::{Answer, Api, Ask, Bytes, OfTask, Order, Run},
};
use crate::{
    lease_loop::job_of,
    runner::{Blobs, Control, TaskError, TaskOutput, TaskRunner},
};

/// How often a task's lease is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Runs tasks in processes.
#[derive(Debug)]
pub(crate) struct ProcessRunner {
    keeper: Keeper,
}

impl ProcessRunner {
    pub(crate) fn new(keeper: Keeper) -> Self {
        Self { keeper }
    }
}

impl TaskRunner for ProcessRunner {
    fn run(
        &self,
        lease: &Lease,
        spec: &Arc<JobSpec>,
        payload: &[u8],
        inputs: &[Vec<u8>],
        blobs: &dyn Blobs,
        control: &dyn Control,
    ) -> Result<TaskOutput, TaskError> {
        let mut deadline = Deadline::of(lease);
        if let Some(error) = deadline.passed(None) {
            return Err(error);
        }
        let running = self
            .keeper
            .enlist(job_of(&lease.task), spec)
            .map_err(|error| {
                TaskError::io(format!(
                    "no process for the job's tasks can be started: {error}"
                ))
            })?;
        let run = Run {
            task: running.task,
            slot: running.slot,
            lease: Api(Lease {
                payload: None,
                inputs: Vec::new(),
                ..lease.clone()
            }),
            payload: Bytes(payload.to_vec()),
            inputs: inputs.iter().cloned().map(Bytes).collect(),
        };
        running.process.send(Order::Run(Box::new(run)));
        attend(&running, &mut deadline, blobs, control).unwrap_or_else(|to_stop| {
            running.process.stop(running.task);
            Err(to_stop)
        })
    }

    fn forget(&self, task: &str) {
        self.keeper.forget(job_of(task));
    }

    fn end(&self) {
        self.keeper.end();
    }
}

/// Does what a task asks for until it ends.
///
/// # Errors
/// What it is to stop for.
fn attend(
    running: &Running,
    deadline: &mut Deadline,
    blobs: &dyn Blobs,
    control: &dyn Control,
) -> Result<Result<TaskOutput, TaskError>, TaskError> {
    let mut spans: HashMap<u64, tracing::Span> = HashMap::new();
    loop {
        if control.cancelled() {
            return Err(TaskError::stopped());
        }
        let place = || running.process.place(running.slot);
        if let Some(error) = deadline.passed(Some(&place)) {
            return Err(error);
        }
        match running.heard.recv_timeout(LOOK) {
            Ok(Heard::OfTask(OfTask::Ask { ask, kind })) => {
                let asked = Instant::now();
                let done = match kind {
                    Ask::Path(digest) => blobs.path(&digest).and_then(|path| {
                        let path = std::path::absolute(path)?;
                        path.into_os_string().into_string().map_err(|_| {
                            io::Error::other("the cache's folder has a name that is no text")
                        })
                    }),
                    Ask::Put(bytes) => blobs.put(bytes.0),
                    Ask::PutFile(path) => blobs.put_file(Path::new(&path)),
                };
                deadline.waited(asked.elapsed());
                let answer = Answer::Text(done.map_err(Into::into));
                running.process.send(Order::Answer(ask, answer));
            }
            Ok(Heard::OfTask(OfTask::KernelRan {
                way,
                products,
                nanoseconds,
            })) => {
                if let Ok(way) = way.parse() {
                    control.kernel_ran(&KernelRun {
                        way,
                        products,
                        took: Duration::from_nanos(nanoseconds),
                    });
                }
            }
            Ok(Heard::OfTask(OfTask::SpanBegins(span))) => {
                let (layer, way) = (span.layer, span.way);
                let open = tracing::debug_span!("way", layer, way);
                spans.insert(span.number, open);
            }
            Ok(Heard::OfTask(OfTask::SpanEnds(span))) => {
                spans.remove(&span);
            }
            Ok(Heard::OfTask(OfTask::Done(done))) => return Ok(done.map(Into::into)),
            Ok(Heard::Died(death)) => return Ok(Err(death.error(place().as_deref()))),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(TaskError::stopped()),
        }
    }
}

/// When a task is to be done.
struct Deadline {
    /// For the task: how long it may compute, and since when it does. What it waits for transfers moves
    /// that on.
    task: Option<(Duration, Instant)>,
    /// For its job.
    job: Option<Instant>,
}

impl Deadline {
    fn of(lease: &Lease) -> Self {
        let now = Instant::now();
        let duration = |of: Option<prost_types::Duration>| Duration::try_from(of?).ok();
        Self {
            task: duration(lease.deadline).map(|limit| (limit, now)),
            job: duration(lease.job_deadline).and_then(|left| now.checked_add(left)),
        }
    }

    fn waited(&mut self, time: Duration) {
        if let Some((_, since)) = &mut self.task {
            *since += time;
        }
    }

    /// The error of a task that is not done in time, and is at a place.
    fn passed(&self, place: Option<&dyn Fn() -> Option<String>>) -> Option<TaskError> {
        let late = match (self.task, self.job) {
            (_, Some(job)) if job <= Instant::now() => {
                "the job has a deadline, which is over".to_owned()
            }
            (Some((limit, since)), _) if since.elapsed() >= limit => format!(
                "a task of this job may compute for {} s (--limit-task-seconds and --limit-task-estimates \
                 of the server), and was not done then",
                limit.as_secs_f64()
            ),
            _ => return None,
        };
        let place = place.and_then(|place| place());
        let place = at(place.as_deref());
        Some(TaskError {
            code: "DEADLINE_EXCEEDED".into(),
            message: format!("{late}; the task ended{place}"),
            permanent: true,
        })
    }
}

//! What the server measures of itself, as Prometheus reads it.
//!
//! Told, never asked: the store's verbs hand in their [`Transition`]s, calls their codes and bytes. Totals
//! that the store keeps (queue, leases) are set when somebody scrapes. Nothing here decides
//! anything, and no label value comes from outside unbounded.

mod calls;
mod stages;

use std::{
    fmt,
    sync::{Mutex, PoisonError, atomic::AtomicU64},
    time::{Duration, Instant},
};

use dual16_telemetry::metrics::{CALL_SECONDS, Names, WORK_SECONDS, added, encode, registry};
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

pub(crate) use self::calls::{CallMetrics, MeasuredCall};
use self::stages::StageTimes;
use crate::{
    clock::Timestamp,
    job::State,
    store::{Changes, Counts, Transition},
};

/// Stage names are the workers' choice; the flow has five.
const MOST_STAGES: usize = 16;

/// Every metric of one server.
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) calls: CallMetrics,
    stages: Names,
    stage_times: Mutex<StageTimes>,
    jobs: Family<OfState, Counter>,
    attempts: Counter,
    completed: Counter,
    retries: Counter,
    dead_letters: Counter,
    task_seconds: Family<OfStage, Histogram>,
    stage_seconds: Family<OfStage, Histogram>,
    store_seconds: Family<OfAccess, Histogram>,
    open_jobs: Gauge,
    queued_tasks: Gauge,
    leased_tasks: Gauge,
    oldest_lease: Gauge<f64, AtomicU64>,
    watchers: Gauge,
    damaged_blobs: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfState {
    state: StateLabel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct StateLabel(State);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfStage {
    stage: String,
}

/// Whether a verb of the store could change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Access {
    Read,
    Change,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfAccess {
    access: Access,
}

impl Metrics {
    #[rustfmt::skip]
    pub(crate) fn new() -> Self {
        let mut registry = registry(env!("CARGO_PKG_VERSION"));
        let r = &mut registry;
        let work = || Histogram::new(WORK_SECONDS);
        let call = || Histogram::new(CALL_SECONDS);
        let seconds = || Some(Unit::Seconds);
        Self {
            calls: CallMetrics::new(r),
            stages: Names::new(MOST_STAGES),
            stage_times: Mutex::default(),
            jobs: added(r, "jobs", "Times a job entered this state", None, Family::default()),
            attempts: added(r, "attempts", "Tasks leased to a worker", None, Counter::default()),
            completed: added(r, "tasks_completed", "Tasks done", None, Counter::default()),
            retries: added(r, "retries", "Attempts that failed and were followed by another", None, Counter::default()),
            dead_letters: added(r, "dead_letters", "Tasks that used up their attempts and failed their job", None, Counter::default()),
            task_seconds: added(r, "task", "From the lease of a task to its result", seconds(), Family::new_with_constructor(work)),
            stage_seconds: added(r, "stage", "From the start of a stage to that of the next, or the job's end", seconds(), Family::new_with_constructor(work)),
            store_seconds: added(r, "store", "Verbs of the job store, until what they read or wrote is durable", seconds(), Family::new_with_constructor(call)),
            open_jobs: added(r, "open_jobs", "Jobs pending or running", None, Gauge::default()),
            queued_tasks: added(r, "queued_tasks", "Tasks waiting for a worker", None, Gauge::default()),
            leased_tasks: added(r, "leased_tasks", "Tasks that a worker has", None, Gauge::default()),
            oldest_lease: added(r, "oldest_lease_age", "Age of the oldest lease, counted from the start where it is older; 0 = none", seconds(), Gauge::default()),
            watchers: added(r, "watchers", "Event streams open", None, Gauge::default()),
            damaged_blobs: added(r, "damaged_blobs", "Stored blobs found damaged since the start, and set aside", None, Gauge::default()),
            registry,
        }
    }

    /// Counts what a verb did.
    pub(crate) fn record(&self, changes: &Changes) {
        let now = Instant::now();
        for transition in &changes.transitions {
            match transition {
                Transition::Entered(_, state) => {
                    let state = StateLabel(*state);
                    self.jobs.get_or_create(&OfState { state }).inc();
                }
                Transition::DeadLetter => _ = self.dead_letters.inc(),
                Transition::Leased => _ = self.attempts.inc(),
                Transition::Completed(stage, took) => {
                    self.completed.inc();
                    self.observe(&self.task_seconds, stage, *took);
                }
                Transition::Retried => _ = self.retries.inc(),
                Transition::StageStarted(..) => {}
            }
            if let Some((stage, took)) = self.stage_times().follow(transition, now) {
                self.observe(&self.stage_seconds, &stage, took);
            }
        }
    }

    /// Counts a verb of the store.
    pub(crate) fn stored(&self, access: Access, took: Duration) {
        let histogram = self.store_seconds.get_or_create(&OfAccess { access });
        histogram.observe(took.as_secs_f64());
    }

    /// Everything as text, with the store's totals as they are now.
    pub(crate) fn text(
        &self,
        counts: &Counts,
        watchers: usize,
        damaged_blobs: u64,
        now: Timestamp,
    ) -> String {
        let gauge = |gauge: &Gauge, value: u64| {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        gauge(&self.open_jobs, counts.open_jobs);
        gauge(&self.queued_tasks, counts.queued_tasks);
        gauge(&self.leased_tasks, counts.leased_tasks);
        gauge(&self.watchers, watchers as u64);
        gauge(&self.damaged_blobs, damaged_blobs);
        let age = counts.oldest_lease.and_then(|granted| now.since(granted));
        self.oldest_lease.set(age.unwrap_or_default().as_secs_f64());
        encode(&self.registry)
    }

    fn observe(&self, family: &Family<OfStage, Histogram>, stage: &str, took: Duration) {
        let stage = self.stages.bounded(stage);
        let histogram = family.get_or_create(&OfStage { stage });
        histogram.observe(took.as_secs_f64());
    }

    /// Sound even if a holder panicked: every entry stands for itself.
    fn stage_times(&self) -> std::sync::MutexGuard<'_, StageTimes> {
        self.stage_times
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl EncodeLabelValue for StateLabel {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        let text = match self.0 {
            State::Pending => "pending",
            State::Running => "running",
            State::Succeeded => "succeeded",
            State::Failed => "failed",
            State::Cancelled => "cancelled",
        };
        EncodeLabelValue::encode(&text, encoder)
    }
}

impl EncodeLabelValue for Access {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        let text = match self {
            Self::Read => "read",
            Self::Change => "change",
        };
        EncodeLabelValue::encode(&text, encoder)
    }
}

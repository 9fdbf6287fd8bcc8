//! What a worker measures of itself, as Prometheus reads it. Told by those who do the work; decides
//! nothing.

use std::time::Duration;

use dual16_proto::v1::{Lease, TaskKind};
use dual16_quant::flow::KernelRun;
use dual16_telemetry::metrics::{Names, WORK_SECONDS, added, encode, registry};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

/// Stage names are the server's to pass on; the flow has eleven.
const MOST_STAGES: usize = 16;

/// Every metric of one worker.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    stages: Names,
    tasks: Family<TaskLabels, Counter>,
    task_seconds: Family<StageLabels, Histogram>,
    running: Gauge,
    slots: Gauge,
    link_up: Gauge,
    kernel_products: Family<WayLabels, Counter>,
    kernel_seconds: Family<WayLabels, Counter<f64, std::sync::atomic::AtomicU64>>,
    pub(crate) blob_hits: Counter,
    pub(crate) blob_misses: Counter,
    pub(crate) blob_damaged: Counter,
    pub(crate) blob_received: Counter,
    pub(crate) blob_sent: Counter,
    cache_bytes: Gauge,
}

/// How a task ended for this worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Its result was handed in.
    Done,
    /// Its error was handed in.
    Failed,
    /// Its lease was gone first: cancelled, given back or run out.
    Lost,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TaskLabels {
    stage: String,
    kind: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StageLabels {
    stage: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WayLabels {
    way: &'static str,
}

impl Metrics {
    #[rustfmt::skip]
    pub(crate) fn new(slots: usize) -> Self {
        let mut registry = registry(env!("CARGO_PKG_VERSION"));
        let r = &mut registry;
        let work = || Histogram::new(WORK_SECONDS);
        let seconds = || Some(Unit::Seconds);
        let bytes = || Some(Unit::Bytes);
        let metrics = Self {
            stages: Names::new(MOST_STAGES),
            tasks: added(r, "tasks", "Tasks that have ended here", None, Family::default()),
            task_seconds: added(r, "task", "From the lease of a task to its report", seconds(), Family::new_with_constructor(work)),
            running: added(r, "running_tasks", "Tasks under way", None, Gauge::default()),
            slots: added(r, "task_slots", "Tasks that may be under way", None, Gauge::default()),
            link_up: added(r, "server_reachable", "1 while the server answers", None, Gauge::default()),
            kernel_products: added(r, "kernel_products", "Multiply-accumulates done by the kernels while layers are measured", None, Family::default()),
            kernel_seconds: added(r, "kernel", "Time the kernels took for them", seconds(), Family::default()),
            blob_hits: added(r, "blob_cache_hits", "Blobs found in the cache", None, Counter::default()),
            blob_misses: added(r, "blob_cache_misses", "Blobs that had to be fetched", None, Counter::default()),
            blob_damaged: added(r, "blob_cache_damaged", "Blobs in the cache that were not what had come in, and were fetched again", None, Counter::default()),
            blob_received: added(r, "blob_received", "Blobs fetched", bytes(), Counter::default()),
            blob_sent: added(r, "blob_sent", "Blobs brought to the server, those included that it had", bytes(), Counter::default()),
            cache_bytes: added(r, "blob_cache", "Blobs in the cache", bytes(), Gauge::default()),
            registry,
        };
        metrics.slots.set(i64::try_from(slots).unwrap_or(i64::MAX));
        metrics
    }

    pub(crate) fn task_begins(&self) {
        self.running.inc();
    }

    pub(crate) fn task_ends(&self, task: &TaskKey, outcome: Outcome, took: Duration) {
        self.running.dec();
        let stage = self.stages.bounded(&task.stage);
        let labels = TaskLabels {
            stage: stage.clone(),
            kind: task.kind,
            outcome: match outcome {
                Outcome::Done => "done",
                Outcome::Failed => "failed",
                Outcome::Lost => "lost",
            },
        };
        self.tasks.get_or_create(&labels).inc();
        let histogram = self.task_seconds.get_or_create(&StageLabels { stage });
        histogram.observe(took.as_secs_f64());
    }

    pub(crate) fn kernel_ran(&self, run: &KernelRun) {
        let way = WayLabels {
            way: run.way.name(),
        };
        self.kernel_products
            .get_or_create(&way)
            .inc_by(run.products);
        self.kernel_seconds
            .get_or_create(&way)
            .inc_by(run.took.as_secs_f64());
    }

    /// Everything as text.
    pub(crate) fn text(&self, link_up: bool, cache_bytes: u64) -> String {
        self.link_up.set(i64::from(link_up));
        self.cache_bytes
            .set(i64::try_from(cache_bytes).unwrap_or(i64::MAX));
        encode(&self.registry)
    }
}

/// What of a task its labels need, once the lease itself has been given away.
#[derive(Debug)]
pub(crate) struct TaskKey {
    stage: String,
    kind: &'static str,
}

impl TaskKey {
    pub(crate) fn of(lease: &Lease) -> Self {
        Self {
            stage: lease.stage.clone(),
            kind: match lease.kind() {
                TaskKind::Reduce => "reduce",
                TaskKind::Map | TaskKind::Unspecified => "map",
            },
        }
    }
}

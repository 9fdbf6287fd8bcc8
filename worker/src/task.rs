//! One task from its grant to its report: fetch what it reads, compute, hand in what it leaves.

use std::{collections::BTreeSet, io, sync::Arc, time::Instant};

use dual16_proto::v1::{JobSpec, Lease, Payload, payload};
use dual16_telemetry::trace;
use tokio::{runtime::Handle, sync::oneshot};
use tracing::{Instrument as _, field::Empty};

use crate::{
    blob_store::BlobStore,
    compute,
    digest::Digest,
    lease_loop::RELEASE_LIMIT,
    leases::HeldLease,
    metrics::{self, Metrics, TaskKey},
    report::Reporter,
    runner::{TaskError, TaskOutput, TaskRunner},
    specs::Specs,
    task_blobs::TaskBlobs,
};

/// What every task of a worker shares.
pub(crate) struct TaskContext {
    pub(crate) runner: Arc<dyn TaskRunner>,
    pub(crate) store: Arc<BlobStore>,
    pub(crate) specs: Specs,
    pub(crate) reporter: Arc<Reporter>,
    pub(crate) metrics: Arc<Metrics>,
}

impl TaskContext {
    /// Runs one task and reports its end. Returns once its runner has, even when the lease was lost,
    /// because until then the slot is not free.
    pub(crate) async fn run(&self, lease: Lease, held: HeldLease) {
        // Of the level error, so that no filter of the log takes the trace id from its lines.
        let span = tracing::error_span!(
            "task",
            task = %lease.task,
            attempt = lease.attempt,
            stage = %lease.stage,
            trace_id = Empty,
        );
        trace::adopt(&span, Some(lease.trace_context.as_str()));
        let task = TaskKey::of(&lease);
        let begun = Instant::now();
        self.metrics.task_begins();
        let outcome = self.run_to_report(lease, held).instrument(span).await;
        self.metrics.task_ends(&task, outcome, begun.elapsed());
    }

    async fn run_to_report(&self, lease: Lease, held: HeldLease) -> metrics::Outcome {
        let begun = Instant::now();
        tracing::debug!(stage = %lease.stage, "task begins");
        let gathered = held.lost().run_until_cancelled(self.gather(&lease)).await;
        let Some(gathered) = gathered else {
            return metrics::Outcome::Lost;
        };
        let done = match gathered {
            Ok(read) => self.compute(lease, read, &held).await,
            Err(error) => Err(error),
        };
        if held.lost().is_cancelled() {
            tracing::debug!("the lease is lost; what the task left is dropped");
            return metrics::Outcome::Lost;
        }
        match done {
            Ok((outcome, left)) => {
                self.reporter.complete(&held, outcome, left).await;
                tracing::info!(seconds = begun.elapsed().as_secs_f64(), "task ends");
                metrics::Outcome::Done
            }
            Err(error) if error.code == TaskError::STOPPED => {
                tracing::info!("the task was stopped, and is given back");
                let lease = vec![held.lease().clone()];
                self.reporter.release(lease, RELEASE_LIMIT).await;
                metrics::Outcome::Lost
            }
            Err(error) => {
                self.reporter.fail(&held, error).await;
                metrics::Outcome::Failed
            }
        }
    }

    /// Brings what the task works on.
    async fn gather(&self, lease: &Lease) -> Result<Gathered, TaskError> {
        let spec = self.specs.of(lease).await?;
        let read = async {
            let payload = match &lease.payload {
                Some(payload) => self.bytes(payload).await?,
                None => Vec::new(),
            };
            let mut inputs = Vec::with_capacity(lease.inputs.len());
            for input in &lease.inputs {
                inputs.push(self.bytes(input).await?);
            }
            Ok(Gathered {
                spec,
                payload,
                inputs,
            })
        };
        let unread = |error: io::Error| TaskError::io(format!("cannot read the task: {error}"));
        read.await.map_err(unread)
    }

    async fn bytes(&self, payload: &Payload) -> io::Result<Vec<u8>> {
        match &payload.kind {
            None => Ok(Vec::new()),
            Some(payload::Kind::Inline(bytes)) => Ok(bytes.clone()),
            Some(payload::Kind::Blob(digest)) => {
                let digest: Digest = digest.parse().map_err(io::Error::other)?;
                self.store.read(&digest).await
            }
        }
    }

    /// Runs the runner on a thread of its own. Not on a blocking thread of the async runtime: one
    /// that is shut down waits for those, and a runner that does not listen would hold up the
    /// process. Not on a compute pool either: a pool's thread that waits for another pool (float
    /// runs have their own) takes up a second task on its stack, and the first waits for it.
    async fn compute(
        &self,
        lease: Lease,
        read: Gathered,
        held: &HeldLease,
    ) -> Result<(TaskOutput, BTreeSet<Digest>), TaskError> {
        let runner = Arc::clone(&self.runner);
        let blobs = TaskBlobs::new(
            Arc::clone(&self.store),
            Handle::current(),
            held.lost().clone(),
            Arc::clone(&self.metrics),
        );
        let metrics = Arc::clone(&self.metrics);
        let (sender, receiver) = oneshot::channel();
        let span = tracing::Span::current();
        let thread = std::thread::Builder::new().name("dual16-task".to_owned());
        let spawned = thread.spawn(move || {
            let _entered = span.entered();
            let mut done = compute::guarded(|| {
                let Gathered {
                    spec,
                    payload,
                    inputs,
                } = &read;
                runner.run(&lease, spec, payload, inputs, &blobs, &blobs)
            });
            if let Some(digest) = blobs.damaged() {
                // Whatever came of it, an error included, came of wrong bytes.
                metrics.blob_damaged.inc();
                runner.forget(&lease.task);
                done = Err(TaskError::damaged(&digest));
            }
            // Nobody waits any more only if the worker is gone.
            let _ = sender.send(done.map(|outcome| (outcome, blobs.into_left())));
        });
        if let Err(error) = spawned {
            return Err(TaskError::io(format!("cannot start a thread: {error}")));
        }
        match receiver.await {
            Ok(done) => done,
            Err(_) => Err(TaskError::panic(
                "the task's thread ended without an answer",
            )),
        }
    }
}

/// What a task reads, wherever it lay.
struct Gathered {
    spec: Arc<JobSpec>,
    payload: Vec<u8>,
    inputs: Vec<Vec<u8>>,
}

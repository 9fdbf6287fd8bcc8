//! WorkerService: lease, keep, hand in. Payloads pass through unread.

use std::{fmt, sync::Arc, time::Duration};

use dual16_proto::v1::{self, payload::Kind, worker_service_server::WorkerService};
use prost::Message as _;
use tokio::{runtime::Handle, task::JoinSet, time::Instant};
use tonic::{Request, Response, Status};

use super::{ApiError, App, undelivered::Undelivered, validate};
use crate::{
    access::Scope,
    blob::{self, BlobError},
    job::{BlobRef, LeaseRef, Slot},
    limits::Limits,
    quarantine::Quarantine,
    store::{Claim, Claimed, LeasedTask, StoreError},
};

/// Room that a spilled input takes in the message.
const SPILLED_BYTES: usize = 80;
/// Spilled inputs that are written at a time.
const SPILLED_AT_ONCE: usize = 16;

/// Jobs that a worker says it has that are looked at.
const HELD_JOBS: usize = 64;

/// No deadline is longer: a hundred years, which every clock can add up.
const LONGEST_SECONDS: u64 = 100 * 366 * 86_400;

/// The service over the shared [`App`].
pub(crate) struct WorkerApi(pub(crate) Arc<App>);

#[tonic::async_trait]
impl WorkerService for WorkerApi {
    async fn lease(
        &self,
        request: Request<v1::LeaseRequest>,
    ) -> Result<Response<v1::LeaseResponse>, Status> {
        let request = request.into_inner();
        let limits = &self.0.limits;
        let (max_wait, jobs) = validate::check(limits, |checker| {
            checker.name("worker", &request.worker);
            let jobs = request.jobs.iter().take(HELD_JOBS).enumerate();
            let jobs: Vec<_> = jobs
                .filter_map(|(i, job)| checker.parse(&format!("jobs[{i}]"), "INVALID_NAME", job))
                .collect();
            let wait = Duration::try_from(request.max_wait.unwrap_or_default());
            let description = "is negative or out of range; it must be a time to wait";
            wait.map_err(|_| checker.reject("max_wait", "INVALID_DURATION", description))
                .ok()
                .map(|wait| (wait, jobs))
        })?;
        let max_tasks = u64::from(request.max_tasks.max(1)).min(limits.lease_tasks);
        let claim = Claim {
            worker: request.worker,
            jobs,
            max_tasks: Limits::len(max_tasks),
            max_bytes: Limits::len(limits.lease_bytes),
            ttl: self.0.lease_ttl,
        };
        let wait = max_wait.min(Duration::from_secs(limits.lease_wait_seconds));
        let claimed = match self.wait_for_tasks(claim, wait).await? {
            Wait::Over(claimed) => claimed,
            Wait::Quarantined(time) => {
                return Ok(Response::new(v1::LeaseResponse {
                    leases: Vec::new(),
                    quarantined_for: prost_types::Duration::try_from(time).ok(),
                }));
            }
        };
        let granted = claimed.undelivered.leases().to_vec();
        let messages = async {
            let mut leases = Vec::with_capacity(claimed.tasks.len());
            for task in claimed.tasks {
                leases.push(self.lease_message(task).await?);
            }
            Ok::<_, ApiError>(leases)
        };
        let leases = self.renewing(granted, messages).await?;
        claimed.undelivered.delivered();
        Ok(Response::new(v1::LeaseResponse {
            leases,
            quarantined_for: None,
        }))
    }

    async fn get_job_spec(
        &self,
        request: Request<v1::GetJobSpecRequest>,
    ) -> Result<Response<v1::GetJobSpecResponse>, Status> {
        let lease = validate::spec_lease(&self.0.limits, request.get_ref())?;
        let spec = self
            .0
            .store(|store, _| async move { store.leased_spec(lease).await })
            .await?;
        Ok(Response::new(v1::GetJobSpecResponse { spec: Some(spec) }))
    }

    async fn heartbeat(
        &self,
        request: Request<v1::HeartbeatRequest>,
    ) -> Result<Response<v1::HeartbeatResponse>, Status> {
        let v1::HeartbeatRequest { worker, leases } = request.into_inner();
        let leases = validate::leases(&self.0.limits, &worker, "leases", &leases)?;
        let ttl = self.0.lease_ttl;
        let lost = self
            .0
            .store(|store, now| async move { store.renew(&leases, now, ttl).await })
            .await?;
        let revoked = lost.iter().map(lease_ref).collect();
        Ok(Response::new(v1::HeartbeatResponse { revoked }))
    }

    async fn complete(
        &self,
        request: Request<v1::CompleteRequest>,
    ) -> Result<Response<v1::CompleteResponse>, Status> {
        let scope = Scope::of(&request).map_err(ApiError::from)?;
        let checked = validate::completion(&self.0.limits, request.into_inner())?;
        scope.about(checked.lease.name);
        let sizes = self.0.require_blobs(&checked.blobs).await?;
        checked.check_sizes(&self.0.limits, &sizes)?;
        let (lease, mut completion) = (checked.lease, checked.completion);
        let blobs = checked.blobs.iter().zip(sizes);
        let blobs = blobs.map(|((_, digest), size)| BlobRef {
            digest: *digest,
            size,
        });
        completion.blobs = blobs.collect();
        self.0
            .change(|store, now| async move { store.complete(lease, completion, now).await })
            .await?;
        self.0.quarantine.succeeded(&checked.worker);
        Ok(Response::new(v1::CompleteResponse {}))
    }

    async fn fail(
        &self,
        request: Request<v1::FailRequest>,
    ) -> Result<Response<v1::FailResponse>, Status> {
        let scope = Scope::of(&request).map_err(ApiError::from)?;
        let (worker, lease, report) = validate::failure(&self.0.limits, request.into_inner())?;
        scope.about(lease.name);
        tracing::warn!(task = %lease.name, code = report.code, "attempt failed");
        let (permanent, code) = (report.permanent, report.code.clone());
        self.0
            .change(|store, now| async move { store.fail(lease, report, now).await })
            .await?;
        // Bad input is no fault of a worker, nor is too much of it.
        if !permanent && !Quarantine::is_of_the_task(&code) {
            let now = self.0.clock.now();
            if let Some(time) = self.0.quarantine.failed(&worker, lease.name, now) {
                tracing::warn!(%worker, seconds = time.as_secs(), "worker quarantined");
            }
        }
        Ok(Response::new(v1::FailResponse {}))
    }

    async fn release(
        &self,
        request: Request<v1::ReleaseRequest>,
    ) -> Result<Response<v1::ReleaseResponse>, Status> {
        let scope = Scope::of(&request).map_err(ApiError::from)?;
        let v1::ReleaseRequest { worker, leases } = request.into_inner();
        let leases = validate::leases(&self.0.limits, &worker, "leases", &leases)?;
        scope.about(Names(&leases));
        self.0
            .change(|store, now| async move { store.release(&leases, now).await })
            .await?;
        Ok(Response::new(v1::ReleaseResponse {}))
    }
}

impl WorkerApi {
    /// Claims as soon as there is something; empty when `wait` is over or the server stops.
    async fn wait_for_tasks(&self, claim: Claim, wait: Duration) -> Result<Wait, ApiError> {
        let deadline = Instant::now() + wait;
        loop {
            let queued = self.0.wakeups.queue().notified();
            tokio::pin!(queued);
            // From here on a signal is kept, so that no task slips in between look and wait.
            queued.as_mut().enable();
            if self.0.shutdown.is_cancelled() {
                return Ok(Wait::Over(self.granted(Vec::new())));
            }
            // Asked each time: what it failed while it waited counts.
            let (quarantine, now) = (&self.0.quarantine, self.0.clock.now());
            if let Some(time) = quarantine.remaining(&claim.worker, now) {
                // The signal that came to this one was for whoever takes the task.
                self.0.wakeups.more_tasks();
                return Ok(Wait::Quarantined(time));
            }
            let granted = match self.claim(claim.clone()).await {
                Ok(granted) => granted,
                Err(error) => {
                    self.0.wakeups.more_tasks();
                    return Err(error);
                }
            };
            if !granted.tasks.is_empty() {
                return Ok(Wait::Over(granted));
            }
            tokio::select! {
                () = queued => {}
                () = tokio::time::sleep_until(deadline) => return Ok(Wait::Over(granted)),
                () = self.0.shutdown.cancelled() => return Ok(Wait::Over(granted)),
            }
        }
    }

    async fn claim(&self, claim: Claim) -> Result<Granted, ApiError> {
        let api = Self(Arc::clone(&self.0));
        let claimed = self.0.change_with(|store, now| async move {
            let Claimed {
                tasks,
                more,
                changes,
            } = store.claim(&claim, now).await?;
            if more && !tasks.is_empty() {
                api.0.wakeups.more_tasks();
            }
            // Made here: the caller may be gone before it is told.
            Ok((api.granted(tasks), changes))
        });
        claimed.await
    }

    fn granted(&self, tasks: Vec<LeasedTask>) -> Granted {
        let leases = tasks.iter().map(|task| LeaseRef {
            name: task.job.task_name(task.task),
            fence: task.grant.fence,
        });
        let (app, runtime) = (Arc::clone(&self.0), Handle::current());
        let give_back: GiveBack = Box::new(move |leases: Vec<LeaseRef>| {
            tracing::info!(
                leases = leases.len(),
                "the worker hung up before it had its leases"
            );
            runtime.spawn(async move {
                let released =
                    app.change(|store, now| async move { store.release(&leases, now).await });
                if let Err(error) = released.await {
                    tracing::warn!(%error, "leases were not given back; they will run out");
                }
            });
        });
        Granted {
            undelivered: Undelivered::new(leases.collect(), give_back),
            tasks,
        }
    }

    async fn lease_message(&self, leased: LeasedTask) -> Result<v1::Lease, ApiError> {
        let LeasedTask {
            job,
            task,
            grant,
            payload,
            mut inputs,
        } = leased;
        self.spill(&mut inputs, Limits::len(self.0.limits.lease_bytes))
            .await?;
        let (kind, index) = match task.slot {
            Slot::Map(index) => (v1::TaskKind::Map, index),
            Slot::Reduce => (v1::TaskKind::Reduce, 0),
        };
        let stage = job.stages.get(task.stage as usize);
        let limits = &self.0.limits;
        let expected = stage.map_or(0, |stage| stage.seconds);
        let seconds = expected.saturating_mul(limits.task_estimates);
        let deadline = Duration::from_secs(seconds.max(limits.task_seconds).min(LONGEST_SECONDS));
        let spec = job.spec;
        let now = self.0.clock.now();
        let job_deadline = job.deadline();
        let job_deadline = job_deadline.map(|end| end.since(now).unwrap_or_default());
        Ok(v1::Lease {
            task: job.task_name(task).to_string(),
            lease_id: grant.fence.lease.to_string(),
            attempt: grant.fence.attempt,
            ttl: prost_types::Duration::try_from(self.0.lease_ttl).ok(),
            stage: stage.map(|stage| stage.name.clone()).unwrap_or_default(),
            kind: kind.into(),
            index,
            payload: Some(payload),
            inputs,
            spec_digest: job.spec_digest.to_string(),
            spec_size: spec.map_or(0, |spec| spec.bytes),
            input_limits: Some((&self.0.limits).into()),
            deadline: prost_types::Duration::try_from(deadline).ok(),
            job_deadline: job_deadline.and_then(|left| prost_types::Duration::try_from(left).ok()),
            trace_context: job.trace.unwrap_or_default(),
        })
    }

    /// Does `work` for a worker that does not have its leases yet, and renews them for it.
    async fn renewing<T>(&self, leases: Vec<LeaseRef>, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        let ttl = self.0.lease_ttl;
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = tokio::time::sleep(ttl / 3) => {
                    let leases = leases.clone();
                    let renewed = self.0.store(|store, now| async move { store.renew(&leases, now, ttl).await });
                    if let Err(error) = renewed.await {
                        tracing::warn!(%error, "leases about to be handed out were not renewed");
                    }
                }
            }
        }
    }

    /// Turns inline inputs into blobs, from the first on, until the rest fits a message.
    async fn spill(&self, inputs: &mut [v1::Payload], room: usize) -> Result<(), ApiError> {
        let mut bytes: usize = inputs.iter().map(|input| input.encoded_len() + 8).sum();
        let mut spilled = Vec::new();
        for (index, input) in inputs.iter_mut().enumerate() {
            if bytes <= room {
                break;
            }
            let Some(Kind::Inline(data)) = &mut input.kind else {
                continue;
            };
            if data.len() <= SPILLED_BYTES {
                continue;
            }
            bytes = bytes.saturating_sub(data.len() - SPILLED_BYTES);
            spilled.push((index, std::mem::take(data)));
        }
        // Each waits for the disk, and there may be thousands.
        let mut spilled = spilled.into_iter();
        let mut under_way = JoinSet::new();
        loop {
            let more = SPILLED_AT_ONCE.saturating_sub(under_way.len());
            for (index, data) in spilled.by_ref().take(more) {
                let blobs = Arc::clone(&self.0.blobs);
                under_way.spawn(async move {
                    let digest = blob::store(&*blobs, data.into()).await?;
                    Ok::<_, BlobError>((index, digest))
                });
            }
            let Some(stored) = under_way.join_next().await else {
                return Ok(());
            };
            // A task of its own fails only when the runtime stops.
            let (index, digest) = stored.map_err(|_| StoreError::Closed)??;
            if let Some(input) = inputs.get_mut(index) {
                input.kind = Some(Kind::Blob(digest.to_string()));
            }
        }
    }
}

/// How a wait for tasks ended.
enum Wait {
    /// With tasks, or without any when its time was over.
    Over(Granted),
    /// The worker gets none for this long.
    Quarantined(Duration),
}

type GiveBack = Box<dyn FnOnce(Vec<LeaseRef>) + Send>;

/// Tasks leased to a worker that has not been told yet.
struct Granted {
    tasks: Vec<LeasedTask>,
    undelivered: Undelivered<LeaseRef, GiveBack>,
}

/// The tasks of some leases, for the audit log.
struct Names<'a>(&'a [LeaseRef]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, lease) in self.0.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            write!(f, "{comma}{}", lease.name)?;
        }
        Ok(())
    }
}

fn lease_ref(lease: &LeaseRef) -> v1::LeaseRef {
    v1::LeaseRef {
        task: lease.name.to_string(),
        lease_id: lease.fence.lease.to_string(),
        attempt: lease.fence.attempt,
    }
}

//! Asks the server for as many tasks as there are free slots, and sets each of them going.

use std::{
    num::NonZeroUsize,
    sync::Arc,
    time::{Duration, Instant},
};

use dual16_proto::v1::{
    Lease, LeaseRef, LeaseRequest, LeaseResponse, worker_service_client::WorkerServiceClient,
};
use dual16_rpc::{Backoff, CALL_TIMEOUT, Channel, Delays, Policy as _, deadline};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::Status;

use crate::{leases::LeaseTable, link::Link, task::TaskContext};

/// How long the server may hold an unanswered request for tasks.
const LONG_POLL: Duration = Duration::from_secs(20);

/// Time to give tasks back.
pub(crate) const RELEASE_LIMIT: Duration = Duration::from_secs(2);

/// A server that answers "nothing" at once, rather than waiting, is not asked more often than this.
const SHORTEST_POLL: Duration = Duration::from_millis(100);

/// Jobs whose tasks ran here last, and whose files are in the cache as far as it has room: the server gives
/// their other tasks to this worker rather than to one that has to fetch the files.
const RECENT_JOBS: usize = 16;

/// Leases tasks until told to stop.
pub(crate) struct LeaseLoop {
    pub(crate) client: WorkerServiceClient<Channel>,
    pub(crate) worker: String,
    pub(crate) slots: NonZeroUsize,
    pub(crate) leases: Arc<LeaseTable>,
    pub(crate) context: Arc<TaskContext>,
    /// Every task set going, so that a drain can wait for them.
    pub(crate) tasks: TaskTracker,
    /// How long a stop waits for the answer to a request that is under way.
    pub(crate) parting: Duration,
    pub(crate) link: Arc<Link>,
    /// Names of at most [`RECENT_JOBS`], the newest first.
    pub(crate) recent: Vec<String>,
}

impl LeaseLoop {
    /// Runs until `stop` is cancelled; tasks that run then go on.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let free = Arc::new(Semaphore::new(self.slots() as usize));
        let mut backoff = Backoff::new(Delays::default());
        // A semaphore that is never closed always grants in the end.
        while let Some(Ok(slot)) = stop
            .run_until_cancelled(Arc::clone(&free).acquire_owned())
            .await
        {
            let mut slots = vec![slot];
            while let Ok(slot) = Arc::clone(&free).try_acquire_owned() {
                slots.push(slot);
            }
            let asked = Instant::now();
            let Some(answer) = self.answer(slots.len(), &stop).await else {
                return;
            };
            match answer {
                // A drain takes nothing new, not even what was on its way.
                Ok(answer) if stop.is_cancelled() => return self.give_back(answer.leases).await,
                Ok(LeaseResponse {
                    quarantined_for: Some(time),
                    ..
                }) => {
                    drop(slots);
                    let time = Duration::try_from(time).unwrap_or(LONG_POLL);
                    tracing::warn!(
                        seconds = time.as_secs(),
                        "quarantined: too many different tasks failed here in a row"
                    );
                    // A result of a task that still runs ends it early: ask now and then.
                    stop.run_until_cancelled(time::sleep(time.min(LONG_POLL)))
                        .await;
                }
                Ok(answer) if answer.leases.is_empty() => {
                    backoff.reset();
                    time::sleep(SHORTEST_POLL.saturating_sub(asked.elapsed())).await;
                }
                Ok(answer) => {
                    backoff.reset();
                    self.set_going(answer.leases, slots);
                }
                Err(status) => {
                    if self.link.patience(&status).is_some() {
                        self.link.failed(&status);
                    } else {
                        self.link.refused(&status);
                    }
                    drop(slots);
                    stop.run_until_cancelled(time::sleep(backoff.delay())).await;
                }
            }
        }
    }

    /// The answer to a request for tasks. A stop does not drop one that is under way at once, for the
    /// server may have granted already: then nobody would know of the tasks until their time is up.
    async fn answer(
        &mut self,
        slots: usize,
        stop: &CancellationToken,
    ) -> Option<Result<LeaseResponse, Status>> {
        let parting = self.parting;
        let call = self.lease(slots);
        tokio::pin!(call);
        match stop.run_until_cancelled(&mut call).await {
            Some(answer) => Some(answer),
            None => time::timeout(parting, call).await.ok(),
        }
    }

    async fn give_back(&self, leases: Vec<Lease>) {
        if leases.is_empty() {
            return;
        }
        let leases = leases.into_iter().map(|lease| LeaseRef {
            task: lease.task,
            lease_id: lease.lease_id,
            attempt: lease.attempt,
        });
        let reporter = &self.context.reporter;
        reporter.release(leases.collect(), RELEASE_LIMIT).await;
    }

    /// Tasks that may run at once.
    fn slots(&self) -> u32 {
        let most = u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX);
        u32::try_from(self.slots.get()).unwrap_or(most).min(most)
    }

    async fn lease(&mut self, free: usize) -> Result<LeaseResponse, Status> {
        let free = u32::try_from(free).unwrap_or(u32::MAX);
        let request = LeaseRequest {
            worker: self.worker.clone(),
            max_tasks: free,
            max_wait: prost_types::Duration::try_from(LONG_POLL).ok(),
            jobs: self.recent.clone(),
        };
        let reply = deadline(LONG_POLL + CALL_TIMEOUT, self.client.lease(request)).await?;
        self.link.leased();
        Ok(reply.into_inner())
    }

    fn set_going(&mut self, leases: Vec<Lease>, slots: Vec<OwnedSemaphorePermit>) {
        let mut slots = slots.into_iter();
        for lease in leases {
            let job = job_of(&lease.task);
            self.recent.retain(|recent| recent != job);
            self.recent.insert(0, job.to_owned());
            self.recent.truncate(RECENT_JOBS);
            let held = self.leases.hold(&lease);
            // A server that grants more than was asked for is served all the same.
            let slot = slots.next();
            let context = Arc::clone(&self.context);
            self.tasks.spawn(async move {
                context.run(lease, held).await;
                drop(slot);
            });
        }
    }
}

/// "jobs/J" of "jobs/J/tasks/T".
pub(crate) fn job_of(task: &str) -> &str {
    task.split_once("/tasks/").map_or(task, |(job, _)| job)
}

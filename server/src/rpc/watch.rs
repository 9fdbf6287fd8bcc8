//! One watcher of one job: replays from a sequence number, then follows until the job has ended.
//!
//! A watcher holds one page of events at a time and reads the next only when the last was taken,
//! so that a slow reader costs no more than a quick one.

use std::sync::Arc;

use dual16_proto::v1;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tonic::Status;

use super::{ApiError, App};
use crate::{job::JobId, wake::Subscription};

/// Events between the reader and the connection.
const BUFFER: usize = 8;

type Events = mpsc::Sender<Result<v1::JobEvent, Status>>;

/// Starts to stream the job's events after sequence `after`.
pub(super) async fn start(
    app: Arc<App>,
    job: JobId,
    after: u64,
) -> Result<mpsc::Receiver<Result<v1::JobEvent, Status>>, ApiError> {
    let too_many = |_| ApiError::TooManyWatchers(app.limits.watchers);
    let permit = Arc::clone(&app.watchers)
        .try_acquire_owned()
        .map_err(too_many)?;
    // Subscribed before the first look, so that nothing falls between the two.
    let subscription = app.wakeups.subscribe(job);
    let last = app
        .store(|store, _| async move { store.get_job(job).await })
        .await?
        .job
        .last_sequence;
    if after > last {
        return Err(ApiError::AfterSequence { job, after, last });
    }
    let (sender, receiver) = mpsc::channel(BUFFER);
    tokio::spawn(run(app, job, after, subscription, sender, permit));
    Ok(receiver)
}

async fn run(
    app: Arc<App>,
    job: JobId,
    after: u64,
    subscription: Subscription,
    sender: Events,
    _permit: OwnedSemaphorePermit,
) {
    let outcome = tokio::select! {
        () = app.shutdown.cancelled() => Err(ApiError::ShuttingDown),
        () = sender.closed() => return,
        outcome = follow(&app, job, after, subscription, &sender) => outcome,
    };
    if let Err(error) = outcome {
        // Waits for a slow reader: a stream that just ended would tell it that the job is over.
        let _ = sender.send(Err(error.into())).await;
    }
}

async fn follow(
    app: &App,
    job: JobId,
    mut after: u64,
    mut subscription: Subscription,
    sender: &Events,
) -> Result<(), ApiError> {
    loop {
        let page = app
            .store(|store, _| async move { store.read_events(job, after).await })
            .await?;
        for event in page.events {
            after = event.sequence;
            if sender.send(Ok(event)).await.is_err() {
                return Ok(());
            }
        }
        if after < page.last_sequence {
            continue;
        }
        if page.ended {
            return Ok(());
        }
        subscription.changed().await;
    }
}

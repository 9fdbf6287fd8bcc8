//! What every service shares, and the one way from the services to the store.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::ApiError;
use crate::{
    access::Scope,
    blob::{BlobStore, Room},
    clock::{Clock, Timestamp},
    digest::Digest,
    job::JobId,
    limits::Limits,
    metrics::{Access, Metrics},
    permits,
    quarantine::Quarantine,
    store::{Changes, Store, StoreError},
    wake::Wakeups,
};

/// The server behind its services.
pub(crate) struct App {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) blobs: Arc<dyn BlobStore>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) limits: Limits,
    /// Time a worker has between two heartbeats.
    pub(crate) lease_ttl: Duration,
    pub(crate) wakeups: Arc<Wakeups>,
    /// Workers that get nothing for a while.
    pub(crate) quarantine: Arc<Quarantine>,
    /// Bytes that further blobs may have.
    pub(crate) room: Room,
    pub(crate) metrics: Metrics,
    /// Open event streams.
    pub(crate) watchers: Arc<Semaphore>,
    /// Ends long polls and event streams.
    pub(crate) shutdown: CancellationToken,
}

impl App {
    /// Runs a verb of the store.
    pub(crate) async fn store<T, V>(
        &self,
        verb: impl FnOnce(Arc<dyn Store>, Timestamp) -> V,
    ) -> Result<T, ApiError>
    where
        V: Future<Output = Result<T, StoreError>>,
    {
        let began = Instant::now();
        let outcome = verb(Arc::clone(&self.store), self.clock.now()).await;
        self.metrics.stored(Access::Read, began.elapsed());
        outcome.map_err(Into::into)
    }

    /// Refuses a job that the caller may not see, exactly as one that there is not. An owner never
    /// changes and an id never comes again, so the answer holds for whatever the call does next.
    pub(crate) async fn require_visible(&self, scope: &Scope, id: JobId) -> Result<(), ApiError> {
        scope.about(id);
        let Some(principal) = scope.caller().confined_to() else {
            return Ok(());
        };
        let owner = self
            .store(|store, _| async move { store.job_owner(id).await })
            .await?;
        if owner != *principal {
            return Err(StoreError::NotFound(id).into());
        }
        Ok(())
    }

    /// Runs a verb whose only answer is what it changed, and wakes those concerned.
    ///
    /// The verb is a task of its own: a caller that hangs up in the middle does not keep others
    /// from hearing of the change.
    pub(crate) async fn change<V>(
        self: &Arc<Self>,
        verb: impl FnOnce(Arc<dyn Store>, Timestamp) -> V,
    ) -> Result<(), ApiError>
    where
        V: Future<Output = Result<Changes, StoreError>> + Send + 'static,
    {
        self.change_with(|store, now| {
            let verb = verb(store, now);
            async move { Ok(((), verb.await?)) }
        })
        .await
    }

    /// As [`App::change`], for a verb with an answer of its own.
    pub(crate) async fn change_with<T, V>(
        self: &Arc<Self>,
        verb: impl FnOnce(Arc<dyn Store>, Timestamp) -> V,
    ) -> Result<T, ApiError>
    where
        T: Send + 'static,
        V: Future<Output = Result<(T, Changes), StoreError>> + Send + 'static,
    {
        let began = Instant::now();
        let verb = verb(Arc::clone(&self.store), self.clock.now());
        let (app, permits) = (Arc::clone(self), permits::current());
        let changing = async move {
            let outcome = verb.await;
            if let Ok((_, changes)) = &outcome {
                app.metrics.record(changes);
                app.wakeups.announce(changes);
            }
            drop(permits);
            outcome
        };
        let outcome = tokio::spawn(changing.in_current_span()).await;
        self.metrics.stored(Access::Change, began.elapsed());
        // The task fails only when the runtime stops or the verb panicked.
        let (answer, _) = outcome.map_err(|_| StoreError::Closed)??;
        Ok(answer)
    }

    /// Sizes of the blobs that a request names by field, in order; refuses it if some are not
    /// stored. Those that are stay at least for the time of grace.
    pub(crate) async fn require_blobs(
        &self,
        needed: &[(String, Digest)],
    ) -> Result<Vec<u64>, ApiError> {
        let digests = needed.iter().map(|(_, digest)| *digest).collect();
        let found = self.blobs.renew(digests).await?;
        let missing = needed.iter().zip(&found).filter(|(_, size)| size.is_none());
        let missing: Vec<_> = missing.map(|(blob, _)| blob.clone()).collect();
        if !missing.is_empty() {
            return Err(ApiError::MissingBlobs(missing));
        }
        Ok(found.into_iter().flatten().collect())
    }
}

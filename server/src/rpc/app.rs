//! What every service shares, and the one way from async code to the blocking store.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::ApiError;
use crate::{
    access::Scope,
    blob::{BlobStore, Room},
    clock::{Clock, Timestamp},
    digest::Digest,
    job::JobId,
    limits::Limits,
    metrics::{Access, Metrics},
    permits::kept,
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
    /// Runs a verb of the store where it may block.
    pub(crate) async fn store<T: Send + 'static>(
        &self,
        verb: impl FnOnce(&dyn Store, Timestamp) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, ApiError> {
        self.run(Access::Read, verb).await
    }

    async fn run<T: Send + 'static>(
        &self,
        access: Access,
        verb: impl FnOnce(&dyn Store, Timestamp) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let store = Arc::clone(&self.store);
        let clock = Arc::clone(&self.clock);
        let span = tracing::Span::current();
        let began = Instant::now();
        let verb = move || span.in_scope(|| verb(&*store, clock.now()));
        let outcome = tokio::task::spawn_blocking(kept(verb)).await;
        self.metrics.stored(access, began.elapsed());
        // The task fails only when the runtime stops or the verb panicked.
        outcome.map_err(|_| StoreError::Closed)?.map_err(Into::into)
    }

    /// Refuses a job that the caller may not see, exactly as one that there is not. An owner never
    /// changes and an id never comes again, so the answer holds for whatever the call does next.
    pub(crate) async fn require_visible(&self, scope: &Scope, id: JobId) -> Result<(), ApiError> {
        scope.about(id);
        let Some(principal) = scope.caller().confined_to() else {
            return Ok(());
        };
        let owner = self.store(move |store, _| store.job_owner(id)).await?;
        if owner != *principal {
            return Err(StoreError::NotFound(id).into());
        }
        Ok(())
    }

    /// Runs a verb whose only answer is what it changed, and wakes those concerned.
    ///
    /// The verb is a task of its own: a caller that hangs up in the middle does not keep others
    /// from hearing of the change.
    pub(crate) async fn change(
        self: &Arc<Self>,
        verb: impl FnOnce(&dyn Store, Timestamp) -> Result<Changes, StoreError> + Send + 'static,
    ) -> Result<(), ApiError> {
        self.change_with(move |store, now| Ok(((), verb(store, now)?)))
            .await
    }

    /// As [`App::change`], for a verb with an answer of its own.
    pub(crate) async fn change_with<T: Send + 'static>(
        self: &Arc<Self>,
        verb: impl FnOnce(&dyn Store, Timestamp) -> Result<(T, Changes), StoreError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let app = Arc::clone(self);
        self.run(Access::Change, move |store, now| {
            let (answer, changes) = verb(store, now)?;
            app.metrics.record(&changes);
            app.wakeups.announce(&changes);
            Ok(answer)
        })
        .await
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

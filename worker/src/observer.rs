//! One worker as its ops port shows it: whether it takes tasks, and what it measures.

use std::sync::Arc;

use dual16_telemetry::ops::{Answer, Observed};
use tokio_util::sync::CancellationToken;

use crate::{blob_cache::BlobCache, child::Health, link::Link, metrics::Metrics};

/// Ready means: it leases (it is not draining), the server answers and lets it, and so do the processes
/// that run tasks.
#[derive(Debug)]
pub(crate) struct Observer {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) link: Arc<Link>,
    pub(crate) cache: Arc<BlobCache>,
    /// Of the processes that run tasks, where there are any.
    pub(crate) health: Option<Arc<Health>>,
    pub(crate) stop: CancellationToken,
}

impl Observed for Observer {
    fn ready(&self) -> Answer<'_, Result<(), String>> {
        let verdict = if self.stop.is_cancelled() {
            Err("draining")
        } else if !self.link.is_up() {
            Err("the server does not answer")
        } else if self.link.is_refused() {
            Err("the server refuses to give tasks; the log says why")
        } else {
            Ok(())
        };
        let verdict = verdict.map_err(str::to_owned).and_then(|()| {
            let health = self.health.as_ref();
            health.map_or(Ok(()), |health| health.ready())
        });
        Box::pin(async move { verdict })
    }

    fn alive(&self) -> Result<(), String> {
        let health = self.health.as_ref();
        health.map_or(Ok(()), |health| health.alive())
    }

    fn metrics(&self) -> Answer<'_, String> {
        Box::pin(async { self.metrics.text(self.link.is_up(), self.cache.bytes()) })
    }
}

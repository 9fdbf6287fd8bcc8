//! One worker as its ops port shows it: whether it takes tasks, and what it measures.

use std::sync::Arc;

use dual16_telemetry::ops::{Answer, Observed};
use tokio_util::sync::CancellationToken;

use crate::{blob_cache::BlobCache, link::Link, metrics::Metrics};

/// Ready means: it leases (it is not draining), and the server answers and lets it.
#[derive(Debug)]
pub(crate) struct Observer {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) link: Arc<Link>,
    pub(crate) cache: Arc<BlobCache>,
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
        Box::pin(async move { verdict.map_err(str::to_owned) })
    }

    fn metrics(&self) -> Answer<'_, String> {
        Box::pin(async { self.metrics.text(self.link.is_up(), self.cache.bytes()) })
    }
}

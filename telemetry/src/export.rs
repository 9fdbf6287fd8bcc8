//! Export of spans to a collector: OTLP over gRPC. It is no part of the work: spans wait in a queue
//! of bounded length on a thread of its own, what a collector does not take is dropped, and the log
//! says so once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use opentelemetry_otlp::{
    ExporterBuildError, WithExportConfig as _, WithTonicConfig as _,
    tonic_types::transport::ClientTlsConfig,
};
use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    trace::{SdkTracerProvider, SpanData, SpanExporter},
};

/// How long the end of the program waits for the collector to take the spans that are left.
const FLUSH: Duration = Duration::from_secs(2);

/// Why there is no export.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// Not the place of a collector.
    #[error("it does not begin with http:// or https://, or names no host")]
    NoUrl,
    /// Refused by the exporter.
    #[error(transparent)]
    Build(#[from] ExporterBuildError),
}

/// An export at work.
#[derive(Debug)]
pub(crate) struct Export(Arc<Reach>);

impl Export {
    /// Has the spans of the program `service` exported to `endpoint`. Must be called in the async
    /// runtime, which carries the connection; the collector need not be there.
    pub(crate) fn start(
        endpoint: &str,
        service: &'static str,
    ) -> Result<(SdkTracerProvider, Self), ExportError> {
        let secure = match endpoint.split_once("://") {
            Some(("http", host)) if !host.is_empty() => false,
            Some(("https", host)) if !host.is_empty() => true,
            // The exporter would take it, and fail only once there is something to export.
            _ => return Err(ExportError::NoUrl),
        };
        let mut exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_tonic()
            .with_endpoint(endpoint);
        if secure {
            exporter = exporter.with_tls_config(ClientTlsConfig::new().with_enabled_roots());
        }
        let reach = Arc::new(Reach::default());
        let watched = Watched {
            exporter: exporter.build()?,
            reach: Arc::clone(&reach),
        };
        let provider = SdkTracerProvider::builder()
            .with_resource(Resource::builder().with_service_name(service).build())
            .with_batch_exporter(watched)
            .build();
        Ok((provider, Self(reach)))
    }

    /// Brings the spans that are left to the collector, if it takes them soon.
    pub(crate) fn end(&self, provider: &SdkTracerProvider) {
        // What it refuses is said where that happens; here it has not answered yet.
        if provider.shutdown_with_timeout(FLUSH).is_err() {
            self.0.lost(&format!("no answer within {FLUSH:?}"));
        }
    }
}

/// Whether spans arrive.
#[derive(Debug, Default)]
struct Reach {
    away: AtomicBool,
}

impl Reach {
    fn lost(&self, error: &str) {
        // Once, and not every few seconds until somebody mends the collector.
        if !self.away.swap(true, Ordering::Relaxed) {
            tracing::warn!(error, "spans do not reach the collector of --otlp-endpoint");
        }
    }

    fn arrive(&self) {
        if self.away.swap(false, Ordering::Relaxed) {
            tracing::info!("spans reach the collector of --otlp-endpoint again");
        }
    }
}

#[derive(Debug)]
struct Watched {
    exporter: opentelemetry_otlp::SpanExporter,
    reach: Arc<Reach>,
}

impl SpanExporter for Watched {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let result = self.exporter.export(batch).await;
        match &result {
            Ok(()) => self.reach.arrive(),
            Err(OTelSdkError::InternalFailure(error)) => self.reach.lost(error),
            Err(error) => self.reach.lost(&error.to_string()),
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

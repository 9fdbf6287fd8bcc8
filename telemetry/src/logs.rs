//! Logs and spans of a program: their flags, their two formats, and the optional export.
//!
//! Logs go to stderr. Spans of dual16's own crates always exist, whatever is logged, so that a trace
//! goes through a program that says nothing; they leave the process only by `--otlp-endpoint`.

use std::io::{self, IsTerminal as _};

use clap::ValueEnum;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use tracing::{Metadata, Subscriber};
use tracing_opentelemetry::OpenTelemetryLayer;
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::{FilterExt as _, FilterFn, Filtered, filter_fn},
    layer::SubscriberExt as _,
    registry::LookupSpan,
    util::SubscriberInitExt as _,
};

#[cfg(feature = "otlp")]
use crate::export::Export;

/// Flags of the logs, the same for every program that runs for long.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Operations")]
pub struct LogArgs {
    /// How log lines look
    #[arg(long, env = "DUAL16_LOG_FORMAT", value_enum, default_value_t = LogFormat::Pretty)]
    pub log_format: LogFormat,
    /// What is logged, such as "info" or "dual16_server=debug"
    #[arg(
        long,
        env = "DUAL16_LOG",
        value_name = "FILTER",
        default_value = "info"
    )]
    pub log: String,
    /// OTLP collector (gRPC) that spans are exported to, such as "http://127.0.0.1:4317"
    #[cfg(feature = "otlp")]
    #[arg(long, env = "DUAL16_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people
    Pretty,
    /// One JSON object a line
    Json,
}

/// Why there are no logs.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Not a filter.
    #[error(
        "--log `{filter}` is not a filter such as \"info\" or \"dual16_server=debug\": {source}"
    )]
    Filter {
        /// As given.
        filter: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Not a collector.
    #[cfg(feature = "otlp")]
    #[error(
        "--otlp-endpoint (DUAL16_OTLP_ENDPOINT) `{endpoint}`: {source}; it must be a URL such as \
         http://127.0.0.1:4317"
    )]
    Otlp {
        /// As given.
        endpoint: String,
        /// What is wrong with it.
        source: crate::export::ExportError,
    },
    /// Something in this process logs already.
    #[error("logging was set up before: {0}")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// The logs of this process. Dropped, it brings the spans that are left to the collector, and so must
/// be dropped before the async runtime ends, which carries them there.
#[derive(Debug)]
#[must_use = "spans that are left are lost without it"]
pub struct Logs {
    provider: SdkTracerProvider,
    #[cfg(feature = "otlp")]
    export: Option<Export>,
}

#[cfg(feature = "otlp")]
impl Drop for Logs {
    fn drop(&mut self) {
        if let Some(export) = &self.export {
            export.end(&self.provider);
        }
    }
}

impl LogArgs {
    /// For a program that has no such flags: the variables alone, and nothing logged by default.
    pub fn from_env() -> Self {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let format = variable("DUAL16_LOG_FORMAT");
        let format = format.and_then(|format| LogFormat::from_str(&format, true).ok());
        let filter = variable("DUAL16_LOG").filter(|filter| EnvFilter::try_new(filter).is_ok());
        Self {
            log_format: format.unwrap_or(LogFormat::Pretty),
            log: filter.unwrap_or_else(|| "off".to_owned()),
            #[cfg(feature = "otlp")]
            otlp_endpoint: variable("DUAL16_OTLP_ENDPOINT"),
        }
    }

    /// Sets up the logs and spans of this process; `service` is its name in traces.
    ///
    /// # Errors
    /// [`LogError`], naming the flag.
    pub fn start(&self, service: &'static str) -> Result<Logs, LogError> {
        let filter = EnvFilter::try_new(&self.log).map_err(|source| LogError::Filter {
            filter: self.log.clone(),
            source,
        })?;
        let lines = tracing_subscriber::fmt::layer()
            .with_ansi(io::stderr().is_terminal())
            .with_writer(io::stderr);
        let lines = match self.log_format {
            LogFormat::Pretty => lines.boxed(),
            LogFormat::Json => lines.json().boxed(),
        };
        let logs = self.spans(service)?;
        Registry::default()
            .with(lines.with_filter(filter.and(filter_fn(names_no_path))))
            .with(traces(&logs.provider))
            .try_init()?;
        Ok(logs)
    }

    #[cfg(not(feature = "otlp"))]
    #[allow(clippy::unnecessary_wraps, reason = "with the feature it can fail")]
    fn spans(&self, _service: &'static str) -> Result<Logs, LogError> {
        let provider = SdkTracerProvider::builder().build();
        Ok(Logs { provider })
    }

    #[cfg(feature = "otlp")]
    fn spans(&self, service: &'static str) -> Result<Logs, LogError> {
        let Some(endpoint) = &self.otlp_endpoint else {
            let provider = SdkTracerProvider::builder().build();
            let export = None;
            return Ok(Logs { provider, export });
        };
        let started = Export::start(endpoint, service).map_err(|source| LogError::Otlp {
            endpoint: endpoint.clone(),
            source,
        })?;
        let (provider, export) = (started.0, Some(started.1));
        Ok(Logs { provider, export })
    }
}

/// sled tells in its own log lines where its files are, also at `warn`. What goes wrong it returns as
/// an error as well.
fn names_no_path(meta: &Metadata<'_>) -> bool {
    let crate_name = meta.target().split("::").next();
    crate_name != Some("sled")
}

/// The layer that gives dual16's spans their ids. Events are none of its business: without an
/// export they would only collect in memory until a long span ends.
pub(crate) fn traces<S>(
    provider: &SdkTracerProvider,
) -> Filtered<OpenTelemetryLayer<S, SdkTracer>, FilterFn, S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    tracing_opentelemetry::layer()
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_tracer(provider.tracer("dual16"))
        .with_filter(filter_fn(|meta| {
            meta.is_span() && meta.target().starts_with("dual16")
        }))
}

//! One trace through client, server and workers, by W3C Trace Context
//! (<https://www.w3.org/TR/trace-context/>): a caller sends its `traceparent`, a callee takes it as
//! the parent of its own span. Spans are those of `tracing`; ids exist where [`crate::logs`] set up
//! the logging, and nowhere else: a library used without it sends and keeps none.

use opentelemetry::{
    propagation::{Extractor, TextMapPropagator as _},
    trace::TraceContextExt as _,
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// Name of the header, and of the gRPC metadata, that carries a trace's context.
pub const TRACEPARENT: &str = "traceparent";

/// Makes `span`, which was not entered yet, a part of the trace that `traceparent` names, or the
/// beginning of a new one where that is absent or malformed. Its field `trace_id`, declared as
/// [`tracing::field::Empty`], tells the id to every log line within.
pub fn adopt(span: &Span, traceparent: Option<&str>) {
    if let Some(text) = traceparent {
        let parent = TraceContextPropagator::new().extract(&Header(text));
        if parent.span().span_context().is_valid() {
            // Refused only where no logging was set up, and then there is no trace to join.
            let _ = span.set_parent(parent);
        }
    }
    let context = span.context();
    let context = context.span().span_context().clone();
    if context.is_valid() {
        span.record("trace_id", tracing::field::display(context.trace_id()));
    }
}

/// The `traceparent` of the current span, to be sent with a call or kept with a job.
pub fn traceparent() -> Option<String> {
    let context = Span::current().context();
    let span = context.span();
    let span = span.span_context();
    span.is_valid().then(|| {
        let flags = span.trace_flags().to_u8();
        format!("00-{}-{}-{flags:02x}", span.trace_id(), span.span_id())
    })
}

/// The trace id within a `traceparent`, 32 hex digits.
pub fn trace_id(traceparent: &str) -> Option<String> {
    let context = TraceContextPropagator::new().extract(&Header(traceparent));
    let span = context.span();
    let span = span.span_context();
    span.is_valid().then(|| span.trace_id().to_string())
}

struct Header<'a>(&'a str);

impl Extractor for Header<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == TRACEPARENT).then_some(self.0)
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT]
    }
}

#[cfg(test)]
mod tests {
    use tracing::{error_span, field::Empty};

    use super::*;
    use crate::logs::traces;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    /// Runs with spans that have ids, on this thread alone.
    fn traced<T>(body: impl FnOnce() -> T) -> T {
        use tracing_subscriber::layer::SubscriberExt as _;
        let provider = opentelemetry_sdk::trace::SdkTracerProvider::builder().build();
        let subscriber = tracing_subscriber::registry().with(traces(&provider));
        tracing::subscriber::with_default(subscriber, body)
    }

    #[test]
    fn a_callee_continues_its_callers_trace_in_a_span_of_its_own() {
        traced(|| {
            let span = error_span!("called", trace_id = Empty);
            adopt(&span, Some(PARENT));
            let own = span.in_scope(traceparent).unwrap();
            assert_eq!(trace_id(&own), trace_id(PARENT));
            assert_ne!(own, PARENT);
        });
    }

    #[test]
    fn what_is_no_context_begins_a_trace() {
        traced(|| {
            for bad in [
                None,
                Some(""),
                Some("00-zz-b7ad6b7169203331-01"),
                Some("00-0-0-00"),
            ] {
                let span = error_span!("called", trace_id = Empty);
                adopt(&span, bad);
                let own = span.in_scope(traceparent).unwrap();
                assert_eq!(trace_id(&own).unwrap().len(), 32, "{bad:?}");
            }
        });
        assert_eq!(
            trace_id("00-00000000000000000000000000000000-b7ad6b7169203331-01"),
            None
        );
    }

    #[test]
    fn without_logging_there_is_no_trace() {
        let span = error_span!("called", trace_id = Empty);
        adopt(&span, Some(PARENT));
        assert_eq!(span.in_scope(traceparent), None);
    }
}

//! Calls: how many, how long, how they ended, the bytes of their messages, and the span of each. A
//! layer around all services, so that no service can be forgotten and none knows of it.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::Bytes;
use dual16_telemetry::{
    metrics::{CALL_SECONDS, OTHER, added},
    trace,
};
use http_body::{Frame, SizeHint};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use prost::Message as _;
use tonic::{
    Code, Status,
    body::Body,
    codegen::http::{HeaderMap, Request, Response},
};
use tower::{Layer, Service};
use tracing::{Instrument as _, field::Empty};

use crate::rpc::code_name;

/// The metrics of calls. Cheap to clone; clones count together.
#[derive(Clone, Debug)]
pub(crate) struct CallMetrics {
    /// Label of each path that the API has; a stranger's path has none of its own.
    paths: Arc<HashMap<String, OfCall>>,
    ended: Family<Outcome, Counter>,
    seconds: Family<OfCall, Histogram>,
    open: Family<OfCall, Gauge>,
    received: Family<OfCall, Counter>,
    sent: Family<OfCall, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfCall {
    /// "JobService/CreateJob".
    rpc: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    rpc: Arc<str>,
    code: &'static str,
}

impl CallMetrics {
    #[rustfmt::skip]
    pub(super) fn new(r: &mut Registry) -> Self {
        let seconds = || Histogram::new(CALL_SECONDS);
        let bytes = || Some(Unit::Bytes);
        Self {
            paths: Arc::new(paths()),
            ended: added(r, "rpcs", "Calls that have ended, by gRPC code", None, Family::default()),
            seconds: added(r, "rpc", "Calls from their head to the end of their answer", Some(Unit::Seconds), Family::new_with_constructor(seconds)),
            open: added(r, "open_rpcs", "Calls under way", None, Family::default()),
            received: added(r, "rpc_received", "Message bytes from callers", bytes(), Family::default()),
            sent: added(r, "rpc_sent", "Message bytes to callers", bytes(), Family::default()),
        }
    }

    fn begin(&self, path: &str) -> Call {
        let stranger = || OfCall { rpc: OTHER.into() };
        let of = self.paths.get(path).cloned().unwrap_or_else(stranger);
        self.open.get_or_create(&of).inc();
        Call {
            began: Instant::now(),
            code: Code::Cancelled,
            of,
            metrics: self.clone(),
        }
    }
}

/// The path of every method of the API and of the health service.
fn paths() -> HashMap<String, OfCall> {
    let mut paths = HashMap::new();
    for described in [
        dual16_proto::FILE_DESCRIPTOR_SET,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
    ] {
        let files = prost_types::FileDescriptorSet::decode(described).unwrap_or_default();
        for file in &files.file {
            for service in &file.service {
                for method in &service.method {
                    let rpc = format!("{}/{}", service.name(), method.name());
                    let path = format!("/{}.{rpc}", file.package());
                    paths.insert(path, OfCall { rpc: rpc.into() });
                }
            }
        }
    }
    paths
}

/// One call; counted when dropped, as cancelled by its caller unless it came to an end before.
#[derive(Debug)]
struct Call {
    began: Instant,
    code: Code,
    of: OfCall,
    metrics: CallMetrics,
}

impl Call {
    /// Notes how the call ended, if these headers or trailers tell.
    fn ends(&mut self, headers: &HeaderMap) {
        if let Some(status) = Status::from_header_map(headers) {
            self.code = status.code();
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let outcome = Outcome {
            rpc: Arc::clone(&self.of.rpc),
            code: code_name(self.code),
        };
        let Self { metrics, of, .. } = self;
        metrics.open.get_or_create(of).dec();
        metrics.ended.get_or_create(&outcome).inc();
        let seconds = self.began.elapsed().as_secs_f64();
        metrics.seconds.get_or_create(of).observe(seconds);
    }
}

impl<S> Layer<S> for CallMetrics {
    type Service = Measured<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Measured {
            inner,
            metrics: self.clone(),
        }
    }
}

/// A service whose calls are measured.
#[derive(Clone, Debug)]
pub(crate) struct Measured<S> {
    inner: S,
    metrics: CallMetrics,
}

impl<S> Service<Request<Body>> for Measured<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let mut call = self.metrics.begin(request.uri().path());
        let received = self.metrics.received.get_or_create(&call.of).clone();
        let sent = self.metrics.sent.get_or_create(&call.of).clone();
        let parent = request.headers().get(trace::TRACEPARENT);
        let parent = parent
            .and_then(|text| text.to_str().ok())
            .map(str::to_owned);
        let request = request.map(|body| {
            Body::new(Counted {
                body,
                bytes: received,
                call: None,
            })
        });
        // Of the level error, so that no filter of the log takes the trace id from its lines.
        let span = tracing::error_span!("rpc", rpc = %call.of.rpc, trace_id = Empty);
        trace::adopt(&span, parent.as_deref());
        let answer = span.in_scope(|| self.inner.call(request));
        let measured = async move {
            let response = answer.await?;
            // An error without a message travels in the headers, and then no trailers follow.
            call.ends(response.headers());
            Ok(response.map(|body| {
                Body::new(Counted {
                    body,
                    bytes: sent,
                    call: Some(call),
                })
            }))
        };
        Box::pin(measured.instrument(span))
    }
}

/// A body whose bytes are counted; that of an answer ends its call.
struct Counted {
    body: Body,
    bytes: Counter,
    call: Option<Call>,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame {
            if let Some(data) = frame.data_ref() {
                self.bytes.inc_by(data.len() as u64);
            }
            if let (Some(trailers), Some(call)) = (frame.trailers_ref(), &mut self.call) {
                call.ends(trailers);
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

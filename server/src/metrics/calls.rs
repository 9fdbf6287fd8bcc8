//! Calls: how many, how long, how they ended, and the bytes of their messages.

use std::time::Instant;

use dual16_telemetry::metrics::{CALL_SECONDS, added};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use tonic::{Code, Status, codegen::http::HeaderMap};

use crate::rpc::code_name;

/// The metrics of calls. Cheap to clone; clones count together.
#[derive(Clone, Debug)]
pub(crate) struct CallMetrics {
    ended: Family<Outcome, Counter>,
    seconds: Family<OfCall, Histogram>,
    open: Family<OfCall, Gauge>,
    received: Family<OfCall, Counter>,
    sent: Family<OfCall, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfCall {
    /// "JobService/CreateJob".
    rpc: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    rpc: &'static str,
    code: &'static str,
}

impl CallMetrics {
    #[rustfmt::skip]
    pub(super) fn new(r: &mut Registry) -> Self {
        let seconds = || Histogram::new(CALL_SECONDS);
        let bytes = || Some(Unit::Bytes);
        Self {
            ended: added(r, "rpcs", "Calls that have ended, by gRPC code", None, Family::default()),
            seconds: added(r, "rpc", "Calls from their head to the end of their answer", Some(Unit::Seconds), Family::new_with_constructor(seconds)),
            open: added(r, "open_rpcs", "Calls under way", None, Family::default()),
            received: added(r, "rpc_received", "Message bytes from callers", bytes(), Family::default()),
            sent: added(r, "rpc_sent", "Message bytes to callers", bytes(), Family::default()),
        }
    }

    /// A call of the method that is labelled so begins.
    pub(crate) fn begin(&self, rpc: &'static str) -> MeasuredCall {
        let of = OfCall { rpc };
        self.open.get_or_create(&of).inc();
        MeasuredCall {
            began: Instant::now(),
            code: Code::Cancelled,
            received: self.received.get_or_create(&of).clone(),
            sent: self.sent.get_or_create(&of).clone(),
            of,
            metrics: self.clone(),
        }
    }
}

/// One call; counted when dropped, as cancelled by its caller unless it came to an end before.
#[derive(Debug)]
pub(crate) struct MeasuredCall {
    began: Instant,
    code: Code,
    of: OfCall,
    metrics: CallMetrics,
    /// Message bytes of its request.
    pub(crate) received: Counter,
    /// Message bytes of its answer.
    pub(crate) sent: Counter,
}

impl MeasuredCall {
    /// Notes how the call ended, if these headers or trailers tell.
    pub(crate) fn ends(&mut self, headers: &HeaderMap) {
        if let Some(status) = Status::from_header_map(headers) {
            self.code = status.code();
        }
    }
}

impl Drop for MeasuredCall {
    fn drop(&mut self) {
        let Self { metrics, of, .. } = self;
        let outcome = Outcome {
            rpc: of.rpc,
            code: code_name(self.code),
        };
        metrics.open.get_or_create(of).dec();
        metrics.ended.get_or_create(&outcome).inc();
        let seconds = self.began.elapsed().as_secs_f64();
        metrics.seconds.get_or_create(of).observe(seconds);
    }
}

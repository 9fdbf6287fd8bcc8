//! Every call from its head to the end of its answer, one step after the other: it is measured and
//! traced, its headers are held to their limit, its caller is known and may call, it is admitted, its
//! request is read, its handler runs in time, and the audit log has its line.
//!
//! One service rather than a stack of layers: each step wants what the one before it has found.
//! What differs between methods is in [`policy`](super::policy), and nothing here knows any of them.

mod admission;
mod answer;
mod request;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use dual16_telemetry::trace::{TRACEPARENT, adopt};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};
use tonic::{
    Code, Status,
    body::Body,
    codegen::http::{Request, Response},
    service::Routes,
};
use tower::Service as _;
use tracing::{Instrument as _, field::Empty};

use self::{admission::Admission, answer::Answer};
use super::{
    ApiError,
    policy::{self, Audited, Callers, Policies, Policy, Queue},
};
use crate::{
    access::{
        Guard, Scope,
        audit::{self, Audit},
    },
    limits::Limits,
    listener::{Peer, Unread},
    metrics::{CallMetrics, MeasuredCall},
    permits::{Permits, within},
};

/// Seconds that a health check, which anyone may send, has to arrive at most.
const CHECK_SECONDS: u64 = 10;

/// What stands between the connections and the services. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Perimeter {
    shared: Arc<Shared>,
    routes: Routes,
}

struct Shared {
    policies: Policies,
    guard: Arc<Guard>,
    audit: Arc<Audit>,
    admission: Admission,
    metrics: CallMetrics,
    limits: Limits,
}

impl Perimeter {
    pub(crate) fn new(
        policies: Policies,
        guard: Arc<Guard>,
        audit: Arc<Audit>,
        metrics: CallMetrics,
        limits: &Limits,
        routes: Routes,
    ) -> Self {
        let shared = Shared {
            policies,
            guard,
            audit,
            admission: Admission::new(limits),
            metrics,
            limits: limits.clone(),
        };
        Self {
            shared: Arc::new(shared),
            routes,
        }
    }

    /// One call of `peer`.
    pub(crate) async fn call(self, peer: Arc<Peer>, request: Request<Incoming>) -> Response<Body> {
        let policy = self.shared.policies.find(request.uri().path());
        let rpc = policy::label(policy);
        let mut call = self.shared.metrics.begin(rpc);
        // Of the level error, so that no filter of the log takes the trace id from its lines.
        let span = tracing::error_span!("rpc", rpc, trace_id = Empty);
        let parent = request.headers().get(TRACEPARENT);
        adopt(&span, parent.and_then(|text| text.to_str().ok()));
        let answering = self.answer(policy, &peer, request, &call);
        let (response, permits) = match answering.instrument(span).await {
            Ok((response, permits)) => (response, Some(permits)),
            Err(refusal) => (refusal.into_http(), None),
        };
        // An error without a message travels in the headers, and then no trailers follow.
        call.ends(response.headers());
        // Whoever waits for events or tasks may pause.
        let patient = policy.is_some_and(|policy| policy.queue == Queue::Idle);
        let unread = (!patient).then(|| Unread::new(peer));
        response.map(|body| {
            Body::new(Answer {
                body,
                left: Bytes::new(),
                given: 0,
                call,
                unread,
                _permits: permits,
            })
        })
    }

    /// The answer of a call that is let in, or its refusal.
    async fn answer(
        self,
        policy: Option<&'static Policy>,
        peer: &Arc<Peer>,
        request: Request<Incoming>,
        call: &MeasuredCall,
    ) -> Result<(Response<Body>, Permits), Status> {
        let shared = Arc::clone(&self.shared);
        request::check_headers(request.uri().path(), request.headers(), &shared.limits)?;
        let line = |principal| {
            let policy = policy.filter(|policy| policy.audited != Audited::No)?;
            let audit = Arc::clone(&shared.audit);
            let trace_id = audit::trace_id(request.headers());
            Some(audit::Call::new(
                audit, policy, principal, peer.addr, trace_id,
            ))
        };
        let judged = shared
            .guard
            .judge(policy, request.headers(), &peer.certificate_names);
        let (policy, caller) = match judged {
            Ok(judged) => judged,
            Err((principal, denied)) => {
                let refusal = Status::from(ApiError::from(denied));
                if let Some(line) = line(principal.as_ref()) {
                    line.ended(refusal.code()).await;
                }
                return Err(refusal);
            }
        };
        // Whoever calls what anyone may is as unknown as before.
        if !shared.guard.asks() || policy.callers != Callers::Anyone {
            peer.is_now_known();
        }
        // Who is not let in has got no permit that others wait for, and who is shed leaves no line.
        let permits = shared.admission.admit(policy.queue).await?;
        let line = line(Some(&caller.principal));
        let subject = line.as_ref().map(audit::Call::subject).unwrap_or_default();
        let scope = Scope::new(caller, subject);
        let outcome = self.admitted(policy, scope, request, call, &permits).await;
        if let Some(line) = line {
            line.ended(match &outcome {
                // An error is told in the headers, success only after the body.
                Ok(response) => {
                    Status::from_header_map(response.headers()).map_or(Code::Ok, |s| s.code())
                }
                Err(refusal) => refusal.code(),
            })
            .await;
        }
        Ok((outcome?, permits))
    }

    /// Reads the request, and has its handler answer it.
    async fn admitted(
        mut self,
        policy: &Policy,
        scope: Scope,
        request: Request<Incoming>,
        call: &MeasuredCall,
        permits: &Permits,
    ) -> Result<Response<Body>, Status> {
        let shared = Arc::clone(&self.shared);
        let limits = &shared.limits;
        let began = Instant::now();
        let after = |seconds| began + Duration::from_secs(seconds);
        let (mut head, body) = request.into_parts();
        head.extensions.insert(scope);
        let mut held = Arc::clone(permits);
        let body = match policy.request_bytes(limits) {
            None => request::counted(body, call.received.clone()),
            Some(max) => {
                let seconds = match policy.queue {
                    Queue::Checks => limits.call_seconds.min(CHECK_SECONDS),
                    _ => limits.call_seconds,
                };
                let deadline = (after(seconds), seconds);
                let request = request::read(body, max, limits, deadline, &call.received).await?;
                // A sign of life waits for nobody.
                if policy.queue == Queue::Work {
                    let room = shared.admission.decode(request.len());
                    let room = timeout_at(after(limits.call_seconds), room).await;
                    let late = |_| ApiError::CallTooSlow(limits.call_seconds);
                    // The reader of the answer may take its time: it holds the permits alone.
                    held = Arc::new((held, room.map_err(late)??));
                }
                Body::new(Full::new(request))
            }
        };
        let answer = within(held, self.routes.call(Request::from_parts(head, body)));
        let answered = match policy.queue {
            Queue::Idle | Queue::Transfers => answer.await,
            // Whoever asks is answered in time; what a disk does not answer keeps the permits.
            Queue::Checks | Queue::Heartbeats | Queue::Work => {
                let seconds = limits.call_seconds;
                let answered = timeout_at(after(seconds), answer).await;
                answered.map_err(|_| ApiError::CallTooSlow(seconds))?
            }
        };
        answered.map_err(|never| match never {})
    }
}

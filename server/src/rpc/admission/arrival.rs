//! The arrival of a request, bounded in time and in bytes before anything is decoded: what a caller
//! has begun to send and does not end is kept for it, and must not be for ever.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::{Status, body::Body, codegen::http::Request};

use super::super::ApiError;
use crate::limits::Limits;

/// Bytes of a request that names a job, a blob or a wait.
const SMALL_BYTES: u64 = 64 << 10;
/// Bytes of a health check, which anyone may send.
pub(crate) const CHECK_BYTES: u64 = 4 << 10;
/// Seconds that a health check may take to arrive, at most.
const CHECK_SECONDS: u64 = 10;
/// Bytes of one lease in a request; a real one has some 120.
const LEASE_BYTES: u64 = 256;
/// What gRPC puts before a message.
const PREFIX_BYTES: u64 = 5;

/// How a request may arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arrival {
    seconds: u64,
    bytes: u64,
}

impl Arrival {
    /// That of the requests at `path`; `None` = as a stream, whose reader looks after it.
    pub(super) fn of(path: &str, limits: &Limits) -> Option<Self> {
        let (service, method) = path.rsplit_once('/').unwrap_or_default();
        let bytes = match (service, method) {
            ("/dual16.v1.BlobService", "Upload") | (_, "ServerReflectionInfo") => return None,
            ("/grpc.health.v1.Health", _) => CHECK_BYTES,
            ("/dual16.v1.WorkerService", "Heartbeat" | "Release") => {
                SMALL_BYTES.saturating_add(limits.held_leases.saturating_mul(LEASE_BYTES))
            }
            ("/dual16.v1.JobService", "CreateJob")
            | ("/dual16.v1.BlobService", "FindMissing")
            | ("/dual16.v1.WorkerService", "Complete" | "Fail") => limits.message_bytes,
            _ => SMALL_BYTES,
        };
        let seconds = match (service, method) {
            ("/grpc.health.v1.Health", "Check") => limits.call_seconds.min(CHECK_SECONDS),
            _ => limits.call_seconds,
        };
        Some(Self {
            seconds,
            bytes: bytes.min(limits.message_bytes),
        })
    }

    /// Binds a request that begins to arrive now.
    pub(super) fn bind(self, request: Request<Body>) -> Request<Body> {
        let deadline = Instant::now() + Duration::from_secs(self.seconds);
        request.map(|body| {
            if body.is_end_stream() {
                return body;
            }
            Body::new(Arriving {
                body,
                arrival: self,
                left: self.bytes.saturating_add(PREFIX_BYTES),
                deadline,
                timer: None,
            })
        })
    }
}

/// The body of a request, which fails when it is late or too large.
struct Arriving {
    body: Body,
    arrival: Arrival,
    left: u64,
    deadline: Instant,
    /// Most requests are there before anyone waits for them.
    timer: Option<Pin<Box<Sleep>>>,
}

impl http_body::Body for Arriving {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) else {
            let deadline = self.deadline;
            let timer = self
                .timer
                .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
            ready!(timer.as_mut().poll(context));
            let late = ApiError::CallTooSlow(self.arrival.seconds);
            return Poll::Ready(Some(Err(late.into())));
        };
        if let Some(data) = frame
            .as_ref()
            .and_then(|frame| frame.as_ref().ok()?.data_ref())
        {
            let Some(left) = self.left.checked_sub(data.len() as u64) else {
                let large = ApiError::RequestTooLarge(self.arrival.bytes);
                return Poll::Ready(Some(Err(large.into())));
            };
            self.left = left;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::rules::RULES;

    #[test]
    fn only_streams_arrive_without_end_and_only_what_carries_lists_is_large() {
        let limits = Limits::default();
        let mut unbounded = Vec::new();
        let mut large = Vec::new();
        for rule in RULES {
            match Arrival::of(rule.path, &limits) {
                None => unbounded.push(rule.rpc()),
                Some(arrival) if arrival.bytes > SMALL_BYTES => large.push(rule.rpc()),
                Some(arrival) => assert!(arrival.seconds <= limits.call_seconds),
            }
        }
        assert_eq!(unbounded.len(), 3, "{unbounded:?}");
        assert_eq!(unbounded[0], "BlobService/Upload");
        let expected = [
            "JobService/CreateJob",
            "BlobService/FindMissing",
            "WorkerService/Heartbeat",
            "WorkerService/Complete",
            "WorkerService/Fail",
            "WorkerService/Release",
        ];
        assert_eq!(large, expected);
        let check = Arrival::of("/grpc.health.v1.Health/Check", &limits);
        let expected = Arrival {
            seconds: CHECK_SECONDS,
            bytes: CHECK_BYTES,
        };
        assert_eq!(check, Some(expected));
    }
}

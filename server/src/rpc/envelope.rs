//! Headers and messages within their limits, before anything is made of them. The transport knows
//! both limits too, but its refusals say neither which one it was nor what would be right.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tonic::{
    Status,
    body::Body,
    codegen::http::{Request, Response},
};
use tonic_types::FieldViolation;
use tower::{Layer, Service};

use super::{ApiError, Exceeded};
use crate::limits::Limits;

/// What HTTP/2 counts for each header beside its name and value.
const HEADER_OVERHEAD: usize = 32;

/// A flag, and the length of the message in four bytes.
const PREFIX: usize = 5;

/// Holds every call to the limits of headers and of messages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Envelope {
    header_bytes: u64,
    message_bytes: u64,
}

impl Envelope {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            header_bytes: limits.header_bytes,
            message_bytes: limits.message_bytes,
        }
    }

    /// What the transport lets through: enough of the headers that are too large to answer them.
    pub(crate) fn transport_header_bytes(limits: &Limits) -> u32 {
        Limits::count(limits.header_bytes.saturating_mul(2))
    }

    fn check_headers<T>(&self, request: &Request<T>) -> Result<(), ApiError> {
        let headers = request.headers().iter();
        let bytes = headers
            .map(|(name, value)| name.as_str().len() + value.as_bytes().len() + HEADER_OVERHEAD);
        let path = request.uri().path().len();
        check(
            "headers",
            Exceeded {
                limit: "header_bytes",
                max: self.header_bytes,
                found: bytes.sum::<usize>() as u64 + path as u64,
            },
        )
    }
}

fn check(field: &str, exceeded: Exceeded) -> Result<(), ApiError> {
    let Exceeded { max, found, .. } = exceeded;
    if found <= max {
        return Ok(());
    }
    let description = format!("has {found} bytes, at most {max} may be");
    let mut violation = FieldViolation::new(field, description);
    violation.reason = "TOO_LARGE".to_owned();
    Err(ApiError::Exceeded(exceeded, vec![violation], 0))
}

impl<S> Layer<S> for Envelope {
    type Service = Enveloped<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Enveloped {
            inner,
            envelope: *self,
        }
    }
}

/// A service whose requests are held to the limits.
#[derive(Clone, Debug)]
pub(crate) struct Enveloped<S> {
    inner: S,
    envelope: Envelope,
}

impl<S> Service<Request<Body>> for Enveloped<S>
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
        if let Err(error) = self.envelope.check_headers(&request) {
            return Box::pin(async { Ok(Status::from(error).into_http()) });
        }
        let max = self.envelope.message_bytes;
        let request = request.map(|body| {
            Body::new(Bounded {
                body,
                messages: Messages::new(max),
            })
        });
        Box::pin(self.inner.call(request))
    }
}

/// The body of a request, which ends with an error where a message is too large.
struct Bounded {
    body: Body,
    messages: Messages,
}

impl http_body::Body for Bounded {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
            && let Err(error) = self.messages.pass(data)
        {
            return Poll::Ready(Some(Err(error.into())));
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

/// Follows the messages of a body from prefix to prefix, however it is cut.
#[derive(Debug)]
struct Messages {
    max: u64,
    prefix: [u8; PREFIX],
    /// Bytes of the prefix so far.
    prefixed: usize,
    /// Bytes until the next prefix.
    left: usize,
}

impl Messages {
    fn new(max: u64) -> Self {
        Self {
            max,
            prefix: [0; PREFIX],
            prefixed: 0,
            left: 0,
        }
    }

    /// Goes past some data, which must begin no message that is too large.
    fn pass(&mut self, mut data: &[u8]) -> Result<(), ApiError> {
        loop {
            let passed = self.left.min(data.len());
            self.left -= passed;
            data = &data[passed..];
            let Some((&byte, rest)) = data.split_first() else {
                return Ok(());
            };
            self.prefix[self.prefixed] = byte;
            self.prefixed = (self.prefixed + 1) % PREFIX;
            data = rest;
            if self.prefixed == 0 {
                let [_, length @ ..] = self.prefix;
                let found = u32::from_be_bytes(length);
                let exceeded = Exceeded {
                    limit: "message_bytes",
                    max: self.max,
                    found: u64::from(found),
                };
                check("message", exceeded)?;
                self.left = found as usize;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(lengths: &[usize]) -> Vec<u8> {
        let message = |length: &usize| {
            let prefix = [&[0][..], &(*length as u32).to_be_bytes()].concat();
            [prefix, vec![7; *length]].concat()
        };
        lengths.iter().flat_map(message).collect()
    }

    #[test]
    fn messages_are_followed_however_the_body_is_cut() {
        let bytes = stream(&[3, 0, 300, 299]);
        for size in [1, 2, 4, 5, 7, 300, 1000] {
            for (max, passes) in [(300, true), (299, false)] {
                let mut messages = Messages::new(max);
                let passed = bytes.chunks(size).try_for_each(|data| messages.pass(data));
                assert_eq!(passed.is_ok(), passes, "cut into {size}, at most {max}");
            }
        }
    }

    #[test]
    fn what_is_too_large_is_told_from_its_first_bytes() {
        let refused = Messages::new(10).pass(&stream(&[1_000_000])[..5]);
        let text = refused.unwrap_err().to_string();
        assert_eq!(text, "message: has 1000000 bytes, at most 10 may be");
    }
}

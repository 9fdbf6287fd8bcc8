//! A request on its way in. One message is read whole, in limited time and within its limit, before
//! anything is decoded: what a caller has begun to send and does not end is kept for it, and must not
//! be for ever. The transport has limits too, but its refusals say neither which one it was nor what
//! would be right, and none of them is of time.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use prometheus_client::metrics::counter::Counter;
use tokio::time::{Instant, timeout_at};
use tonic::{Status, body::Body, codegen::http::HeaderMap};
use tonic_types::FieldViolation;

use crate::{
    limits::Limits,
    rpc::{ApiError, Exceeded},
};

/// What HTTP/2 counts for each header beside its name and value.
const HEADER_OVERHEAD: usize = 32;
/// What gRPC puts before a message: a flag, and the length of the message in four bytes.
const PREFIX: usize = 5;

/// Refuses headers beyond their limit.
pub(super) fn check_headers(
    path: &str,
    headers: &HeaderMap,
    limits: &Limits,
) -> Result<(), ApiError> {
    let each = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.as_bytes().len() + HEADER_OVERHEAD);
    let found = (each.sum::<usize>() + path.len()) as u64;
    check("headers", "header_bytes", limits.header_bytes, found)
}

/// Reads a request of one message, of `max` bytes at most, until `deadline`, which is `seconds` after
/// its head.
pub(super) async fn read(
    body: Incoming,
    max: u64,
    limits: &Limits,
    (deadline, seconds): (Instant, u64),
    received: &Counter,
) -> Result<Bytes, Status> {
    let mut body = counted(body, received.clone());
    let reading = async {
        let mut request = BytesMut::new();
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame?.into_data() {
                request.extend_from_slice(&data);
                check_message(&request, max, limits)?;
            }
        }
        Ok(request.freeze())
    };
    let read = timeout_at(deadline, reading).await;
    read.map_err(|_| ApiError::CallTooSlow(seconds))?
}

/// Refuses a message that is too large by what it says of itself, or by what has come.
fn check_message(request: &[u8], max: u64, limits: &Limits) -> Result<(), ApiError> {
    let Some((&[_, ref length @ ..], come)) = request.split_first_chunk::<PREFIX>() else {
        return Ok(());
    };
    let found = u64::from(u32::from_be_bytes(*length)).max(come.len() as u64);
    check("message", "message_bytes", limits.message_bytes, found)?;
    if found > max {
        return Err(ApiError::RequestTooLarge(max));
    }
    Ok(())
}

/// Whatever comes, counted.
pub(super) fn counted(body: Incoming, received: Counter) -> Body {
    Body::new(body.map_frame(move |frame| {
        if let Some(data) = frame.data_ref() {
            received.inc_by(data.len() as u64);
        }
        frame
    }))
}

fn check(field: &str, limit: &'static str, max: u64, found: u64) -> Result<(), ApiError> {
    if found <= max {
        return Ok(());
    }
    let description = format!("has {found} bytes, at most {max} may be");
    let mut violation = FieldViolation::new(field, description);
    violation.reason = "TOO_LARGE".to_owned();
    let exceeded = Exceeded { limit, max, found };
    Err(ApiError::Exceeded(exceeded, vec![violation], 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_large_is_told_from_its_first_bytes_and_by_what_has_come() {
        let limits = Limits {
            message_bytes: 1000,
            ..Limits::default()
        };
        let message = |promised: u32, come: usize| {
            [&[0][..], &promised.to_be_bytes(), &vec![7; come]].concat()
        };
        let refused = |request: &[u8], max| {
            let refused = check_message(request, max, &limits);
            refused.err().map(|error| error.to_string())
        };
        assert_eq!(refused(&message(1_000_000, 0)[..4], 10), None);
        let large = refused(&message(1_000_000, 0), 10).unwrap();
        assert_eq!(large, "message: has 1000000 bytes, at most 1000 may be");
        assert_eq!(refused(&message(10, 10), 10), None);
        for more in [message(11, 0), message(10, 11)] {
            let refused = refused(&more, 10).unwrap();
            assert!(refused.contains("more than 10 bytes"), "{refused}");
        }
    }
}

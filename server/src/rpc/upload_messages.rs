//! The messages of one upload, which has to bring data all the while: others may wait for it, as there
//! is one upload of a blob at a time.
//!
//! The sender has an allowance of time: waiting uses it up, data earns it back. So neither silence
//! lasts longer than the allowance nor slowness, which a timeout for each message would let last for
//! ever; and an upload as a whole lasts no longer than its bytes allow, which a timeout for all of it
//! could not know. An empty message is no data, and the time that the server takes to write is not the
//! sender's.

use std::time::Duration;

use bytes::Bytes;
use dual16_proto::v1;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming};

use super::ApiError;
use crate::limits::Limits;

/// An upload that brings less, in bytes a second, is ended; it can go on from there.
const SLOWEST: u64 = 64 << 10;

/// Messages that come in time.
pub(super) struct UploadMessages<'a> {
    messages: Streaming<v1::UploadRequest>,
    idle_seconds: u64,
    message_bytes: u64,
    allowance: Allowance,
    shutdown: &'a CancellationToken,
}

impl<'a> UploadMessages<'a> {
    pub(super) fn new(
        messages: Streaming<v1::UploadRequest>,
        limits: &Limits,
        shutdown: &'a CancellationToken,
    ) -> Self {
        let idle_seconds = limits.upload_idle_seconds;
        Self {
            messages,
            idle_seconds,
            message_bytes: limits.message_bytes,
            allowance: Allowance::new(Duration::from_secs(idle_seconds)),
            shutdown,
        }
    }

    /// The first message, which need not have data; `None` if there is none.
    pub(super) async fn first(&mut self) -> Result<Option<v1::UploadRequest>, Status> {
        let first = self.next().await;
        if let Ok(Some(message)) = &first {
            self.allowance.earn(message.data.len());
        }
        first
    }

    /// The next data; `None` at the end.
    pub(super) async fn data(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            match self.next().await? {
                None => return Ok(None),
                Some(message) if message.data.is_empty() => {}
                Some(message) => {
                    self.allowance.earn(message.data.len());
                    return Ok(Some(message.data));
                }
            }
        }
    }

    async fn next(&mut self) -> Result<Option<v1::UploadRequest>, Status> {
        let began = Instant::now();
        let message = tokio::select! {
            () = self.shutdown.cancelled() => Err(ApiError::ShuttingDown.into()),
            message = tokio::time::timeout(self.allowance.left, self.messages.message()) => {
                let message = message.map_err(|_| ApiError::UploadIdle(self.idle_seconds))?;
                message.map_err(|status| match status.code() {
                    // tonic's word for a message that is too long. Here that code asks for another offset.
                    Code::OutOfRange => ApiError::RequestTooLarge(self.message_bytes).into(),
                    _ => status,
                })
            }
        };
        self.allowance.spend(began.elapsed());
        message
    }
}

/// How long a sender may still be waited for.
#[derive(Debug)]
struct Allowance {
    left: Duration,
    most: Duration,
}

impl Allowance {
    fn new(most: Duration) -> Self {
        Self { left: most, most }
    }

    fn spend(&mut self, waited: Duration) {
        self.left = self.left.saturating_sub(waited);
    }

    fn earn(&mut self, bytes: usize) {
        let earned = (bytes as u64).saturating_mul(1_000_000) / SLOWEST;
        self.left = (self.left + Duration::from_micros(earned)).min(self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_sender_of_the_slowest_rate_is_waited_for_for_ever_and_a_slower_one_is_not() {
        let mut allowance = Allowance::new(30 * SECOND);
        for _ in 0..1000 {
            allowance.spend(16 * SECOND);
            assert!(!allowance.left.is_zero());
            allowance.earn(1 << 20);
        }
        // A burst does not pay for a trickle after it.
        allowance.earn(1 << 30);
        allowance.spend(29 * SECOND);
        allowance.earn(1);
        allowance.spend(SECOND);
        assert!(allowance.left < SECOND / 1000, "{allowance:?}");
    }
}

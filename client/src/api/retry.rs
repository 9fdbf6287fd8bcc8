//! When a failed call is tried again, how long, and who is told.
//!
//! Retried: a server that is not there or went away in mid-call, an upload that broke off, and
//! RESOURCE_EXHAUSTED with a RetryInfo. Never retried: an answer that says no.

use std::time::{Duration, Instant};

use dual16_proto::credentials::explain;
use rand::RngExt as _;
use tonic::{Code, ConnectError, Status};
use tonic_types::StatusExt as _;

use super::{ApiError, Client};

/// Waiting times of one outage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Total time without an answer after which a call fails.
    pub give_up_after: Duration,
    /// First pause; each further one is twice as long.
    pub first_delay: Duration,
    /// Longest pause.
    pub max_delay: Duration,
}

impl Default for RetryPolicy {
    /// 60 s in all, pauses from 100 ms to 5 s.
    fn default() -> Self {
        Self {
            give_up_after: Duration::from_secs(60),
            first_delay: Duration::from_millis(100),
            max_delay: Duration::from_secs(5),
        }
    }
}

/// News of a call that will be tried again.
#[derive(Debug, Clone)]
pub struct Retrying<'a> {
    /// The call.
    pub call: &'static str,
    /// Why.
    pub message: &'a str,
    /// The server itself asked to come back later; otherwise it is not there.
    pub answered: bool,
    /// Pause before the next try.
    pub delay: Duration,
    /// Time since the outage began.
    pub elapsed: Duration,
    /// Time after which the client gives up.
    pub give_up_after: Duration,
}

/// The failures of one call since it last made progress.
#[derive(Debug)]
pub(super) struct Outage {
    client: Client,
    call: &'static str,
    began: Option<Instant>,
    next_delay: Duration,
}

impl Outage {
    pub(super) fn new(client: &Client, call: &'static str) -> Self {
        Self {
            client: client.clone(),
            call,
            began: None,
            next_delay: client.retry.first_delay,
        }
    }

    /// The call made progress: the next failure begins a new outage.
    pub(super) fn over(&mut self) {
        self.began = None;
        self.next_delay = self.client.retry.first_delay;
    }

    /// Pauses before the next try.
    ///
    /// # Errors
    /// [`ApiError::Refused`] or [`ApiError::Tls`] when trying again cannot help, [`ApiError::Unreachable`] when the
    /// outage has lasted too long.
    pub(super) async fn pause(&mut self, status: &Status) -> Result<(), ApiError> {
        if let Some(message) = explain(status) {
            let url = self.client.url().to_owned();
            return Err(ApiError::Tls { url, message });
        }
        if !is_transient(status) {
            return Err(ApiError::refused(self.call, status));
        }
        self.wait(status).await
    }

    /// As [`pause`](Self::pause), for a failure of which the caller knows that trying again can help.
    ///
    /// # Errors
    /// [`ApiError::Refused`] or [`ApiError::Unreachable`] when the outage has lasted too long.
    pub(super) async fn wait(&mut self, status: &Status) -> Result<(), ApiError> {
        let answered = std::error::Error::source(status).is_none();
        let policy = &self.client.retry;
        let elapsed = self.began.get_or_insert_with(Instant::now).elapsed();
        if elapsed >= policy.give_up_after {
            if answered && status.code() != Code::Unavailable {
                return Err(ApiError::refused(self.call, status));
            }
            return Err(ApiError::Unreachable {
                url: self.client.url().to_owned(),
                call: self.call,
                waited: elapsed,
                last: root_message(status),
            });
        }
        // Those whom one full server sent away at once must not come back at once.
        let asked = asked_delay(status).map(|asked| asked + jitter(asked / 2));
        let delay = jitter(self.next_delay)
            .max(asked.unwrap_or_default())
            .min(policy.give_up_after - elapsed);
        self.next_delay = (self.next_delay * 2).min(policy.max_delay);
        (self.client.on_retry)(&Retrying {
            call: self.call,
            message: &root_message(status),
            answered,
            delay,
            elapsed,
            give_up_after: policy.give_up_after,
        });
        tokio::time::sleep(delay).await;
        Ok(())
    }
}

/// Whether a call that failed so may have done its work all the same: its answer was lost, not its
/// request. Without a connection there was no request.
pub(super) fn may_have_arrived(status: &Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if error.is::<ConnectError>() {
            return false;
        }
        cause = error.source();
    }
    true
}

/// Whether the same call can succeed later.
///
/// UNAVAILABLE is the server's own "come back later"; a status with a source was made on this side
/// by a broken connection or a passed deadline (what a server sends carries no source).
fn is_transient(status: &Status) -> bool {
    let broken = std::error::Error::source(status).is_some();
    match status.code() {
        // ABORTED: an upload that fell silent or came up short, and goes on from what was kept.
        Code::Unavailable | Code::Aborted => true,
        Code::ResourceExhausted => asked_delay(status).is_some(),
        // One that the server itself gave up comes with the time to try again.
        Code::DeadlineExceeded => broken || asked_delay(status).is_some(),
        Code::Unknown | Code::Internal | Code::Cancelled => broken,
        _ => false,
    }
}

fn asked_delay(status: &Status) -> Option<Duration> {
    status.get_error_details().retry_info()?.retry_delay
}

/// The innermost cause: "connection refused" rather than "transport error".
pub(super) fn root_message(status: &Status) -> String {
    let mut cause = std::error::Error::source(status);
    let mut message = None;
    while let Some(error) = cause {
        message = Some(error.to_string());
        cause = error.source();
    }
    message.unwrap_or_else(|| status.message().to_owned())
}

/// Between half of `delay` and all of it, so that many clients do not return at the same moment.
fn jitter(delay: Duration) -> Duration {
    delay.mul_f64(rand::rng().random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn answers_are_not_retried_but_broken_connections_are() {
        let broken = Status::from_error(Box::new(std::io::Error::other("reset by peer")));
        assert!(is_transient(&broken));
        assert_eq!(root_message(&broken), "reset by peer");
        assert!(is_transient(&Status::unavailable("draining")));
        assert!(!is_transient(&Status::internal("bug")));
        assert!(!is_transient(&Status::not_found("no such job")));
    }

    #[test]
    fn a_request_arrives_only_over_a_connection() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let away = Status::from_error(Box::new(ConnectError(Box::new(refused))));
        assert!(is_transient(&away) && !may_have_arrived(&away));
        let broken = Status::from_error(Box::new(std::io::Error::other("reset by peer")));
        assert!(may_have_arrived(&broken));
    }

    #[test]
    fn an_exhausted_server_is_retried_only_when_it_says_when() {
        assert!(!is_transient(&Status::resource_exhausted("blob too large")));
        let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(2)));
        let busy = Status::with_error_details(Code::ResourceExhausted, "queue full", details);
        assert!(is_transient(&busy));
        assert_eq!(asked_delay(&busy), Some(Duration::from_secs(2)));
    }
}

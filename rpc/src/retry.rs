//! Which failed calls are tried again, after which pause, and who is told. How long they are is the
//! caller's to say.
//!
//! Tried again: a server that is not there or went away in mid-call, an upload that broke off, and
//! whatever names a time to come back at. Never: an answer that says no.

use std::{
    error::Error,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use tonic::{Code, ConnectError, Status};
use tonic_types::StatusExt as _;

use crate::credentials::explain;

/// What a caller does about calls that fail.
pub trait Policy: fmt::Debug + Send + Sync {
    /// How long failures like this one are borne, from the first of them on; `None` = it is final.
    /// Most begin with [`is_transient`].
    fn patience(&self, status: &Status) -> Option<Duration>;

    /// The pauses between tries.
    fn delays(&self) -> Delays {
        Delays::default()
    }

    /// A call failed, and will be tried again.
    fn retrying(&self, retrying: &Retrying<'_>);

    /// A call was answered.
    fn answered(&self) {}
}

/// A call that failed and will be tried again.
#[derive(Debug, Clone, Copy)]
pub struct Retrying<'a> {
    /// The call.
    pub call: &'static str,
    /// How it failed.
    pub status: &'a Status,
    /// Pause before the next try.
    pub delay: Duration,
    /// Time until it is given up.
    pub left: Duration,
}

/// A call that failed for good.
#[derive(Debug, thiserror::Error)]
#[error("{call}: {}", reason(.status))]
pub struct CallError {
    /// The call.
    pub call: &'static str,
    /// How it failed at last.
    pub status: Status,
    /// How long it was tried, where trying again could have helped; `None` = it is an answer.
    pub waited: Option<Duration>,
    /// An earlier try may have arrived: this can be the refusal of work already done.
    pub repeated: bool,
}

/// Pauses: each twice as long as the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delays {
    /// The first pause.
    pub first: Duration,
    /// The longest pause.
    pub longest: Duration,
}

impl Default for Delays {
    /// 50 ms, 100 ms … 5 s.
    fn default() -> Self {
        Self {
            first: Duration::from_millis(50),
            longest: Duration::from_secs(5),
        }
    }
}

/// The next pause of a row. Each is drawn from its upper half, so that those who lost the same server
/// do not come back in step.
#[derive(Debug)]
pub struct Backoff {
    delays: Delays,
    next: Duration,
}

impl Backoff {
    /// Begins with the first.
    pub fn new(delays: Delays) -> Self {
        let next = delays.first;
        Self { delays, next }
    }

    /// How long to wait this time.
    pub fn delay(&mut self) -> Duration {
        let full = self.next;
        self.next = (full * 2).min(self.delays.longest);
        jitter(full)
    }

    /// After a success, or any progress: the next wait is the shortest again.
    pub fn reset(&mut self) {
        self.next = self.delays.first;
    }
}

/// The failures of one call since it last made progress.
#[derive(Debug)]
pub struct Retry {
    policy: Arc<dyn Policy>,
    call: &'static str,
    backoff: Backoff,
    /// Since when failures are borne, and how long they are.
    outage: Option<(Instant, Duration)>,
    repeated: bool,
}

impl Retry {
    /// Nothing has failed yet.
    pub fn new(policy: Arc<dyn Policy>, call: &'static str) -> Self {
        Self {
            backoff: Backoff::new(policy.delays()),
            policy,
            call,
            outage: None,
            repeated: false,
        }
    }

    /// The call made progress: the next failure begins a new outage.
    pub fn over(&mut self) {
        self.outage = None;
        self.backoff.reset();
    }

    /// Pauses before the next try.
    ///
    /// # Errors
    /// Trying again cannot help, or has been tried for as long as the policy bears it.
    pub async fn pause(&mut self, status: Status) -> Result<(), CallError> {
        let Some(patience) = self.policy.patience(&status) else {
            return Err(self.end(status, None));
        };
        // Failures of another kind have a patience of their own.
        let since = match self.outage {
            Some((since, borne)) if borne == patience => since,
            _ => Instant::now(),
        };
        self.outage = Some((since, patience));
        let elapsed = since.elapsed();
        if elapsed >= patience {
            return Err(self.end(status, Some(elapsed)));
        }
        // Those whom one full server sent away at once must not come back at once.
        let asked = asked_delay(&status).map_or(Duration::ZERO, |asked| asked + jitter(asked / 2));
        let delay = self.backoff.delay().max(asked).min(patience - elapsed);
        self.policy.retrying(&Retrying {
            call: self.call,
            status: &status,
            delay,
            left: patience - elapsed,
        });
        self.repeated |= may_have_arrived(&status);
        tokio::time::sleep(delay).await;
        Ok(())
    }

    fn end(&self, status: Status, waited: Option<Duration>) -> CallError {
        CallError {
            call: self.call,
            status,
            waited,
            repeated: self.repeated,
        }
    }
}

/// Whether the same call can succeed later: the server is away or busy, rather than unwilling.
pub fn is_transient(status: &Status) -> bool {
    match status.code() {
        // ABORTED: an upload that fell silent or came up short, and goes on from what was kept.
        Code::Unavailable | Code::Aborted => true,
        // A connection that breaks in mid-call can have any code. A full queue, or a server that gave
        // up a call itself, says when to come back; a message that is too large is so for ever.
        _ => made_here(status) || asked_delay(status).is_some(),
    }
}

/// Whether this side made the status, of a broken connection or a deadline that passed: it carries its
/// cause then. What a server sends carries none.
pub fn made_here(status: &Status) -> bool {
    status.source().is_some()
}

/// Why a call failed, for a person: the innermost cause, "connection refused" rather than "transport
/// error", and of TLS what would help.
pub fn reason(status: &Status) -> String {
    match (explain(status), causes(status).last()) {
        (Some(tls), _) => tls,
        (None, Some(cause)) => cause.to_string(),
        (None, None) if status.message().is_empty() => status.code().description().to_owned(),
        (None, None) => status.message().to_owned(),
    }
}

fn causes(status: &Status) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(status.source(), |&cause| cause.source())
}

/// Whether a call that failed so may have done its work all the same: its answer was lost, not its
/// request. Without a connection there was no request.
fn may_have_arrived(status: &Status) -> bool {
    !causes(status).any(|cause| cause.is::<ConnectError>())
}

fn asked_delay(status: &Status) -> Option<Duration> {
    status.get_details_retry_info()?.retry_delay
}

/// Between half of `delay` and all of it.
fn jitter(delay: Duration) -> Duration {
    delay.mul_f64(rand::random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use std::{io, sync::Mutex};

    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn answers_are_final_but_broken_connections_are_not() {
        let broken = Status::from_error(Box::new(io::Error::other("reset by peer")));
        assert!(is_transient(&broken) && made_here(&broken));
        assert_eq!(reason(&broken), "reset by peer");
        assert!(is_transient(&Status::unavailable("draining")));
        assert!(!is_transient(&Status::internal("bug")));
        assert!(!is_transient(&Status::not_found("no such job")));
        assert_eq!(reason(&Status::not_found("no such job")), "no such job");
    }

    #[test]
    fn a_request_arrives_only_over_a_connection() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let away = Status::from_error(Box::new(ConnectError(Box::new(refused))));
        assert!(is_transient(&away) && !may_have_arrived(&away));
        let broken = Status::from_error(Box::new(io::Error::other("reset by peer")));
        assert!(may_have_arrived(&broken));
    }

    fn full() -> Status {
        let details = ErrorDetails::with_retry_info(Some(Duration::from_millis(20)));
        Status::with_error_details(Code::ResourceExhausted, "queue full", details)
    }

    #[test]
    fn an_exhausted_server_is_tried_again_only_when_it_says_when() {
        assert!(!is_transient(&Status::resource_exhausted("blob too large")));
        assert!(is_transient(&full()));
        assert_eq!(asked_delay(&full()), Some(Duration::from_millis(20)));
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_are_drawn_from_their_upper_half() {
        let delays = Delays::default();
        let mut backoff = Backoff::new(delays);
        let mut full = delays.first;
        for _ in 0..12 {
            let wait = backoff.delay();
            assert!(wait >= full / 2 && wait <= full, "{wait:?} of {full:?}");
            full = (full * 2).min(delays.longest);
        }
        assert_eq!(full, delays.longest);
        backoff.reset();
        assert!(backoff.delay() <= delays.first);
    }

    /// Bears an absence for 60 ms and a full server for 10 s.
    #[derive(Debug, Default)]
    struct Brief(Mutex<Vec<Duration>>);

    impl Policy for Brief {
        fn patience(&self, status: &Status) -> Option<Duration> {
            let borne = match status.code() {
                Code::ResourceExhausted => Duration::from_secs(10),
                _ => Duration::from_millis(60),
            };
            is_transient(status).then_some(borne)
        }

        fn delays(&self) -> Delays {
            Delays {
                first: Duration::from_millis(1),
                longest: Duration::from_millis(2),
            }
        }

        fn retrying(&self, retrying: &Retrying<'_>) {
            self.0.lock().unwrap().push(retrying.delay);
        }
    }

    #[tokio::test]
    async fn an_outage_ends_with_its_patience_with_progress_and_with_one_of_another_kind() {
        let policy = Arc::new(Brief::default());
        let mut retry = Retry::new(Arc::clone(&policy) as Arc<dyn Policy>, "GetJob");
        let away = || Status::unavailable("away");
        let began = Instant::now();
        let error = loop {
            if let Err(error) = retry.pause(away()).await {
                break error;
            }
        };
        assert!(error.waited.is_some_and(|waited| waited <= began.elapsed()));
        assert!(error.repeated && error.waited >= Some(Duration::from_millis(60)));
        // It asked for 20 ms, and is borne although the other kind no longer is.
        retry.pause(full()).await.unwrap();
        let delay = *policy.0.lock().unwrap().last().unwrap();
        assert!(delay >= Duration::from_millis(20), "{delay:?}");
        retry.pause(away()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(70)).await;
        retry.over();
        retry.pause(away()).await.unwrap();
        let refusal = retry.pause(Status::not_found("no")).await.unwrap_err();
        assert_eq!((refusal.call, refusal.waited), ("GetJob", None));
    }
}

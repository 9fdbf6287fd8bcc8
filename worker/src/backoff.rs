//! How long to wait before the next try. Knows nothing of what is tried.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(50);
const CAP: Duration = Duration::from_secs(5);

/// Exponential backoff with jitter, capped: 50 ms, 100 ms … 5 s, each drawn from its upper half so
/// that workers which lost the same server do not come back in step.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self { next: FIRST }
    }

    /// The next wait.
    pub(crate) fn next(&mut self) -> Duration {
        let full = self.next;
        self.next = (full * 2).min(CAP);
        full.mul_f64(rand::random_range(0.5..=1.0))
    }

    /// Waits for [`next`](Self::next).
    pub(crate) async fn wait(&mut self) {
        tokio::time::sleep(self.next()).await;
    }

    /// Waits for [`next`](Self::next), but no longer than `limit`.
    pub(crate) async fn wait_at_most(&mut self, limit: Duration) {
        tokio::time::sleep(self.next().min(limit)).await;
    }

    /// After a success, or any progress: the next wait is the shortest again.
    pub(crate) fn reset(&mut self) {
        self.next = FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_cap_and_jitters_within_the_upper_half() {
        let mut backoff = Backoff::new();
        let mut full = FIRST;
        for _ in 0..12 {
            let wait = backoff.next();
            assert!(wait >= full / 2 && wait <= full, "{wait:?} of {full:?}");
            full = (full * 2).min(CAP);
        }
        assert_eq!(full, CAP);
        backoff.reset();
        assert!(backoff.next() <= FIRST);
    }
}

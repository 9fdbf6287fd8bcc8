//! How long a task that failed waits for its next attempt: exponential, capped, with jitter. The
//! jitter is drawn from the task's name and the number of the failure, not from a generator, so
//! that the state machine stays pure and a replay gives the same times.

use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::TaskName;

/// Times between the attempts of one task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The longest wait after the first failure; each further one doubles it. Zero = no waiting.
    pub first: Duration,
    /// No wait is longer.
    pub cap: Duration,
}

impl Backoff {
    /// Tasks are tried again at once.
    pub const NONE: Self = Self {
        first: Duration::ZERO,
        cap: Duration::ZERO,
    };

    /// The wait after the failure number `failures` (from 1) of `task`: between half and all of
    /// `first * 2^(failures - 1)`, at most `cap`. Tasks that failed together, because one thing
    /// that they share was away, do not come back together.
    pub fn delay(&self, task: TaskName, failures: usize) -> Duration {
        let doublings = u32::try_from(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        let factor = 2_u32.checked_pow(doublings).unwrap_or(u32::MAX);
        let full = self.first.saturating_mul(factor).min(self.cap);
        full.mul_f64(0.5 + 0.5 * fraction(task, failures))
    }
}

/// A number in 0..1 that looks random and is always the same.
fn fraction(task: TaskName, failures: usize) -> f64 {
    let hash: [u8; 32] = Sha256::digest(format!("{task}#{failures}")).into();
    let first = hash.first_chunk().copied().map_or(0, u32::from_be_bytes);
    f64::from(first) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{JobId, Slot, TaskId};

    fn task(index: u32) -> TaskName {
        TaskName {
            job: JobId::from_bytes([7; 16]),
            task: TaskId {
                stage: 1,
                slot: Slot::Map(index),
            },
        }
    }

    #[test]
    fn waits_double_up_to_the_cap_within_their_upper_half() {
        let backoff = Backoff {
            first: Duration::from_secs(1),
            cap: Duration::from_secs(60),
        };
        for (failures, full) in [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (80, 60)] {
            let full = Duration::from_secs(full);
            let delay = backoff.delay(task(0), failures);
            assert!(delay >= full / 2 && delay <= full, "{failures}: {delay:?}");
            assert_eq!(delay, backoff.delay(task(0), failures));
        }
        assert_eq!(Backoff::NONE.delay(task(0), 3), Duration::ZERO);
    }

    #[test]
    fn tasks_that_fail_together_do_not_come_back_together() {
        let backoff = Backoff {
            first: Duration::from_secs(1),
            cap: Duration::from_secs(60),
        };
        let mut delays: Vec<_> = (0..64).map(|i| backoff.delay(task(i), 1)).collect();
        delays.sort();
        delays.dedup();
        assert!(delays.len() > 60, "{delays:?}");
        let spread = delays[delays.len() - 1] - delays[0];
        assert!(spread > Duration::from_millis(400), "{spread:?}");
    }
}

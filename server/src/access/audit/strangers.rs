//! A bound on the lines that callers can cause who are not let in: they must not fill the disk.

use std::sync::{Mutex, PoisonError};

use crate::clock::Timestamp;

/// Lines of one second. Enough to see that somebody tries, and from where.
const LINES_A_SECOND: u64 = 50;

/// How many lines strangers have caused in the present second.
#[derive(Debug, Default)]
pub(super) struct Strangers(Mutex<Window>);

#[derive(Debug, Default)]
struct Window {
    second: u64,
    calls: u64,
}

impl Strangers {
    /// Whether a stranger's call of this moment gets its line. What was left out in an earlier
    /// second is told in the log.
    pub(super) fn admit(&self, now: Timestamp) -> bool {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let second = now.as_millis() / 1000;
        if window.second != second {
            let left_out = window.calls.saturating_sub(LINES_A_SECOND);
            if left_out > 0 {
                tracing::warn!(
                    left_out,
                    "unauthenticated calls without a line in the audit log"
                );
            }
            *window = Window { second, calls: 0 };
        }
        window.calls += 1;
        window.calls <= LINES_A_SECOND
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_leaves_few_lines_and_the_next_second_begins_anew() {
        let strangers = Strangers::default();
        let admitted = |millis: u64| {
            let calls = 0..LINES_A_SECOND + 10;
            let lines = calls.filter(|_| strangers.admit(Timestamp::from_millis(millis)));
            lines.count() as u64
        };
        assert_eq!(admitted(1_999), LINES_A_SECOND);
        assert!(!strangers.admit(Timestamp::from_millis(1_000)));
        assert_eq!(admitted(2_000), LINES_A_SECOND);
    }
}

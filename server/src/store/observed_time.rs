//! How long ago something was, counted in time that the store saw pass: while a server ran. A clock that was
//! set while none did, or the time that none ran, makes no job older. (While one runs its clock is monotonic.)

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// Between two notes of the time.
const NOTED_EVERY: Duration = Duration::from_secs(10);

/// What is kept of it, in the engine as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ObservedTime {
    /// The last time that was noted.
    last: Option<Timestamp>,
    /// When nobody ran, or nobody noted it, oldest first.
    gaps: Vec<Gap>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Gap {
    from: Timestamp,
    to: Timestamp,
}

impl ObservedTime {
    /// A store is opened at `now`: what has passed since the last note, nobody saw.
    pub(super) fn opened(mut self, now: Timestamp) -> Self {
        if let Some(from) = self.last.filter(|last| *last < now) {
            self.gaps.push(Gap { from, to: now });
        }
        self.last = None;
        self
    }

    /// Whether nobody noted the time for longer than that.
    pub(super) fn unseen(&self, now: Timestamp, longest: Duration) -> bool {
        self.last.is_some_and(|last| last.after(longest) < now)
    }

    /// Notes the time, where it is worth it; gaps before the end of the `oldest` job count for none.
    /// Whether there is something new to keep.
    pub(super) fn note(&mut self, now: Timestamp, oldest: Option<Timestamp>) -> bool {
        let due = self.last.is_none_or(|last| last.after(NOTED_EVERY) <= now);
        if due {
            self.last = Some(now);
            self.gaps
                .retain(|gap| oldest.is_some_and(|oldest| gap.to > oldest));
        }
        due
    }

    /// The moment that lies `duration` of observed time before `now`; none where that is before all time.
    pub(super) fn ago(&self, now: Timestamp, duration: Duration) -> Option<Timestamp> {
        let (mut until, mut left) = (now, duration);
        for gap in self.gaps.iter().rev() {
            let seen = until.since(gap.to).unwrap_or_default();
            if left < seen {
                break;
            }
            left -= seen;
            until = until.min(gap.from);
        }
        let left = u64::try_from(left.as_millis()).ok()?;
        let millis = until.as_millis().checked_sub(left)?;
        Some(Timestamp::from_millis(millis))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn time_that_nobody_saw_makes_nothing_older() {
        let ago = |seen: &ObservedTime, now, millis| {
            seen.ago(at(now), Duration::from_millis(millis))
                .map(Timestamp::as_millis)
        };
        let mut seen = ObservedTime::default().opened(at(1_000));
        assert!(seen.note(at(1_000), Some(at(0))));
        assert!(!seen.note(at(1_001), Some(at(0))));
        assert_eq!(ago(&seen, 1_500, 500), Some(1_000));
        assert_eq!(ago(&seen, 1_500, 1_501), None);
        // The clock jumps by years before the next start.
        let mut seen = seen.opened(at(90_000_000));
        assert_eq!(ago(&seen, 90_000_100, 100), Some(1_000));
        assert_eq!(ago(&seen, 90_000_100, 99), Some(90_000_001));
        assert_eq!(ago(&seen, 90_000_100, 600), Some(500));
        assert!(seen.note(at(90_000_100), Some(at(500))));
        // And back, and on: what was observed then is behind now's.
        let seen = seen.opened(at(2_000)).opened(at(3_000));
        assert_eq!(ago(&seen, 3_000, 100), Some(900));
        // No job is as old as the gap.
        let mut later = seen.clone().opened(at(95_000_000));
        later.note(at(95_000_000), Some(at(95_000_000)));
        assert_eq!(later.gaps, []);
    }
}

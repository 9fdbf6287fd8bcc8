//! How old a file is, for one who removes what is old.
//!
//! The time of a file and the system's clock alone do not tell. That clock goes on while no server
//! runs, when nobody can ask for a blob, and it can be set forward by years in one moment. So nothing
//! is older at first than this process, by a clock that only counts the time it runs, until those who
//! were cut off had the time to come back. What the system's clock was set forward by is no age, and
//! after that nothing is older than the time since unless it was before.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

/// A smaller step of the system's clock is made up for; nothing needs to begin anew.
const STEP: Duration = Duration::from_secs(1);

/// Time after a start in which nothing is older than the process. Whoever has an upload or a result
/// tries again every few seconds, and asking for a blob makes it young.
const COMING_BACK: Duration = Duration::from_secs(3600);

/// Follows the system's clock from the start of the process.
#[derive(Debug)]
pub(super) struct Ages {
    started: Instant,
    followed: Mutex<Followed>,
}

#[derive(Clone, Copy, Debug)]
struct Followed {
    /// When the process started, by the system's clock as it was least ahead since `young`.
    started: SystemTime,
    /// Nothing has grown older before this, counted from the start.
    young: Duration,
    /// The last look, counted from the start.
    looked: Duration,
    /// What the system's clock was set forward by, in all.
    stepped: Duration,
}

/// One moment, to tell ages by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    time: SystemTime,
    /// Nothing is older, but for what the clock itself tells beyond its steps.
    at_most: Duration,
    /// The steps of the clock; `None` while it tells nothing, after the start.
    stepped: Option<Duration>,
}

impl Ages {
    pub(super) fn new() -> Self {
        Self::started(SystemTime::now())
    }

    fn started(started: SystemTime) -> Self {
        let followed = Followed {
            started,
            young: Duration::ZERO,
            looked: Duration::ZERO,
            stepped: Duration::ZERO,
        };
        Self {
            started: Instant::now(),
            followed: Mutex::new(followed),
        }
    }

    pub(super) fn now(&self) -> Now {
        self.at(SystemTime::now(), self.started.elapsed())
    }

    /// The moment at which the system's clock shows `wall` and the process has run for `running`.
    pub(super) fn at(&self, wall: SystemTime, running: Duration) -> Now {
        let started = wall.checked_sub(running).unwrap_or(SystemTime::UNIX_EPOCH);
        let mut followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        let ahead = started.duration_since(followed.started);
        if let Ok(step) = ahead
            && step > STEP
        {
            followed.stepped = followed.stepped.saturating_add(step);
            followed.young = followed.looked;
            followed.started = started;
        }
        followed.started = followed.started.min(started);
        followed.looked = running;
        Now {
            time: followed.started + running,
            at_most: running.saturating_sub(followed.young),
            stepped: (running >= COMING_BACK).then_some(followed.stepped),
        }
    }
}

impl Now {
    /// How old is what was changed at `modified`. A time of the future, after the clock was set back,
    /// is no age at all.
    pub(super) fn age(&self, modified: SystemTime) -> Duration {
        let age = self.time.duration_since(modified).unwrap_or_default();
        let beyond_steps = self.stepped.map(|steps| age.saturating_sub(steps));
        // The true age is neither below the one nor below the other.
        age.min(self.at_most).max(beyond_steps.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn nothing_is_older_than_the_process_until_those_who_were_cut_off_could_come_back() {
        let wall = SystemTime::now();
        let ages = Ages::started(wall);
        let old = wall - 1000 * HOUR;
        assert_eq!(ages.at(wall, Duration::ZERO).age(old), Duration::ZERO);
        assert_eq!(ages.at(wall + HOUR / 2, HOUR / 2).age(old), HOUR / 2);
        assert_eq!(ages.at(wall + HOUR, HOUR).age(old), 1001 * HOUR);
        let since = ages.at(wall + 3 * HOUR, 3 * HOUR).age(wall + HOUR);
        assert_eq!(since, 2 * HOUR);
    }

    #[test]
    fn what_a_clock_is_set_forward_by_is_no_age() {
        let wall = SystemTime::now();
        let ages = Ages::started(wall);
        let before = ages.at(wall + 5 * HOUR, 5 * HOUR).age(wall);
        assert_eq!(before, 5 * HOUR);
        // A year in an hour.
        let stepped = wall + 8760 * HOUR;
        let after = ages.at(stepped, 6 * HOUR);
        assert_eq!(after.age(wall), 6 * HOUR);
        assert_eq!(after.age(wall + 4 * HOUR), 2 * HOUR);
        // What comes after the step ages as ever, and so does what was there.
        let later = ages.at(stepped + 3 * HOUR, 9 * HOUR);
        assert_eq!(later.age(stepped + HOUR), 2 * HOUR);
        assert_eq!(later.age(wall), 9 * HOUR);
        // Again and again, and still what is old is old.
        let again = ages.at(stepped + 14 * HOUR, 10 * HOUR);
        assert_eq!(again.age(wall), 10 * HOUR);
        assert_eq!(again.age(stepped + 13 * HOUR), HOUR);
    }

    #[test]
    fn small_steps_do_not_add_up() {
        let wall = SystemTime::now();
        let ages = Ages::started(wall);
        let mut age = Duration::ZERO;
        for hour in 1..=100 {
            let ahead = STEP / 2 * hour;
            age = ages.at(wall + HOUR * hour + ahead, HOUR * hour).age(wall);
            assert!(age <= HOUR * hour, "at hour {hour}");
        }
        assert!(age > Duration::ZERO);
    }

    #[test]
    fn a_clock_that_is_set_back_makes_nothing_older() {
        let wall = SystemTime::now();
        let ages = Ages::started(wall);
        ages.at(wall + 5 * HOUR, 5 * HOUR);
        let back = wall - 100 * HOUR;
        assert_eq!(ages.at(back, 6 * HOUR).age(back - HOUR), HOUR);
        assert_eq!(ages.at(back, 6 * HOUR).age(wall), Duration::ZERO);
    }
}

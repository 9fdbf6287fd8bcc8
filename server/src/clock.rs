//! The server's only source of time, injected so that tests can move it.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

/// A moment in milliseconds since the Unix epoch.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The earliest moment.
    pub const MIN: Self = Self(0);

    /// The moment `millis` milliseconds after the epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to this moment; `None` if that comes later.
    pub fn since(self, earlier: Self) -> Option<Duration> {
        self.0.checked_sub(earlier.0).map(Duration::from_millis)
    }

    /// This moment and `duration` more, at most the last representable one.
    pub fn after(self, duration: Duration) -> Self {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(millis))
    }
}

impl From<Timestamp> for prost_types::Timestamp {
    fn from(time: Timestamp) -> Self {
        Self {
            seconds: i64::try_from(time.0 / 1000).unwrap_or(i64::MAX),
            nanos: i32::try_from(time.0 % 1000).unwrap_or(0) * 1_000_000,
        }
    }
}

/// Tells the time.
pub trait Clock: Send + Sync + 'static {
    /// The present moment; never earlier than an answer already given.
    fn now(&self) -> Timestamp;

    /// The present moment as people know it: what a date that somebody wrote is compared with. It
    /// may jump, in both directions, when the machine's clock is set.
    fn wall(&self) -> Timestamp;
}

/// The machine's clock. [`Clock::now`] has read it once; from then on it advances with the monotonic clock, so that a
/// step of the wall clock neither ends a lease early nor keeps a dead one.
#[derive(Debug)]
pub struct SystemClock {
    origin: Timestamp,
    started: Instant,
}

impl SystemClock {
    /// A clock that starts at the present wall time.
    pub fn new() -> Self {
        Self {
            origin: wall(),
            started: Instant::now(),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        self.origin.after(self.started.elapsed())
    }

    fn wall(&self) -> Timestamp {
        wall()
    }
}

fn wall() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    Timestamp::MIN.after(since_epoch.unwrap_or_default())
}

/// A clock that moves only when told to: for tests of leases and deadlines.
#[derive(Debug)]
pub struct ManualClock {
    now: AtomicU64,
    /// How far the machine's clock was set forward.
    step: AtomicU64,
}

impl ManualClock {
    /// A clock that stands at `now`.
    pub fn new(now: Timestamp) -> Self {
        Self {
            now: AtomicU64::new(now.0),
            step: AtomicU64::new(0),
        }
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        let millis = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.now.fetch_add(millis, Ordering::SeqCst);
    }

    /// Sets the machine's clock forward: no time has passed.
    pub fn step(&self, by: Duration) {
        let millis = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.step.fetch_add(millis, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.now.load(Ordering::SeqCst))
    }

    fn wall(&self) -> Timestamp {
        Timestamp(self.now().0 + self.step.load(Ordering::SeqCst))
    }
}

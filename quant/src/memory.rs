//! How much memory the tasks of one process may hold together. Every task declares what it needs
//! before it allocates; it then waits for its share, or is refused with the figures. Knows nothing
//! of models: [`crate::flow`] makes the estimates.

use std::{
    fmt,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{Error, Result};

/// How often a task that waits for memory looks whether it was cancelled.
const LOOK: Duration = Duration::from_millis(200);

/// A number of bytes, shown to people in MiB, rounded up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MiB", self.0.div_ceil(1 << 20))
    }
}

/// The memory of one process.
#[derive(Debug)]
pub struct MemoryBudget {
    limit: Option<u64>,
    held: Mutex<Held>,
    freed: Condvar,
}

#[derive(Debug, Default)]
struct Held {
    /// What stays while nothing runs: loaded models.
    resident: u64,
    /// What running tasks hold.
    running: u64,
    /// The most that was ever promised at once.
    peak: u64,
}

/// What a reservation is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Resident,
    Running,
}

/// A share of the budget; given back when dropped.
#[derive(Debug)]
#[must_use = "the share is given back when this is dropped"]
pub struct Reservation {
    budget: Arc<MemoryBudget>,
    bytes: u64,
    kind: Kind,
}

impl MemoryBudget {
    /// A budget of `limit` bytes; `None` refuses nothing.
    pub fn new(limit: Option<u64>) -> Arc<Self> {
        Arc::new(Self {
            limit,
            held: Mutex::default(),
            freed: Condvar::new(),
        })
    }

    /// The limit in bytes.
    pub const fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// Whether a task of this size could ever run beside the models that are loaded now.
    pub fn could_hold(&self, bytes: u64) -> bool {
        self.limit
            .is_none_or(|limit| self.lock().resident.saturating_add(bytes) <= limit)
    }

    /// The most that was promised at once so far, in bytes.
    pub fn peak(&self) -> u64 {
        self.lock().peak
    }

    /// A share for something that stays, a loaded model; does not wait. `evict` is asked to give up
    /// idle models first where there is no room.
    ///
    /// # Errors
    /// [`Error::Memory`] with the figures.
    pub fn resident(
        self: &Arc<Self>,
        what: &str,
        bytes: u64,
        evict: impl FnOnce(),
    ) -> Result<Reservation> {
        if !self.fits(&self.lock(), bytes) {
            evict();
        }
        let mut held = self.lock();
        if !self.fits(&held, bytes) {
            return Err(self.refusal(what, bytes, held.resident));
        }
        Ok(self.take(&mut held, Kind::Resident, bytes))
    }

    /// A share for a task's run. Waits while other tasks hold what it needs.
    ///
    /// # Errors
    /// [`Error::Memory`] where it would not fit though nothing else ran, with the figures;
    /// [`Error::Cancelled`].
    pub fn running(
        self: &Arc<Self>,
        what: &str,
        bytes: u64,
        cancelled: impl Fn() -> bool,
    ) -> Result<Reservation> {
        let mut held = self.lock();
        loop {
            if self.fits(&held, bytes) {
                return Ok(self.take(&mut held, Kind::Running, bytes));
            }
            // Nobody who runs would ever give anything back.
            if held.running == 0 {
                return Err(self.refusal(what, bytes, held.resident));
            }
            if cancelled() {
                return Err(Error::Cancelled);
            }
            let (next, _) = self
                .freed
                .wait_timeout(held, LOOK)
                .unwrap_or_else(PoisonError::into_inner);
            held = next;
        }
    }

    fn fits(&self, held: &Held, bytes: u64) -> bool {
        let total = held.resident.saturating_add(held.running);
        self.limit
            .is_none_or(|limit| total.saturating_add(bytes) <= limit)
    }

    fn take(self: &Arc<Self>, held: &mut Held, kind: Kind, bytes: u64) -> Reservation {
        held.add(kind, bytes);
        Reservation {
            budget: Arc::clone(self),
            bytes,
            kind,
        }
    }

    fn refusal(&self, what: &str, needs: u64, resident: u64) -> Error {
        Error::Memory {
            what: what.to_owned(),
            needs: Bytes(needs),
            resident: Bytes(resident),
            limit: Bytes(self.limit.unwrap_or(u64::MAX)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn add(&mut self, kind: Kind, bytes: u64) {
        *self.of(kind) = self.of(kind).saturating_add(bytes);
        self.peak = self.peak.max(self.resident.saturating_add(self.running));
    }

    const fn of(&mut self, kind: Kind) -> &mut u64 {
        match kind {
            Kind::Resident => &mut self.resident,
            Kind::Running => &mut self.running,
        }
    }
}

impl Reservation {
    /// Takes more where there is room now. It never waits: two that each held a share and waited for
    /// more would do so for ever.
    pub(crate) fn grow(&mut self, bytes: u64) -> bool {
        let budget = Arc::clone(&self.budget);
        let mut held = budget.lock();
        let fits = budget.fits(&held, bytes);
        if fits {
            held.add(self.kind, bytes);
            self.bytes = self.bytes.saturating_add(bytes);
        }
        fits
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut held = self.budget.lock();
        let share = held.of(self.kind);
        *share = share.saturating_sub(self.bytes);
        drop(held);
        self.budget.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_task_too_large_is_refused_with_the_figures() {
        let budget = MemoryBudget::new(Some(100 * MIB));
        let _model = budget.resident("model", 60 * MIB, || {}).unwrap();
        let refused = budget.running("observe a.npz", 50 * MIB, || false);
        let text = refused.unwrap_err().to_string();
        for figure in [
            "observe a.npz",
            "50 MiB",
            "60 MiB",
            "100 MiB",
            "--memory-limit",
        ] {
            assert!(text.contains(figure), "{text}");
        }
        assert!(!budget.could_hold(50 * MIB));
        assert!(budget.could_hold(40 * MIB));
    }

    #[test]
    fn a_task_waits_for_another_and_peak_stays_within() {
        let budget = MemoryBudget::new(Some(100));
        let first = budget.running("first", 80, || false).unwrap();
        std::thread::scope(|threads| {
            let second = threads.spawn(|| budget.running("second", 80, || false).map(drop));
            // Whenever the second thread comes to ask, this share is still held or just given back.
            std::thread::yield_now();
            drop(first);
            second.join().unwrap().unwrap();
        });
        assert_eq!(budget.peak(), 80);
    }

    #[test]
    fn a_waiting_task_can_be_cancelled() {
        let budget = MemoryBudget::new(Some(100));
        let _held = budget.running("first", 80, || false).unwrap();
        let asked = AtomicBool::new(false);
        let waited = budget.running("second", 80, || asked.swap(true, Ordering::Relaxed));
        assert!(matches!(waited, Err(Error::Cancelled)));
    }

    #[test]
    fn a_model_takes_the_place_of_an_idle_one() {
        let budget = MemoryBudget::new(Some(100));
        let mut idle = Some(budget.resident("old", 80, || {}).unwrap());
        let new = budget.resident("new", 80, || idle = None);
        assert!(new.is_ok());
        assert!(budget.resident("third", 80, || {}).is_err());
    }

    #[test]
    fn a_share_grows_where_there_is_room_and_is_given_back_whole() {
        let budget = MemoryBudget::new(Some(100));
        let mut first = budget.running("first", 40, || false).unwrap();
        assert!(first.grow(30));
        assert!(!first.grow(31), "it does not wait");
        assert_eq!(budget.peak(), 70);
        drop(first);
        let all = budget.running("all", 100, || false).unwrap();
        drop(all);
    }

    #[test]
    fn without_a_limit_nothing_is_refused() {
        let budget = MemoryBudget::new(None);
        let all = budget.running("all", u64::MAX, || false).unwrap();
        assert!(budget.running("more", u64::MAX, || false).is_ok());
        drop(all);
    }
}

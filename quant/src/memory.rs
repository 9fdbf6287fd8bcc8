//! How much memory the tasks of one process may hold together. Every task declares what it needs
//! before it allocates; it then waits for its share, or is refused with the figures. Knows nothing
//! of models: [`crate::flow`] makes the estimates.

use std::{
    fmt,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};

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

/// Where shares come from: this process alone, or one that lends to several.
pub trait Lender: fmt::Debug + Send + Sync {
    /// Bytes for all borrowers together; `None` = any number.
    fn limit(&self) -> Option<u64>;
    /// What all borrowers hold.
    fn held(&self) -> Held;
    /// Takes a share. Where there is no room now and others run, whose shares come back, it may wait
    /// for about as long as `patience`.
    ///
    /// # Errors
    /// No room: what is held.
    fn take(&self, kind: Kind, bytes: u64, patience: Duration) -> Result<(), Held>;
    /// Takes a share back.
    fn give_back(&self, kind: Kind, bytes: u64);
}

/// What borrowers hold, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Held {
    /// What stays while nothing runs: loaded models.
    pub resident: u64,
    /// What running tasks hold.
    pub running: u64,
}

/// What a share is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Something that stays, a loaded model.
    Resident,
    /// A task's run.
    Running,
}

impl Held {
    /// Whether so many bytes more stay within the limit.
    pub fn leaves(&self, limit: Option<u64>, bytes: u64) -> bool {
        let total = self.resident.saturating_add(self.running);
        limit.is_none_or(|limit| total.saturating_add(bytes) <= limit)
    }

    /// Adds a share.
    pub fn add(&mut self, kind: Kind, bytes: u64) {
        let share = self.of(kind);
        *share = share.saturating_add(bytes);
    }

    /// Takes a share off.
    pub fn sub(&mut self, kind: Kind, bytes: u64) {
        let share = self.of(kind);
        *share = share.saturating_sub(bytes);
    }

    const fn of(&mut self, kind: Kind) -> &mut u64 {
        match kind {
            Kind::Resident => &mut self.resident,
            Kind::Running => &mut self.running,
        }
    }
}

/// The memory that the tasks of one process may hold.
#[derive(Debug)]
pub struct MemoryBudget {
    lender: Arc<dyn Lender>,
}

/// A share of the budget; given back when dropped.
#[derive(Debug)]
#[must_use = "the share is given back when this is dropped"]
pub struct Reservation {
    lender: Arc<dyn Lender>,
    bytes: u64,
    kind: Kind,
}

impl MemoryBudget {
    /// A budget of `limit` bytes for this process; `None` refuses nothing.
    pub fn new(limit: Option<u64>) -> Arc<Self> {
        Self::lent(Arc::new(Purse {
            limit,
            held: Mutex::default(),
            freed: Condvar::new(),
        }))
    }

    /// A budget whose shares come from elsewhere.
    pub fn lent(lender: Arc<dyn Lender>) -> Arc<Self> {
        Arc::new(Self { lender })
    }

    /// The limit in bytes.
    pub fn limit(&self) -> Option<u64> {
        self.lender.limit()
    }

    /// Whether a task of this size could ever run beside the models that are loaded now.
    pub fn could_hold(&self, bytes: u64) -> bool {
        let resident = || self.lender.held().resident;
        self.limit()
            .is_none_or(|limit| resident().saturating_add(bytes) <= limit)
    }

    /// A share for something that stays, a loaded model; does not wait. `evict` is asked to give up
    /// idle models first where there is no room.
    ///
    /// # Errors
    /// [`Error::Memory`] with the figures.
    pub fn resident(&self, what: &str, bytes: u64, evict: impl FnOnce()) -> Result<Reservation> {
        let take = || self.lender.take(Kind::Resident, bytes, Duration::ZERO);
        let taken = take().or_else(|_| {
            evict();
            take()
        });
        match taken {
            Ok(()) => Ok(self.taken(Kind::Resident, bytes)),
            Err(held) => Err(self.refusal(what, bytes, held.resident)),
        }
    }

    /// A share for a task's run. Waits while other tasks hold what it needs.
    ///
    /// # Errors
    /// [`Error::Memory`] where it would not fit though nothing else ran, with the figures;
    /// [`Error::Cancelled`].
    pub fn running(
        &self,
        what: &str,
        bytes: u64,
        cancelled: impl Fn() -> bool,
    ) -> Result<Reservation> {
        loop {
            match self.lender.take(Kind::Running, bytes, LOOK) {
                Ok(()) => return Ok(self.taken(Kind::Running, bytes)),
                // Nobody who runs would ever give anything back.
                Err(held) if held.running == 0 => {
                    return Err(self.refusal(what, bytes, held.resident));
                }
                Err(_) if cancelled() => return Err(Error::Cancelled),
                Err(_) => {}
            }
        }
    }

    fn taken(&self, kind: Kind, bytes: u64) -> Reservation {
        Reservation {
            lender: Arc::clone(&self.lender),
            bytes,
            kind,
        }
    }

    fn refusal(&self, what: &str, needs: u64, resident: u64) -> Error {
        Error::Memory {
            what: what.to_owned(),
            needs: Bytes(needs),
            resident: Bytes(resident),
            limit: Bytes(self.limit().unwrap_or(u64::MAX)),
        }
    }
}

impl Reservation {
    /// Takes more where there is room now. It never waits: two that each held a share and waited for
    /// more would do so for ever.
    pub(crate) fn grow(&mut self, bytes: u64) -> bool {
        let grown = self.lender.take(self.kind, bytes, Duration::ZERO).is_ok();
        if grown {
            self.bytes = self.bytes.saturating_add(bytes);
        }
        grown
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.lender.give_back(self.kind, self.bytes);
    }
}

/// Lends to this process alone.
#[derive(Debug)]
struct Purse {
    limit: Option<u64>,
    held: Mutex<Held>,
    freed: Condvar,
}

impl Purse {
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lender for Purse {
    fn limit(&self) -> Option<u64> {
        self.limit
    }

    fn held(&self) -> Held {
        *self.lock()
    }

    fn take(&self, kind: Kind, bytes: u64, patience: Duration) -> Result<(), Held> {
        let mut held = self.lock();
        if !held.leaves(self.limit, bytes) && held.running > 0 && !patience.is_zero() {
            held = self
                .freed
                .wait_timeout(held, patience)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        if !held.leaves(self.limit, bytes) {
            return Err(*held);
        }
        held.add(kind, bytes);
        Ok(())
    }

    fn give_back(&self, kind: Kind, bytes: u64) {
        self.lock().sub(kind, bytes);
        self.freed.notify_all();
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
    fn a_task_waits_for_another() {
        let budget = MemoryBudget::new(Some(100));
        let first = budget.running("first", 80, || false).unwrap();
        std::thread::scope(|threads| {
            let second = threads.spawn(|| budget.running("second", 80, || false).map(drop));
            // Whenever the second thread comes to ask, this share is still held or just given back.
            std::thread::yield_now();
            assert!(!second.is_finished());
            drop(first);
            second.join().unwrap().unwrap();
        });
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

//! The memory of a worker, lent to the processes of its jobs, and how much the kernel lets each have.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use dual16_quant::memory::{Held, Kind};

/// What a process has beside its tasks: code's data, the allocator's own, and what it keeps of freed
/// memory. It is counted as addressed, not as touched.
const BASE_BYTES: u64 = 64 << 20;

/// Stack of a thread, as addressed.
const STACK_BYTES: u64 = 2 << 20;

/// What every process of a worker has borrowed.
#[derive(Debug)]
pub(crate) struct Shares {
    /// For the tasks of all.
    limit: Option<u64>,
    /// For a whole process, at the most: what was declared for the worker.
    most: Option<u64>,
    base: u64,
    held: Mutex<HashMap<u64, Held>>,
}

impl Shares {
    /// `limit` bytes for the tasks of a worker that may use `most`, by processes of so many threads;
    /// `None` = any number.
    pub(crate) fn new(limit: Option<u64>, most: Option<u64>, threads: u64) -> Self {
        Self {
            limit,
            most,
            base: BASE_BYTES + STACK_BYTES * threads,
            held: Mutex::default(),
        }
    }

    pub(super) fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// What all processes hold.
    pub(super) fn held(&self) -> Held {
        total(self.lock().values())
    }

    /// What one process holds.
    pub(super) fn held_by(&self, process: u64) -> Held {
        self.lock().get(&process).copied().unwrap_or_default()
    }

    /// Lends a share where there is room.
    ///
    /// # Errors
    /// No room: what all hold.
    pub(super) fn take(&self, process: u64, kind: Kind, bytes: u64) -> Result<(), Held> {
        let mut held = self.lock();
        let total = total(held.values());
        if !total.leaves(self.limit, bytes) {
            return Err(total);
        }
        held.entry(process).or_default().add(kind, bytes);
        Ok(())
    }

    pub(super) fn give_back(&self, process: u64, kind: Kind, bytes: u64) {
        if let Some(held) = self.lock().get_mut(&process) {
            held.sub(kind, bytes);
        }
    }

    /// The process is gone, and with it what it held.
    pub(super) fn release(&self, process: u64) {
        self.lock().remove(&process);
    }

    /// What the kernel is to let a process have now: all that no other has borrowed. Not what it has
    /// borrowed itself with a fixed slack: before a model has been run once nobody knows what that
    /// takes, and an estimate that is too small harms nobody where there is room. Never more than
    /// the worker may use.
    pub(super) fn allowance(&self, process: u64) -> Option<u64> {
        let held = self.lock();
        let others = held.iter().filter(|(id, _)| **id != process);
        let others = total(others.map(|(_, held)| held));
        let free = self
            .limit?
            .saturating_sub(others.resident.saturating_add(others.running));
        let bytes = free.saturating_add(self.base);
        Some(self.most.map_or(bytes, |most| bytes.min(most)))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn total<'h>(held: impl Iterator<Item = &'h Held>) -> Held {
    held.fold(Held::default(), |mut total, held| {
        total.add(Kind::Resident, held.resident);
        total.add(Kind::Running, held.running);
        total
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn one_limit_holds_for_all_and_what_a_dead_process_held_is_free() {
        let shares = Shares::new(Some(100), None, 0);
        shares.take(1, Kind::Resident, 40).unwrap();
        shares.take(2, Kind::Running, 50).unwrap();
        let refused = shares.take(2, Kind::Running, 11).unwrap_err();
        assert_eq!((refused.resident, refused.running), (40, 50));
        assert_eq!(shares.held_by(2).running, 50);
        shares.release(1);
        shares.take(2, Kind::Running, 50).unwrap();
        shares.give_back(2, Kind::Running, 100);
        assert_eq!(shares.held(), Held::default());
        // It died meanwhile.
        shares.give_back(1, Kind::Resident, 40);
        assert_eq!(shares.held(), Held::default());
    }

    #[test]
    fn a_process_may_have_what_no_other_has_borrowed_and_never_more_than_the_worker() {
        let shares = Shares::new(Some(448 * MIB), Some(512 * MIB), 2);
        assert_eq!(shares.allowance(1), Some(512 * MIB));
        shares.take(2, Kind::Running, 300 * MIB).unwrap();
        shares.take(1, Kind::Running, 100 * MIB).unwrap();
        assert_eq!(shares.allowance(1), Some((148 + 64 + 4) * MIB));
        assert_eq!(Shares::new(None, None, 2).allowance(1), None);
    }
}

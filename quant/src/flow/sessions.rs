//! The sessions that a worker keeps: loading a model costs more than many a task.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError},
};

use super::{Blobs, Control, JobInput, session::Session};
use crate::{InputLimits, Result, memory::MemoryBudget};

/// Sessions kept: the running job's and the one before, so that two jobs do not evict each other.
const KEPT: usize = 2;

/// One job's place. Tasks of one job wait here for the first of them to load it; other jobs do not.
type Slot = Arc<Mutex<Option<Arc<Session>>>>;

/// What a session depends on: the job, and the limits that its files were held to.
#[derive(Debug, Clone, PartialEq)]
struct Key {
    digest: String,
    limits: InputLimits,
}

impl Key {
    fn of(job: &JobInput) -> Self {
        Self {
            digest: job.digest.clone(),
            limits: job.limits,
        }
    }
}

/// The last sessions, most recent first.
#[derive(Default)]
pub(super) struct Sessions {
    slots: Mutex<VecDeque<(Key, Slot)>>,
}

impl Sessions {
    /// The job's session, loaded now if no task of the job did before.
    pub(super) fn of(
        &self,
        job: &JobInput,
        blobs: &dyn Blobs,
        memory: &Arc<MemoryBudget>,
        control: &dyn Control,
    ) -> Result<Arc<Session>> {
        let slot = self.slot(&Key::of(job));
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = &*slot {
            return Ok(Arc::clone(session));
        }
        let session = Session::open(job, blobs, memory, control, || self.evict_idle(job))?;
        let session = Arc::new(session);
        *slot = Some(Arc::clone(&session));
        Ok(session)
    }

    /// Drops every session but that of `job` that no task uses, to make room.
    pub(super) fn evict_idle(&self, job: &JobInput) {
        let keep = Key::of(job);
        self.lock().retain(|(key, slot)| {
            let in_use = || match slot.try_lock() {
                Ok(held) => held
                    .as_ref()
                    .is_some_and(|session| Arc::strong_count(session) > 1),
                Err(TryLockError::Poisoned(_)) => false,
                // It is being loaded, or handed to a task right now.
                Err(TryLockError::WouldBlock) => true,
            };
            *key == keep || in_use()
        });
    }

    /// Drops every session; one in use is gone once its tasks are.
    pub(super) fn forget(&self) {
        self.lock().clear();
    }

    fn slot(&self, key: &Key) -> Slot {
        let mut slots = self.lock();
        let found = slots.iter().position(|(of, _)| of == key);
        let entry = match found.and_then(|index| slots.remove(index)) {
            Some(entry) => entry,
            None => {
                slots.truncate(KEPT - 1);
                (key.clone(), Slot::default())
            }
        };
        let slot = Arc::clone(&entry.1);
        slots.push_front(entry);
        slot
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(Key, Slot)>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

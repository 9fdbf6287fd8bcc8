//! Changes on their way into the engine: what was committed since the last sync, as one batch.
//!
//! A batch costs the engine about the same whatever is in it (sled writes and waits twice for each),
//! and the header of a busy job is in nearly all of them. So changes are gathered here, seen by every
//! reader, and handed to the engine together, just before the sync that makes them durable. Nobody is
//! told of a change before that, so a crash loses nothing that anyone knows of.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use super::{Batch, Engine, Order, Record, Records, StoreError};

/// An engine, and the changes that it does not have yet.
#[derive(Debug)]
pub(super) struct Staged<E> {
    engine: E,
    layers: RwLock<Layers>,
    /// Held by the one who syncs.
    syncing: Mutex<()>,
}

/// What a reader finds above the engine, the upper layer first.
#[derive(Debug, Default)]
struct Layers {
    /// Takes the changes that come in.
    open: Batch,
    /// Is being handed to the engine, which may have it or not.
    sealed: Arc<Batch>,
}

impl<E> Staged<E> {
    pub(super) fn new(engine: E) -> Self {
        Self {
            engine,
            layers: RwLock::default(),
            syncing: Mutex::default(),
        }
    }

    /// Adds changes: visible at once and together, durable after the next [`Staged::sync`].
    pub(super) fn commit(&self, batch: Batch) {
        self.change_layers().open.append(batch);
    }

    /// Nothing done under the lock can panic half-way, so a poisoned one guards whole layers.
    fn layers(&self) -> RwLockReadGuard<'_, Layers> {
        self.layers.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change_layers(&self) -> RwLockWriteGuard<'_, Layers> {
        self.layers.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<E: Engine> Staged<E> {
    /// Makes everything durable that was committed before the call. After an error that may be so or
    /// not; what was committed stays visible.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        let _one_at_a_time = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        let sealed = {
            let mut layers = self.change_layers();
            let open = std::mem::take(&mut layers.open);
            Arc::make_mut(&mut layers.sealed).append(open);
            Arc::clone(&layers.sealed)
        };
        if !sealed.is_empty() {
            self.engine.commit(&sealed)?;
            // Only now: a reader finds every change in a layer or, after this, in the engine.
            self.change_layers().sealed = Arc::default();
        }
        self.engine.sync()
    }
}

/// Every read sees at least all that was committed before it began, whole batches or, where one is
/// committed meanwhile, perhaps parts of it. Whoever holds the lock of the writers sees exactly that.
impl<E: Engine> Records for Staged<E> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        {
            let layers = self.layers();
            let change = layers.open.change(key);
            if let Some(change) = change.or_else(|| layers.sealed.change(key)) {
                return Ok(change.clone());
            }
        }
        // Without the lock: the engine may keep readers waiting for as long as it writes.
        self.engine.get(key)
    }

    fn scan(
        &self,
        range: Range<Vec<u8>>,
        order: Order,
        limit: usize,
    ) -> Result<Vec<Record>, StoreError> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let changes = self.changes_in(&range);
        if changes.is_empty() {
            return self.engine.scan(range, order, limit);
        }
        // However many of them are removed, the first `limit` of what is left are among these.
        let enough = limit.saturating_add(changes.len());
        let mut records: BTreeMap<_, _> = self
            .engine
            .scan(range, order, enough)?
            .into_iter()
            .collect();
        for (key, change) in changes {
            match change {
                Some(value) => records.insert(key, value),
                None => records.remove(&key),
            };
        }
        let records = records.into_iter();
        Ok(match order {
            Order::Ascending => records.take(limit).collect(),
            Order::Descending => records.rev().take(limit).collect(),
        })
    }
}

impl<E> Staged<E> {
    fn changes_in(&self, range: &Range<Vec<u8>>) -> BTreeMap<Vec<u8>, Option<Vec<u8>>> {
        let layers = self.layers();
        let lower = layers.sealed.changes_in(range);
        let changes = lower.chain(layers.open.changes_in(range));
        changes
            .map(|(key, change)| (key.clone(), change.clone()))
            .collect()
    }
}

#[cfg(test)]
mod tests;

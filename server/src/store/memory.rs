//! The engine without a disk: for tests, and the plainest reading of what an engine must do.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Arc, PoisonError, RwLock},
};

use super::{Batch, Engine, Order, Record, Records, StoreError};

/// Records in memory; clones share them. A batch is applied under one lock, and no code of it can panic half-way, so
/// a poisoned lock guards a whole map all the same.
#[derive(Clone, Debug, Default)]
pub struct MemoryEngine {
    records: Arc<RwLock<BTreeMap<Vec<u8>, Vec<u8>>>>,
}

impl Records for MemoryEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let records = self.records.read().unwrap_or_else(PoisonError::into_inner);
        Ok(records.get(key).cloned())
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
        let records = self.records.read().unwrap_or_else(PoisonError::into_inner);
        let pairs = records
            .range(range)
            .map(|(key, value)| (key.clone(), value.clone()));
        Ok(match order {
            Order::Ascending => pairs.take(limit).collect(),
            Order::Descending => pairs.rev().take(limit).collect(),
        })
    }
}

impl Engine for MemoryEngine {
    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut records = self.records.write().unwrap_or_else(PoisonError::into_inner);
        for (key, value) in batch.changes() {
            match value {
                Some(value) => records.insert(key.to_vec(), value.to_vec()),
                None => records.remove(key),
            };
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

//! What [`super::RecordStore`] needs of a database: ordered keys, atomic batches, a sync.

use std::ops::Range;

use super::StoreError;

/// Largest value a batch may hold.
///
/// sled keeps up to 17 values in a leaf and writes a leaf above a quarter of a segment to a file
/// of its own that it does not sync; [`super::SledEngine`] sizes its segments for this limit.
pub const MAX_RECORD_BYTES: usize = 24 * 1024;

/// A key and its value.
pub type Record = (Vec<u8>, Vec<u8>);

/// An ordered map of small records.
pub trait Engine: Send + Sync + 'static {
    /// The value under `key`.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// At most `limit` records of the range.
    fn scan(
        &self,
        range: Range<Vec<u8>>,
        order: Order,
        limit: usize,
    ) -> Result<Vec<Record>, StoreError>;

    /// Applies all of the batch or nothing, also after a crash.
    fn commit(&self, batch: Batch) -> Result<(), StoreError>;

    /// Makes every committed batch survive kill -9 and loss of power.
    fn sync(&self) -> Result<(), StoreError>;
}

/// Direction of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// From the least key on.
    Ascending,
    /// From the greatest key on.
    Descending,
}

/// Changes to apply together.
#[derive(Debug, Default)]
pub struct Batch {
    changes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Batch {
    /// Sets `key`. `what` names the kind of record in the error when the value is too large.
    pub fn put(
        &mut self,
        what: &'static str,
        key: Vec<u8>,
        value: Vec<u8>,
    ) -> Result<(), StoreError> {
        if value.len() > MAX_RECORD_BYTES {
            let bytes = value.len();
            return Err(StoreError::RecordTooLarge {
                what,
                bytes,
                max: MAX_RECORD_BYTES,
            });
        }
        self.changes.push((key, Some(value)));
        Ok(())
    }

    /// Removes `key`, if it is there.
    pub fn remove(&mut self, key: Vec<u8>) {
        self.changes.push((key, None));
    }

    /// The changes, in order: `None` removes.
    pub fn into_changes(self) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        self.changes
    }
}

//! What [`super::RecordStore`] needs of a database: ordered keys, atomic batches, a sync.

use std::{
    collections::{BTreeMap, btree_map},
    ops::Range,
};

use super::StoreError;

/// Largest value a batch may hold.
///
/// sled keeps up to 17 values in a leaf and writes a leaf above a quarter of a segment to a file
/// of its own that it does not sync; [`super::SledEngine`] sizes its segments for this limit.
pub const MAX_RECORD_BYTES: usize = 24 * 1024;

/// A key and its value.
pub type Record = (Vec<u8>, Vec<u8>);

/// An ordered map of small records, to be read.
pub trait Records {
    /// The value under `key`.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// At most `limit` records of the range.
    fn scan(
        &self,
        range: Range<Vec<u8>>,
        order: Order,
        limit: usize,
    ) -> Result<Vec<Record>, StoreError>;
}

/// Records that outlive the process.
pub trait Engine: Records + Send + Sync + 'static {
    /// Applies all of the batch or nothing, also after a crash.
    fn commit(&self, batch: &Batch) -> Result<(), StoreError>;

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

/// Changes to apply together. Of several changes of one key the last one counts.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    changes: BTreeMap<Vec<u8>, Change>,
}

/// The new value of a key; `None` removes it.
type Change = Option<Vec<u8>>;

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
        self.changes.insert(key, Some(value));
        Ok(())
    }

    /// Removes `key`, if it is there.
    pub fn remove(&mut self, key: Vec<u8>) {
        self.changes.insert(key, None);
    }

    /// The changes by key: `None` removes.
    pub fn changes(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.changes.iter().map(borrowed)
    }

    /// What the batch does to `key`; `None` if nothing.
    pub(super) fn change(&self, key: &[u8]) -> Option<&Change> {
        self.changes.get(key)
    }

    /// The changes of a range that is not empty.
    pub(super) fn changes_in(
        &self,
        range: &Range<Vec<u8>>,
    ) -> btree_map::Range<'_, Vec<u8>, Change> {
        self.changes.range::<Vec<u8>, _>(&range.start..&range.end)
    }

    /// Makes one batch of this and of what is done after it.
    pub(super) fn append(&mut self, mut later: Self) {
        self.changes.append(&mut later.changes);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

fn borrowed<'a>((key, change): (&'a Vec<u8>, &'a Change)) -> (&'a [u8], Option<&'a [u8]>) {
    (key, change.as_deref())
}

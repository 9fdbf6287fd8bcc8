//! When blobs were last used: a record each, whether the blob is there or not.

use super::{Engine, RecordStore, StoreError};
use crate::{
    clock::Timestamp,
    digest::Digest,
    store::{Batch, FRESH_USE, Order, Records, keys, records::reader::corrupt},
};

/// Records that are looked at together.
const PAGE: usize = 1024;

impl<E: Engine> RecordStore<E> {
    pub(crate) fn note_blob_use(&self, blobs: &[Digest], now: Timestamp) -> Result<(), StoreError> {
        self.write_at(now, |writer, now| {
            let mut batch = Batch::default();
            for blob in blobs {
                let used = last_use(writer.reader.records, *blob)?;
                if used.is_none_or(|used| used.after(FRESH_USE) < now) {
                    put(&mut batch, *blob, now)?;
                }
            }
            writer.commit(batch);
            Ok(())
        })
    }

    pub(crate) fn unused_blobs(
        &self,
        blobs: &[Digest],
        since: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<Digest>, StoreError> {
        let mut free = self.unreferenced(blobs)?;
        self.write(|writer| {
            let mut batch = Batch::default();
            let mut old = Vec::new();
            for blob in free.drain(..) {
                match last_use(writer.reader.records, blob)? {
                    Some(used) if used < since => old.push(blob),
                    Some(_) => {}
                    None => {
                        put(&mut batch, blob, now)?;
                        if now < since {
                            old.push(blob);
                        }
                    }
                }
            }
            writer.commit(batch);
            Ok(old)
        })
    }

    /// Whether the blob may go, as [`RecordStore::unused_blobs`] would say.
    pub(crate) fn is_unused(&self, blob: Digest, since: Timestamp) -> Result<bool, StoreError> {
        let free = self.unreferenced(&[blob])?;
        self.read(|reader| {
            let used = last_use(reader.records, blob)?;
            Ok(!free.is_empty() && used.is_some_and(|used| used < since))
        })
    }

    pub(crate) fn forget_use(&self, blob: Digest) -> Result<(), StoreError> {
        self.write(|writer| {
            let mut batch = Batch::default();
            batch.remove(keys::blob_use(blob));
            writer.commit(batch);
            Ok(())
        })
    }

    pub(crate) fn forget_blob_use(&self, before: Timestamp) -> Result<(), StoreError> {
        let mut range = keys::blob_uses();
        loop {
            let page =
                self.read(|reader| reader.records.scan(range.clone(), Order::Ascending, PAGE))?;
            let Some((last, _)) = page.last() else {
                return Ok(());
            };
            range.start.clone_from(last);
            range.start.push(0);
            let mut old = Vec::new();
            for (key, used) in &page {
                let blob = keys::parse_blob_use(key).ok_or_else(|| corrupt("a blob's use"))?;
                if time(used)? < before {
                    old.push(blob);
                }
            }
            let free = self.unreferenced(&old)?;
            self.write(|writer| {
                let mut batch = Batch::default();
                for blob in free {
                    // It may have been used meanwhile.
                    let used = last_use(writer.reader.records, blob)?;
                    if used.is_some_and(|used| used < before) {
                        batch.remove(keys::blob_use(blob));
                    }
                }
                writer.commit(batch);
                Ok(())
            })?;
        }
    }
}

fn put(batch: &mut Batch, blob: Digest, used: Timestamp) -> Result<(), StoreError> {
    let used = used.as_millis().to_be_bytes();
    batch.put("use of a blob", keys::blob_use(blob), used.to_vec())
}

fn last_use(records: &impl Records, blob: Digest) -> Result<Option<Timestamp>, StoreError> {
    let used = records.get(&keys::blob_use(blob))?;
    used.map(|used| time(&used)).transpose()
}

fn time(value: &[u8]) -> Result<Timestamp, StoreError> {
    let millis = value.try_into().map_err(|_| corrupt("a blob's use"))?;
    Ok(Timestamp::from_millis(u64::from_be_bytes(millis)))
}

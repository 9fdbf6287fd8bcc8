//! The embedded default: sled, with the sync that its own `flush` leaves out.

use std::{
    fs::{File, TryLockError},
    ops::Range,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use super::{Batch, Engine, Order, Record, StoreError};

/// A leaf of 17 records of [`super::MAX_RECORD_BYTES`] must stay below a quarter of this.
const SEGMENT_BYTES: usize = 2 * 1024 * 1024;
const CACHE_BYTES: u64 = 64 * 1024 * 1024;

/// How long sled's threads may take to let go of a database that was closed.
const RELEASE_LIMIT: Duration = Duration::from_secs(5);

/// Records in a sled database.
#[derive(Debug)]
pub struct SledEngine {
    db: sled::Db,
    /// The database file a second time: sled's `flush` hands its buffers to the system but does
    /// not wait for the disk, and sled gives no access to its own handle.
    file: File,
}

impl SledEngine {
    /// Opens the database in `directory`, or makes it there. Only one process can have it open.
    /// One that this process has just closed is waited for.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        wait_for_release(&directory.join("db"));
        let db = sled::Config::new()
            .path(directory)
            .segment_size(SEGMENT_BYTES)
            .cache_capacity(CACHE_BYTES)
            // Commits flush; a timer of sled's own would only add writes that nobody waits for.
            .flush_every_ms(None)
            .open()
            .map_err(engine_failed)?;
        let file = File::open(directory.join("db")).map_err(io_failed)?;
        File::open(directory)
            .and_then(|dir| dir.sync_all())
            .map_err(io_failed)?;
        Ok(Self { db, file })
    }
}

/// Dropping a sled database hands its last writes, and with them its file lock, to a thread of
/// sled's own; nothing tells when that is done. Whether it was is for sled's own lock to say.
fn wait_for_release(database: &Path) {
    let deadline = Instant::now() + RELEASE_LIMIT;
    while Instant::now() < deadline {
        let Ok(file) = File::open(database) else {
            return;
        };
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(10)),
            Ok(()) | Err(TryLockError::Error(_)) => return,
        }
    }
}

impl Engine for SledEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self
            .db
            .get(key)
            .map_err(engine_failed)?
            .map(|value| value.to_vec()))
    }

    fn scan(
        &self,
        range: Range<Vec<u8>>,
        order: Order,
        limit: usize,
    ) -> Result<Vec<Record>, StoreError> {
        let mut pairs = self.db.range(range);
        let mut next = || match order {
            Order::Ascending => pairs.next(),
            Order::Descending => pairs.next_back(),
        };
        let mut found = Vec::new();
        while found.len() < limit {
            let Some(pair) = next() else { break };
            let (key, value) = pair.map_err(engine_failed)?;
            found.push((key.to_vec(), value.to_vec()));
        }
        Ok(found)
    }

    fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        let mut writes = sled::Batch::default();
        for (key, value) in batch.into_changes() {
            match value {
                Some(value) => writes.insert(key, value),
                None => writes.remove(key),
            }
        }
        self.db.apply_batch(writes).map_err(engine_failed)
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.db.flush().map_err(engine_failed)?;
        self.file.sync_data().map_err(io_failed)
    }
}

fn engine_failed(error: sled::Error) -> StoreError {
    match error {
        sled::Error::Corruption { .. } => StoreError::Corrupt(error.to_string()),
        error => StoreError::Failed(error.to_string()),
    }
}

fn io_failed(error: std::io::Error) -> StoreError {
    StoreError::Failed(error.to_string())
}

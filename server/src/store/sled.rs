//! The embedded default: sled, with the sync that its own `flush` leaves out.

use std::{
    fmt,
    fs::{self, File, TryLockError},
    io,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use dual16_telemetry::nameless::nameless;

use super::{Batch, Engine, Order, Record, Records, StoreError, commit_count::CommitCount};
use crate::durability::Durability;

/// A leaf of 17 records of [`super::MAX_RECORD_BYTES`] must stay below a quarter of this.
const SEGMENT_BYTES: usize = 2 * 1024 * 1024;
const CACHE_BYTES: u64 = 64 * 1024 * 1024;

/// How long sled's threads may take to let go of a database that was closed.
const RELEASE_LIMIT: Duration = Duration::from_secs(5);

/// Key of the number of commits: of the engine, not of a table.
const COMMITS: &[u8] = b"#commits";

/// Records in a sled database.
#[derive(Debug)]
pub struct SledEngine {
    db: sled::Db,
    /// The database file a second time: sled's `flush` hands its buffers to the system but does
    /// not wait for the disk, and sled gives no access to its own handle.
    file: File,
    /// Commits so far; held while one is made, so that they are counted in their order.
    commits: Mutex<u64>,
    commit_count: CommitCount,
    durability: Durability,
    lost: Option<LostCommits>,
    unknown: Option<UnknownCommits>,
}

/// Nobody knows whether a database has all the commits that were durable once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UnknownCommits(String);

impl fmt::Display for UnknownCommits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "whether commits are lost cannot be told: {}", self.0)
    }
}

/// A database has fewer commits than were durable once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LostCommits {
    pub(crate) found: u64,
    pub(crate) durable: u64,
}

impl fmt::Display for LostCommits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { found, durable } = self;
        write!(
            f,
            "the database ends at commit {found}, but {durable} were made"
        )
    }
}

impl SledEngine {
    /// Opens the database in `directory`, or makes it there. Only one process can have it open.
    /// One that this process has just closed is waited for.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if it cannot be read, or has lost commits that were durable.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let durable = CommitCount::read(directory).map_err(unreadable);
        let engine = Self::open_any(directory, durable.map_err(StoreError::Corrupt)?)?;
        match engine.lost {
            None => Ok(engine),
            Some(lost) => Err(StoreError::Corrupt(lost.to_string())),
        }
    }

    /// The same, waiting for the disk as `durability` says.
    pub(crate) fn with_durability(self, durability: Durability) -> Self {
        Self { durability, ..self }
    }

    /// Opens what is left of a damaged database.
    pub(crate) fn open_damaged(directory: &Path) -> Result<Self, StoreError> {
        let (durable, unknown) = match CommitCount::read(directory) {
            Ok(durable) => (durable, None),
            Err(error) => (None, Some(UnknownCommits(unreadable(error)))),
        };
        let engine = Self::open_any(directory, durable)?;
        Ok(Self { unknown, ..engine })
    }

    /// What a damaged database has lost.
    pub(crate) fn lost_commits(&self) -> Option<LostCommits> {
        self.lost
    }

    /// Why it is unknown what a damaged database has lost.
    pub(crate) fn unknown_commits(&self) -> Option<&UnknownCommits> {
        self.unknown.as_ref()
    }

    fn open_any(directory: &Path, durable: Option<u64>) -> Result<Self, StoreError> {
        Self::wait_for_release(directory);
        remove_unfinished_snapshots(directory).map_err(io_failed)?;
        // Damage can make sled panic as well.
        let opened = catch_unwind(AssertUnwindSafe(|| {
            sled::Config::new()
                .path(directory)
                .segment_size(SEGMENT_BYTES)
                .cache_capacity(CACHE_BYTES)
                // Commits flush; a timer of sled's own would only add writes that nobody waits for.
                .flush_every_ms(None)
                .open()
        }));
        let unreadable_log = |_| StoreError::Corrupt("the database cannot be read".into());
        let db = opened.map_err(unreadable_log)?.map_err(open_failed)?;
        let commits = db.get(COMMITS).map_err(engine_failed)?;
        let commits = commits.map_or(Some(0), |count| {
            Some(u64::from_be_bytes((*count).try_into().ok()?))
        });
        let commits = commits
            .ok_or_else(|| StoreError::Corrupt("the number of commits cannot be read".into()))?;
        let lost = durable.filter(|durable| commits < *durable);
        let lost = lost.map(|durable| LostCommits {
            found: commits,
            durable,
        });
        let file = File::open(directory.join("db")).map_err(io_failed)?;
        // What was found may be in the system's cache only; from here on it counts as durable.
        file.sync_all().map_err(io_failed)?;
        let commit_count =
            CommitCount::open(directory, commits.max(durable.unwrap_or(0))).map_err(io_failed)?;
        File::open(directory)
            .and_then(|dir| dir.sync_all())
            .map_err(io_failed)?;
        Ok(Self {
            db,
            file,
            commits: Mutex::new(commits),
            commit_count,
            durability: Durability::default(),
            lost,
            unknown: None,
        })
    }

    /// Waits until a database that this process has closed is let go of.
    pub(crate) fn wait_for_release(directory: &Path) {
        wait_for_release(&directory.join("db"));
    }
}

/// sled writes a snapshot of its page table under another name, then renames it; but when it looks for
/// the newest one, it takes one that a crash left unfinished for a snapshot too, and finds it damaged.
/// Nothing is lost without it: the one before goes only after the rename.
fn remove_unfinished_snapshots(directory: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            fs::remove_file(entry.path())?;
            tracing::info!(file = %name, "removed what a crash left of a snapshot");
        }
    }
    Ok(())
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

impl Records for SledEngine {
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
}

impl Engine for SledEngine {
    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut writes = sled::Batch::default();
        for (key, value) in batch.changes() {
            match value {
                Some(value) => writes.insert(key, value),
                None => writes.remove(key),
            }
        }
        let mut commits = self.commits.lock().unwrap_or_else(PoisonError::into_inner);
        writes.insert(COMMITS, &(*commits + 1).to_be_bytes());
        self.db.apply_batch(writes).map_err(engine_failed)?;
        *commits += 1;
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        // Read before: what comes meanwhile may be durable as well, or not.
        let commits = *self.commits.lock().unwrap_or_else(PoisonError::into_inner);
        self.db.flush().map_err(engine_failed)?;
        if self.durability.waits() {
            self.file.sync_data().map_err(io_failed)?;
        }
        self.commit_count.record(commits).map_err(io_failed)
    }
}

fn engine_failed(error: sled::Error) -> StoreError {
    match error {
        sled::Error::Corruption { .. } => StoreError::Corrupt(error.to_string()),
        sled::Error::Io(error) => io_failed(error),
        error => StoreError::Failed(error.to_string()),
    }
}

/// While it is opened, every complaint of sled but one of the system is about what it reads.
fn open_failed(error: sled::Error) -> StoreError {
    match error {
        sled::Error::Io(error) => io_failed(error),
        error => StoreError::Corrupt(error.to_string()),
    }
}

/// Why the count of commits cannot be read: what it says of itself has no path in it.
fn unreadable(error: io::Error) -> String {
    match error.raw_os_error() {
        Some(_) => format!(
            "the file beside the database that counts commits: {}",
            nameless(error)
        ),
        None => error.to_string(),
    }
}

/// sled puts the database's path into some errors.
fn io_failed(error: io::Error) -> StoreError {
    StoreError::Failed(nameless(error).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store_one(directory: &Path) {
        let engine = SledEngine::open(directory).unwrap();
        let mut batch = Batch::default();
        batch
            .put("test", b"key".to_vec(), b"value".to_vec())
            .unwrap();
        engine.commit(&batch).unwrap();
        engine.sync().unwrap();
    }

    #[test]
    fn a_snapshot_that_a_crash_left_unfinished_does_no_harm() {
        let directory = tempfile::tempdir().unwrap();
        store_one(directory.path());
        SledEngine::wait_for_release(directory.path());
        let unfinished = directory.path().join("snap.FFFFFFFFFFFFFFFF.generating");
        fs::write(&unfinished, b"half of a snapshot").unwrap();
        let engine = SledEngine::open(directory.path()).unwrap();
        assert_eq!(engine.get(b"key").unwrap(), Some(b"value".to_vec()));
        assert!(!unfinished.exists());
    }
}

//! Blobs on the local disk: content-addressed, least recently used first out, pinned while a task
//! reads them. Knows no network, and does not decide what to fetch.
//!
//! Nothing here is believed: a blob is hashed whenever a task opens it, and when the task ends its file
//! must be as it was then ([`Pinned::changed`]). So neither a crash nor a bad disk nor another hand can
//! feed a task wrong bytes, and in return nothing here has to be fsynced. (Sealed copies in memory would
//! hold each model twice; SHA-256 passes 1 to 2 GB/s where the CPU has instructions for it.)

use std::{
    collections::HashMap,
    fs::{self, File, Metadata, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use tempfile::{NamedTempFile, TempPath};

use dual16_telemetry::nameless::nameless;

use crate::digest::Digest;

/// The cache. One process at a time, by a lock on the folder.
#[derive(Debug)]
pub(crate) struct BlobCache {
    blobs: PathBuf,
    temp: PathBuf,
    limit: u64,
    state: Mutex<State>,
    /// Held for as long as the cache lives.
    _lock: File,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<Digest, Entry>,
    /// How many read each blob. Apart from the entries: one that is damaged can go and come again
    /// while it is read.
    pins: HashMap<Digest, usize>,
    bytes: u64,
    /// Counts uses; an entry's stamp tells which of two was used last.
    uses: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    size: u64,
    /// Stamp of when it came in.
    since: u64,
    last_use: u64,
}

/// What looking for a blob found.
#[derive(Debug)]
pub(crate) enum Found {
    Here(Pinned),
    Nothing,
    /// It was here, and is not what came in.
    Damaged,
}

/// A blob that stays on the disk until this is dropped.
#[derive(Debug)]
pub(crate) struct Pinned {
    cache: Arc<BlobCache>,
    digest: Digest,
    path: PathBuf,
    version: Version,
}

impl Pinned {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Whether the file is another than the one whose digest was right, or was written to since.
    pub(crate) fn changed(&self) -> bool {
        Version::of_file(&self.path).is_none_or(|now| now != self.version)
    }
}

/// What of a file changes whenever somebody writes to it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Version {
    size: u64,
    modified: Option<SystemTime>,
    /// The file's number and when anything of it changed; the system's own, so that nobody sets it back.
    inode: Option<(u64, i64, i64)>,
}

impl Version {
    fn of(meta: &Metadata) -> Self {
        #[cfg(unix)]
        let inode = {
            use std::os::unix::fs::MetadataExt as _;
            Some((meta.ino(), meta.ctime(), meta.ctime_nsec()))
        };
        #[cfg(not(unix))]
        let inode = None;
        Self {
            size: meta.len(),
            modified: meta.modified().ok(),
            inode,
        }
    }

    fn of_file(path: &Path) -> Option<Self> {
        fs::metadata(path).ok().map(|meta| Self::of(&meta))
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.cache.unpin(&self.digest);
    }
}

impl BlobCache {
    /// Opens or makes the cache in `dir` and keeps it under `limit` bytes, blobs in use aside.
    pub(crate) fn open(dir: &Path, limit: u64) -> io::Result<Arc<Self>> {
        let (blobs, temp) = (dir.join("blobs"), dir.join("tmp"));
        fs::create_dir_all(&blobs)?;
        let lock = File::create(dir.join("lock"))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => io::Error::new(
                io::ErrorKind::ResourceBusy,
                "another running worker uses this folder; give each its own",
            ),
            TryLockError::Error(error) => error,
        })?;
        // Whatever a killed process was writing.
        if temp.exists() {
            fs::remove_dir_all(&temp)?;
        }
        fs::create_dir(&temp)?;
        let state = State::scan(&blobs)?;
        let cache = Self {
            blobs,
            temp,
            limit,
            state: Mutex::new(state),
            _lock: lock,
        };
        cache.evict(&mut cache.state());
        Ok(Arc::new(cache))
    }

    /// A file to write a blob into, to be handed to [`insert`](Self::insert).
    pub(crate) fn temp_file(&self) -> io::Result<NamedTempFile> {
        NamedTempFile::new_in(&self.temp).map_err(nameless)
    }

    /// A folder for files that a restart clears away, as an absolute path.
    pub(crate) fn temp_folder(&self) -> io::Result<PathBuf> {
        std::path::absolute(&self.temp)
    }

    /// The blob, if it is here. Reads it all; one that is damaged goes.
    pub(crate) fn pin(self: &Arc<Self>, digest: &Digest) -> io::Result<Found> {
        let path = self.path(digest);
        let entry = self.state().entries.get(digest).copied();
        let Some(Entry { size, since, .. }) = entry else {
            return Ok(Found::Nothing);
        };
        // Without the lock: hashing takes a while, and others have blobs of their own to use.
        let version = Version::of_file(&path);
        let intact = Digest::of_file(&path).is_ok_and(|found| found == (*digest, size));
        let Some(version) = version.filter(|_| intact) else {
            tracing::warn!(%digest, "cached blob is damaged or gone; fetching it again");
            return self.forget(digest, since).map(|()| Found::Damaged);
        };
        let mut state = self.state();
        let stamp = state.stamp();
        // Evicted while it was being hashed?
        let Some(entry) = state.entries.get_mut(digest) else {
            return Ok(Found::Nothing);
        };
        entry.last_use = stamp;
        state.pin(*digest);
        Ok(Found::Here(Pinned {
            cache: Arc::clone(self),
            digest: *digest,
            path,
            version,
        }))
    }

    /// Takes in a file written in full, whose bytes the caller has hashed, and pins it. Where the blob is
    /// here already, and sound, that one stays: others may be reading it.
    pub(crate) fn insert(
        self: &Arc<Self>,
        digest: &Digest,
        file: TempPath,
        size: u64,
    ) -> io::Result<Pinned> {
        if let Found::Here(pinned) = self.pin(digest)? {
            return Ok(pinned);
        }
        let path = self.path(digest);
        let mut state = self.state();
        file.persist(&path).map_err(|error| error.error)?;
        let version = Version::of(&fs::metadata(&path)?);
        let stamp = state.stamp();
        state.remove(digest);
        state.bytes += size;
        let entry = Entry {
            size,
            since: stamp,
            last_use: stamp,
        };
        state.entries.insert(*digest, entry);
        state.pin(*digest);
        self.evict(&mut state);
        Ok(Pinned {
            cache: Arc::clone(self),
            digest: *digest,
            path,
            version,
        })
    }

    /// Size of all blobs that are here, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.state().bytes
    }

    fn unpin(&self, digest: &Digest) {
        let mut state = self.state();
        state.unpin(digest);
        self.evict(&mut state);
    }

    /// Removes a damaged blob, unless another has come in its place since it was looked at. All under
    /// the lock, so that none can in between.
    fn forget(&self, digest: &Digest, since: u64) -> io::Result<()> {
        let mut state = self.state();
        let there = state.entries.get(digest);
        if there.is_none_or(|entry| entry.since != since) {
            return Ok(());
        }
        state.remove(digest);
        match fs::remove_file(self.path(digest)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Drops the least recently used blobs that nobody reads, until the rest is within the limit.
    fn evict(&self, state: &mut State) {
        self.shrink(state, self.limit);
    }

    /// Drops all blobs that nobody reads, for the disk is full: a cache must not keep it so. Returns
    /// how many bytes that freed.
    pub(crate) fn make_room(&self) -> u64 {
        let mut state = self.state();
        let before = state.bytes;
        self.shrink(&mut state, 0);
        before - state.bytes
    }

    fn shrink(&self, state: &mut State, limit: u64) {
        while state.bytes > limit {
            let oldest = state
                .entries
                .iter()
                .filter(|(digest, _)| !state.pins.contains_key(digest))
                .min_by_key(|(_, entry)| entry.last_use)
                .map(|(digest, _)| *digest);
            let Some(digest) = oldest else { return };
            state.remove(&digest);
            if let Err(error) = fs::remove_file(self.path(&digest)) {
                tracing::warn!(%digest, %error, "cannot remove a cached blob");
            }
        }
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.blobs.join(digest.hex())
    }

    /// Every change to the state is complete before anything in it could panic, so a poisoned lock
    /// guards sound data.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What an earlier process left, oldest file first.
    fn scan(blobs: &Path) -> io::Result<Self> {
        let mut found = Vec::new();
        for file in fs::read_dir(blobs)? {
            let file = file?;
            let name = file.file_name();
            // Not ours: left alone.
            let Some(Ok(digest)) = name.to_str().map(Digest::from_hex) else {
                continue;
            };
            let meta = file.metadata()?;
            found.push((meta.modified()?, digest, meta.len()));
        }
        found.sort_by_key(|(modified, ..)| *modified);
        let mut state = Self::default();
        for (_, digest, size) in found {
            let last_use = state.stamp();
            state.bytes += size;
            state.entries.insert(
                digest,
                Entry {
                    size,
                    since: last_use,
                    last_use,
                },
            );
        }
        Ok(state)
    }

    fn stamp(&mut self) -> u64 {
        self.uses += 1;
        self.uses
    }

    fn pin(&mut self, digest: Digest) {
        *self.pins.entry(digest).or_default() += 1;
    }

    fn unpin(&mut self, digest: &Digest) {
        if let Some(pins) = self.pins.get_mut(digest) {
            *pins -= 1;
            if *pins == 0 {
                self.pins.remove(digest);
            }
        }
    }

    fn remove(&mut self, digest: &Digest) -> Option<Entry> {
        let entry = self.entries.remove(digest)?;
        self.bytes -= entry.size;
        Some(entry)
    }
}

#[cfg(test)]
mod tests;

//! The data directory: `lock`, `store/` and `blobs/`, for one server at a time.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::StartError;
use crate::{
    blob::{BlobStore, LocalBlobs},
    clock::Timestamp,
    store::{RecordStore, SledEngine, Store, StoreConfig},
};

pub(super) struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Makes the directory if it is not there, and takes it for this server. The system lets go
    /// of the lock when the process dies, however it dies.
    pub(super) fn lock(path: PathBuf) -> Result<Self, StartError> {
        let unusable = |source| StartError::DataDir {
            path: path.clone(),
            source,
        };
        fs::create_dir_all(&path).map_err(unusable)?;
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path.join("lock"))
            .map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(StartError::InUse { path }),
            Err(TryLockError::Error(source)) => Err(StartError::DataDir { path, source }),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn open_store(
        &self,
        config: StoreConfig,
        now: Timestamp,
        grace: Duration,
    ) -> Result<Arc<dyn Store>, StartError> {
        let path = self.path.join("store");
        let open = SledEngine::open(&path)
            .and_then(|engine| RecordStore::open(engine, config, now, grace));
        match open {
            Ok(store) => Ok(Arc::new(store)),
            Err(source) => Err(StartError::Store { path, source }),
        }
    }

    pub(super) fn open_blobs(&self) -> Result<Arc<dyn BlobStore>, StartError> {
        let path = self.path.join("blobs");
        match LocalBlobs::open(&path) {
            Ok(blobs) => Ok(Arc::new(blobs)),
            Err(source) => Err(StartError::DataDir { path, source }),
        }
    }
}

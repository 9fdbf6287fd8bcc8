//! The data directory: `lock`, `store/` and `blobs/`, for one server at a time.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::StartError;
use crate::{
    blob::LocalBlobs,
    clock::Timestamp,
    store::{RecordStore, SledEngine, Store, StoreConfig, StoreError},
};

pub(crate) struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Makes the directory if it is not there, and takes it for this server. The system lets go
    /// of the lock when the process dies, however it dies.
    pub(crate) fn lock(path: PathBuf) -> Result<Self, StartError> {
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

    /// As [`DataDir::lock`], for one that must be there.
    pub(crate) fn existing(path: PathBuf) -> Result<Self, StartError> {
        match fs::metadata(path.join("store")) {
            Ok(_) => Self::lock(path),
            Err(source) => Err(StartError::DataDir { path, source }),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn open_store(
        &self,
        config: StoreConfig,
        now: Timestamp,
        grace: Duration,
        blobs: &LocalBlobs,
    ) -> Result<Arc<dyn Store>, StartError> {
        let path = self.path.join("store");
        let open = SledEngine::open(&path)
            .and_then(|engine| RecordStore::open(engine, config, now, grace))
            .and_then(
                |store| match store.missing_blob(|digest| blobs.stored_size(digest))? {
                    None => Ok(store),
                    Some((job, blob)) => Err(StoreError::Corrupt(format!(
                        "{job} needs {blob}, which is missing or has another size"
                    ))),
                },
            );
        match open {
            Ok(store) => Ok(Arc::new(store)),
            Err(source) => Err(StartError::Store { path, source }),
        }
    }

    pub(crate) fn open_blobs(&self) -> Result<LocalBlobs, StartError> {
        let path = self.path.join("blobs");
        LocalBlobs::open(&path).map_err(|source| StartError::DataDir { path, source })
    }
}

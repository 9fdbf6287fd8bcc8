//! The data directory: `lock`, `store/` and `blobs/`, for one server at a time.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
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
        if !path.is_dir() {
            fs::create_dir_all(&path).map_err(unusable)?;
            sync_parent(&path).map_err(unusable)?;
        }
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
        let unusable = |source| StartError::DataDir {
            path: self.path.clone(),
            source,
        };
        let fresh = !path.is_dir();
        if fresh && let Some(rest) = self.rest_of_a_store(blobs).map_err(unusable)? {
            let path = self.path.clone();
            return Err(StartError::StoreGone { path, rest });
        }
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
        let store = open.map_err(|source| StartError::Store { path, source })?;
        // What was made in it, `store` and `blobs`, must be there after a loss of power.
        let entries = File::open(&self.path).and_then(|dir| dir.sync_all());
        entries.map_err(unusable)?;
        Ok(Arc::new(store))
    }

    /// What says that there was a store here once. An empty one in its place would serve as if no job
    /// had ever been, and collect the blobs of all.
    fn rest_of_a_store(&self, blobs: &LocalBlobs) -> io::Result<Option<String>> {
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name.starts_with("store.") {
                return Ok(Some(name));
            }
        }
        Ok(blobs.any()?.then(|| "blobs".to_owned()))
    }

    pub(crate) fn open_blobs(&self) -> Result<LocalBlobs, StartError> {
        let path = self.path.join("blobs");
        LocalBlobs::open(&path).map_err(|source| StartError::DataDir { path, source })
    }
}

/// Makes the name of `path` durable, where its parent can be read.
fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    match File::open(parent.unwrap_or(Path::new("."))) {
        Ok(parent) => parent.sync_all(),
        // Somebody else's, who has made a name in it for us.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        Err(error) => Err(error),
    }
}

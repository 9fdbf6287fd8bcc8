//! The data directory: `lock`, `store/` and `blobs/`, for one server at a time.

use std::{
    fs::{self, File, OpenOptions, Permissions, TryLockError},
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::StartError;
use crate::{
    blob::LocalBlobs,
    clock::Timestamp,
    disk::Disk,
    durability::Durability,
    store::{Embedded, RecordStore, SledEngine, Store, StoreConfig, StoreError},
};

pub(crate) struct DataDir {
    path: PathBuf,
    disk: Disk,
    durability: Durability,
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
        close_to_others(&path);
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path.join("lock"))
            .map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {
                let disk = Disk::new(&path);
                Ok(Self {
                    path,
                    disk,
                    durability: Durability::default(),
                    _lock: lock,
                })
            }
            Err(TryLockError::WouldBlock) => Err(StartError::InUse { path }),
            Err(TryLockError::Error(source)) => Err(StartError::DataDir { path, source }),
        }
    }

    /// As [`DataDir::lock`], for one that must be there.
    pub(crate) fn existing(path: PathBuf) -> Result<Self, StartError> {
        let store = path.join("store");
        let rest = |path: &Path| match Rest::of(path) {
            Ok(None) if path.join("blobs").is_dir() => Ok(Some(Rest::blobs())),
            rest => rest,
        };
        // Nothing is made in a directory that never had a store.
        if let Err(source) = fs::metadata(&store)
            && !rest(&path).is_ok_and(|rest| rest.is_some())
        {
            return Err(StartError::DataDir { path, source });
        }
        // Under the lock: a repair may be about to put it there.
        let data = Self::lock(path)?;
        if store.exists() {
            return Ok(data);
        }
        let path = data.path;
        match rest(&path) {
            Ok(rest) => Err(rest.unwrap_or_else(Rest::blobs).into_error(path)),
            Err(source) => Err(StartError::DataDir { path, source }),
        }
    }

    /// What is opened in it from here on waits for the disk as this says.
    pub(crate) fn with_durability(self, durability: Durability) -> Self {
        Self { durability, ..self }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Bytes that blobs may have where nobody says otherwise.
    pub(crate) fn share_of_blobs(&self) -> Result<u64, StartError> {
        let share = self.disk.share_of_blobs();
        share.map_err(|source| StartError::DataDir {
            path: self.path.clone(),
            source,
        })
    }

    pub(crate) fn open_store(
        &self,
        config: StoreConfig,
        now: Timestamp,
        grace: Duration,
        blobs: Option<&LocalBlobs>,
    ) -> Result<Arc<dyn Store>, StartError> {
        let path = self.path.join("store");
        let unusable = |source| StartError::DataDir {
            path: self.path.clone(),
            source,
        };
        let fresh = !path.is_dir();
        if fresh {
            let rest = match Rest::of(&self.path).map_err(unusable)? {
                None if blobs.map_or(Ok(false), LocalBlobs::any).map_err(unusable)? => {
                    Some(Rest::blobs())
                }
                rest => rest,
            };
            if let Some(rest) = rest {
                return Err(rest.into_error(self.path.clone()));
            }
        }
        // A full disk has room for the store from here on.
        if let Err(error) = self.disk.balance() {
            tracing::warn!(%error, "the disk's reserve was not looked after");
        }
        let open = SledEngine::open(&path)
            .map(|engine| engine.with_durability(self.durability.clone()))
            .and_then(|engine| RecordStore::open(engine, config, now, grace))
            .and_then(|store| {
                // Elsewhere a request for each would keep the start waiting, and tells no more than the next
                // download does.
                let missing = match blobs {
                    Some(blobs) => store.missing_blob(|digest| blobs.stored_size(digest))?,
                    None => None,
                };
                match missing {
                    None => Ok(store),
                    Some((job, blob)) => Err(StoreError::Corrupt(format!(
                        "{job} needs {blob}, which is missing or has another size"
                    ))),
                }
            });
        let store = open.map_err(|source| StartError::Store { path, source })?;
        // What was made in it, `store` and `blobs`, must be there after a loss of power.
        let entries = File::open(&self.path).and_then(|dir| dir.sync_all());
        entries.map_err(unusable)?;
        Ok(Arc::new(Embedded::new(store)))
    }

    pub(crate) fn open_blobs(&self) -> Result<LocalBlobs, StartError> {
        self.blobs_in(&self.path.join("blobs"))
    }

    /// Blobs in a directory that this one is for alone.
    pub(super) fn blobs_here(&self) -> Result<LocalBlobs, StartError> {
        self.blobs_in(&self.path)
    }

    fn blobs_in(&self, path: &Path) -> Result<LocalBlobs, StartError> {
        let opened = LocalBlobs::open_with(path, self.durability.clone());
        opened.map_err(|source| StartError::DataDir {
            path: path.to_owned(),
            source,
        })
    }
}

/// What says that there was a store here once. An empty one in its place would serve as if no job had
/// ever been, and collect the blobs of all.
struct Rest {
    name: String,
    remedy: String,
}

impl Rest {
    /// What is left beside the place of a store.
    fn of(directory: &Path) -> io::Result<Option<Self>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(directory)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name.starts_with("store.") {
                names.push(name);
            }
        }
        let new = names.iter().find(|name| *name == "store.new");
        let damaged = names
            .iter()
            .filter(|name| name.starts_with("store.damaged-"));
        let (name, remedy) = match (new, damaged.max(), names.first()) {
            // A repair sets the old one aside when the new one is whole.
            (Some(new), Some(_), _) => {
                let remedy =
                    "a repair was interrupted at its end; rename \"store.new\" to \"store\"";
                (new, remedy.to_owned())
            }
            (None, Some(damaged), _) => {
                let remedy = format!(
                    "somebody took it away; put it back, or rename \"{damaged}\", which is from before a \
                     repair, to \"store\" and repair again"
                );
                (damaged, remedy)
            }
            (Some(new), None, _) => {
                let remedy =
                    "an import was interrupted; empty the directory first, then import again";
                (new, remedy.to_owned())
            }
            (None, None, Some(other)) => (other, TAKEN_AWAY.to_owned()),
            (None, None, None) => return Ok(None),
        };
        let name = name.clone();
        Ok(Some(Self { name, remedy }))
    }

    /// Blobs, and nothing else.
    fn blobs() -> Self {
        Self {
            name: "blobs".to_owned(),
            remedy: TAKEN_AWAY.to_owned(),
        }
    }

    fn into_error(self, path: PathBuf) -> StartError {
        let Self { name: rest, remedy } = self;
        StartError::StoreGone { path, rest, remedy }
    }
}

const TAKEN_AWAY: &str = "somebody took it away; put it back, or use an empty --data";

/// What is in the directory is for the server alone, who made it whenever. Where it is another's, as the root of
/// a mounted volume is, that is for whoever mounts it.
fn close_to_others(path: &Path) {
    const OTHERS: u32 = 0o077;
    let closed = fs::metadata(path).and_then(|found| {
        let mode = found.permissions().mode();
        match mode & OTHERS {
            0 => Ok(()),
            _ => fs::set_permissions(path, Permissions::from_mode(mode & !OTHERS)),
        }
    });
    if let Err(error) = closed {
        tracing::warn!(path = %path.display(), %error, "others may read the data directory");
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

//! Blobs as local files: `sha256/ab/cdef…`, and `uploads/….part` while they come in.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use dual16_rpc::blob::WriteBehind;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tonic::async_trait;

use super::{
    BlobError, BlobReader, BlobStore, Scrubbed, Swept, Upload, Uses, age::Ages, checked::Checked,
    gc::is_shard, part::Part, pieces::Pieces, turns::Turns,
};
use crate::{
    digest::Digest,
    durability::Durability,
    permits::{self, kept},
};

/// Blobs in a directory of their own.
#[derive(Clone, Debug)]
pub struct LocalBlobs {
    layout: Arc<Layout>,
    turns: Turns,
}

/// Folders that blobs lie in, one for each first byte of a digest.
const SHARDS: usize = 256;

/// Where the files lie.
#[derive(Debug)]
pub(super) struct Layout {
    root: PathBuf,
    /// Held while the age of a blob decides, or changes, and while a blob comes to be: one lock for each
    /// folder, since to come to be takes a sync of it, and the others need not wait for that.
    exclusion: [Mutex<()>; SHARDS],
    pub(super) ages: Ages,
    pub(super) durability: Durability,
    /// Bytes of all blobs that came to be since the start.
    pub(super) published: AtomicU64,
    /// Blobs that were damaged and set aside since the start.
    pub(super) found_damaged: AtomicU64,
}

impl Layout {
    pub(super) fn blob(&self, digest: Digest) -> PathBuf {
        let hex = digest.hex();
        let (shard, name) = hex.split_at(2);
        self.root.join("sha256").join(shard).join(name)
    }

    pub(super) fn shards(&self) -> PathBuf {
        self.root.join("sha256")
    }

    pub(super) fn uploads(&self) -> PathBuf {
        self.root.join("uploads")
    }

    pub(super) fn damaged(&self) -> PathBuf {
        self.root.join("damaged")
    }

    pub(super) fn part(&self, digest: Digest) -> PathBuf {
        self.root
            .join("uploads")
            .join(format!("{}.part", digest.hex()))
    }

    /// Gives a part that is whole, checked and synced its name as a blob. `sync` makes the names in
    /// a folder durable. Nobody who asks for the blob to rely on it finds it before that is done, for
    /// else a job could outlive a loss of power that its file does not.
    pub(super) fn publish(
        &self,
        part: &Path,
        digest: Digest,
        sync: impl Fn(&Path) -> io::Result<()>,
    ) -> io::Result<()> {
        let blob = self.blob(digest);
        let shards = self.shards();
        let shard = blob.parent().unwrap_or(&shards);
        let bytes = fs::metadata(part)?.len();
        let _publishing = self.exclude(digest);
        match fs::create_dir(shard) {
            // Those that were there at the start were synced then.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
            Ok(()) => {
                if let Err(error) = sync(&shards) {
                    // For the next one to try again.
                    let _ = fs::remove_dir(shard);
                    return Err(error);
                }
            }
        }
        fs::rename(part, &blob)?;
        if let Err(error) = sync(shard) {
            // As if it had not been. Should this fail too, the next start syncs what it finds.
            let _ = fs::rename(&blob, part);
            return Err(error);
        }
        self.published.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Keeps all others from what decides over this blob and those in the same folder.
    pub(super) fn exclude(&self, digest: Digest) -> MutexGuard<'_, ()> {
        let [shard, ..] = *digest.as_bytes();
        self.exclusion[usize::from(shard)]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn size(&self, digest: Digest) -> io::Result<Option<u64>> {
        file_size(&self.blob(digest))
    }
}

impl LocalBlobs {
    /// Opens the directory, or makes it.
    pub fn open(root: &Path) -> io::Result<Self> {
        Self::open_with(root, Durability::default())
    }

    /// The same, waiting for the disk as `durability` says.
    pub(crate) fn open_with(root: &Path, durability: Durability) -> io::Result<Self> {
        fs::create_dir_all(root.join("sha256"))?;
        fs::create_dir_all(root.join("uploads"))?;
        sync_dir(root)?;
        // A process that was killed may have renamed and not synced.
        for shard in fs::read_dir(root.join("sha256"))? {
            let shard = shard?;
            if is_shard(&shard)? {
                sync_dir(&shard.path())?;
            }
        }
        sync_dir(&root.join("sha256"))?;
        let layout = Arc::new(Layout {
            root: root.to_owned(),
            exclusion: std::array::from_fn(|_| Mutex::default()),
            ages: Ages::new(),
            durability,
            published: AtomicU64::default(),
            found_damaged: AtomicU64::default(),
        });
        Ok(Self {
            layout,
            turns: Turns::default(),
        })
    }

    /// Size of a blob in bytes, if it is stored; blocks.
    pub(crate) fn stored_size(&self, digest: Digest) -> io::Result<Option<u64>> {
        self.layout.size(digest)
    }

    /// Whether there is any blob; blocks.
    pub(crate) fn any(&self) -> io::Result<bool> {
        for shard in fs::read_dir(self.layout.root.join("sha256"))? {
            let shard = shard?;
            if shard.file_type()?.is_dir() && fs::read_dir(shard.path())?.next().is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Where a blob lies, if it is stored.
    pub(crate) fn path_of(&self, digest: Digest) -> PathBuf {
        self.layout.blob(digest)
    }

    pub(super) fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    async fn blocking<T: Send + 'static>(
        &self,
        run: impl FnOnce(&Layout) -> Result<T, BlobError> + Send + 'static,
    ) -> Result<T, BlobError> {
        let layout = Arc::clone(&self.layout);
        blocking(move || run(&layout)).await
    }
}

#[async_trait]
impl BlobStore for LocalBlobs {
    async fn sizes(&self, digests: Vec<Digest>) -> Result<Vec<Option<u64>>, BlobError> {
        self.blocking(move |layout| {
            Ok(digests
                .into_iter()
                .map(|digest| layout.size(digest))
                .collect::<io::Result<_>>()?)
        })
        .await
    }

    async fn renew(&self, digests: Vec<Digest>) -> Result<Vec<Option<u64>>, BlobError> {
        self.blocking(move |layout| {
            let found = digests.into_iter().map(|digest| layout.renew(digest));
            Ok(found.collect::<io::Result<_>>()?)
        })
        .await
    }

    async fn committed(&self, digest: Digest) -> Result<u64, BlobError> {
        self.blocking(move |layout| Ok(file_size(&layout.part(digest))?.unwrap_or(0)))
            .await
    }

    async fn begin_within(
        &self,
        digest: Digest,
        size: u64,
        offset: u64,
        patience: Duration,
    ) -> Result<Option<Box<dyn Upload>>, BlobError> {
        let lock = self.turns.take(digest, patience).await?;
        let (layout, permits) = (Arc::clone(&self.layout), permits::current());
        blocking(move || {
            // Whoever sends it has the right bytes: the file is not to be believed instead.
            if layout.renew(digest)?.is_some() && Self::is_whole(&layout, digest)? {
                return Ok(None);
            }
            let part = Part::open(&layout, digest, size, offset, lock, permits)?;
            let upload = LocalUpload(WriteBehind::new(part));
            Ok(Some(Box::new(upload) as Box<dyn Upload>))
        })
        .await
    }

    async fn read(&self, digest: Digest, offset: u64) -> Result<BlobReader, BlobError> {
        let permits = permits::current();
        let layout = Arc::clone(&self.layout);
        let open = move || Checked::open(&layout, digest, offset, permits);
        let (file, size) = blocking(open).await?;
        Ok(BlobReader {
            size,
            pieces: Box::pin(Pieces::new(file)),
        })
    }

    fn found_damaged(&self) -> u64 {
        self.layout.found_damaged.load(Ordering::Relaxed)
    }

    async fn collect(&self, grace: Duration, uses: Arc<dyn Uses>) -> Result<Swept, BlobError> {
        let (blobs, runtime) = (self.clone(), Handle::current());
        blocking(move || {
            let unreferenced = |digests: &[_]| runtime.block_on(uses.unreferenced(digests));
            Ok(blobs.sweep(grace, &unreferenced)?)
        })
        .await
    }

    async fn count(&self) -> Result<u64, BlobError> {
        let blobs = self.clone();
        let none = |_: &[_]| Ok(Vec::new());
        blocking(move || Ok(blobs.sweep(Duration::MAX, &none)?.bytes)).await
    }

    async fn scrub(
        &self,
        bytes_per_second: u64,
        stop: CancellationToken,
    ) -> Result<Scrubbed, BlobError> {
        let blobs = self.clone();
        blocking(move || blobs.walk(bytes_per_second, || !stop.is_cancelled())).await
    }
}

struct LocalUpload(WriteBehind<Part>);

#[async_trait]
impl Upload for LocalUpload {
    async fn write(&mut self, data: Bytes) -> Result<(), BlobError> {
        self.0.write(data).await
    }

    async fn finish(self: Box<Self>) -> Result<(), BlobError> {
        let part = self.0.finish().await?;
        blocking(move || part.finish()).await
    }
}

/// Runs file work off the runtime.
async fn blocking<T: Send + 'static>(
    run: impl FnOnce() -> Result<T, BlobError> + Send + 'static,
) -> Result<T, BlobError> {
    match tokio::task::spawn_blocking(kept(run)).await {
        Ok(outcome) => outcome,
        Err(stopped) => Err(BlobError::Io(io::Error::other(stopped))),
    }
}

pub(super) fn file_size(path: &Path) -> io::Result<Option<u64>> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata.len())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes the names in a directory durable.
pub(super) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

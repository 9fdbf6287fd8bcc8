//! One unfinished upload on disk: appended to, hashed as it comes, renamed when whole.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read as _, Seek as _, SeekFrom},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use dual16_rpc::blob::{Consume, DurableFile, Hashed};
use sha2::{Digest as _, Sha256};

use super::{
    BlobError,
    local::{Layout, sync_dir},
    turns::Turn,
};
use crate::{digest::Digest, permits::Permits};

pub(super) struct Part {
    digest: Digest,
    size: u64,
    file: Hashed<DurableFile>,
    layout: Arc<Layout>,
    kept: Arc<Kept>,
}

/// What is kept of an upload, shared with the sync under way: it goes on when the upload is given up.
struct Kept {
    digest: Digest,
    path: PathBuf,
    /// A write or a sync has failed. The system tells that once: from then on pages that it could not
    /// write pass for written, and the next upload would go on from them.
    failed: AtomicBool,
    /// Held until the last byte is written and synced, or has failed to be.
    _lock: Turn,
    /// The permits of the call whose upload it is: as long.
    _permits: Option<Permits>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        if !self.failed.load(Ordering::Acquire) {
            return;
        }
        let digest = self.digest;
        match fs::remove_file(&self.path) {
            Ok(()) => tracing::warn!(%digest, "the disk failed: nothing is kept of the upload"),
            Err(error) => tracing::error!(%error, %digest, "what the disk spoilt was not removed"),
        }
    }
}

impl Part {
    /// Opens what is kept of an upload and goes on at `offset`; what is kept beyond is dropped.
    pub(super) fn open(
        layout: &Arc<Layout>,
        digest: Digest,
        size: u64,
        offset: u64,
        lock: Turn,
        permits: Option<Permits>,
    ) -> Result<Self, BlobError> {
        let path = layout.part(digest);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)?;
        let end = file.metadata()?.len();
        if offset > end {
            return Err(BlobError::OffsetOutOfRange {
                digest,
                offset,
                end,
            });
        }
        if offset > size {
            return Err(BlobError::TooLong { digest, size });
        }
        if offset < end {
            file.set_len(offset)?;
        }
        let hasher = hash(&mut file, offset)?;
        file.seek(SeekFrom::Start(offset))?;
        let kept = Arc::new(Kept {
            digest,
            path,
            failed: AtomicBool::new(false),
            _lock: lock,
            _permits: permits,
        });
        let watched = Arc::clone(&kept);
        let file =
            DurableFile::watched(file, move || watched.failed.store(true, Ordering::Release));
        let file = match layout.durability.waits() {
            true => file,
            false => file.unhurried(),
        };
        Ok(Self {
            digest,
            size,
            file: Hashed::resumed(file, hasher, offset),
            layout: Arc::clone(layout),
            kept,
        })
    }

    pub(super) fn finish(self) -> Result<(), BlobError> {
        let Self {
            digest,
            size,
            file,
            layout,
            kept,
        } = self;
        let written = file.bytes();
        if written < size {
            return Err(BlobError::Incomplete {
                digest,
                written,
                size,
            });
        }
        let (file, found) = file.finish();
        if found != digest {
            drop(file);
            fs::remove_file(&kept.path)?;
            return Err(BlobError::DigestMismatch {
                expected: digest,
                found,
            });
        }
        if !layout.durability.waits() {
            drop(file);
            return Ok(layout.publish(&kept.path, digest, |_| Ok(()))?);
        }
        // Bytes before name, name before acknowledgement: a blob that exists is whole.
        file.sync()?;
        Ok(layout.publish(&kept.path, digest, sync_dir)?)
    }
}

impl Consume for Part {
    type Error = BlobError;

    fn consume(&mut self, chunk: Bytes) -> Result<(), BlobError> {
        let written = self.file.bytes().saturating_add(chunk.len() as u64);
        if written > self.size {
            return Err(BlobError::TooLong {
                digest: self.digest,
                size: self.size,
            });
        }
        Ok(self.file.write_all(&chunk)?)
    }
}

/// The hash of the first `bytes` bytes.
pub(super) fn hash(file: &mut File, bytes: u64) -> Result<Sha256, BlobError> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    file.seek(SeekFrom::Start(0))?;
    let mut kept = file.take(bytes);
    loop {
        let read = kept.read(&mut buffer)?;
        let Some(data) = buffer.get(..read).filter(|data| !data.is_empty()) else {
            break;
        };
        hasher.update(data);
    }
    Ok(hasher)
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::fs::symlink,
        time::{Duration, Instant},
    };

    use super::*;
    use crate::blob::{BlobStore as _, LocalBlobs, Upload};

    /// An upload of which nothing is kept yet, into a device in place of a file. "/dev/null" takes
    /// every byte and cannot be synced, "/dev/full" takes none.
    async fn into_device(blobs: &LocalBlobs, device: &str, data: &Bytes) -> Box<dyn Upload> {
        let digest = Digest::of(data);
        symlink(device, blobs.layout().part(digest)).unwrap();
        let size = data.len() as u64;
        blobs.begin(digest, size, 0).await.unwrap().unwrap()
    }

    /// Waits for what was given up, and goes through with a new upload from the start.
    async fn send_again(blobs: &LocalBlobs, data: &Bytes) {
        let (digest, size) = (Digest::of(data), data.len() as u64);
        let part = blobs.layout().part(digest);
        let deadline = Instant::now() + Duration::from_secs(20);
        while fs::symlink_metadata(&part).is_ok() {
            assert!(Instant::now() < deadline, "what the disk spoilt is kept");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(blobs.size(digest).await.unwrap(), None);
        let mut upload = blobs.begin(digest, size, 0).await.unwrap().unwrap();
        upload.write(data.clone()).await.unwrap();
        upload.finish().await.unwrap();
        assert_eq!(
            Digest::of_file(&blobs.path_of(digest)).unwrap(),
            (digest, size)
        );
    }

    #[tokio::test]
    async fn nothing_is_kept_of_an_upload_that_could_not_be_synced() {
        let directory = tempfile::tempdir().unwrap();
        let blobs = LocalBlobs::open(directory.path()).unwrap();
        let data = Bytes::from_static(b"hello");
        let mut upload = into_device(&blobs, "/dev/null", &data).await;
        upload.write(data.clone()).await.unwrap();
        let failed = upload.finish().await;
        assert!(matches!(failed, Err(BlobError::Io(_))), "{failed:?}");
        send_again(&blobs, &data).await;
    }

    #[tokio::test]
    async fn nothing_is_kept_of_an_upload_that_could_not_be_written() {
        let directory = tempfile::tempdir().unwrap();
        let blobs = LocalBlobs::open(directory.path()).unwrap();
        let data = Bytes::from_static(b"hello");
        let mut upload = into_device(&blobs, "/dev/full", &data).await;
        upload.write(data.clone()).await.unwrap();
        let failed = upload.finish().await;
        assert!(matches!(failed, Err(BlobError::StorageFull)), "{failed:?}");
        send_again(&blobs, &data).await;
    }

    #[tokio::test]
    async fn nothing_is_kept_when_a_piece_fails_and_the_upload_is_given_up() {
        let directory = tempfile::tempdir().unwrap();
        let blobs = LocalBlobs::open(directory.path()).unwrap();
        // As much as is synced beside the writing, and a byte that does not come.
        let data = Bytes::from(vec![7; (16 << 20) + 1]);
        let mut upload = into_device(&blobs, "/dev/null", &data).await;
        upload.write(data.slice(..16 << 20)).await.unwrap();
        drop(upload);
        send_again(&blobs, &data).await;
    }
}

//! One unfinished upload on disk: appended to, hashed as it comes, renamed when whole.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read as _, Seek as _, SeekFrom},
    path::PathBuf,
    sync::Arc,
};

use bytes::Bytes;
use dual16_proto::blob::{Consume, DurableFile, Hashed};
use sha2::{Digest as _, Sha256};

use super::{
    BlobError,
    local::{Layout, UploadLock, sync_dir},
};
use crate::digest::Digest;

pub(super) struct Part {
    digest: Digest,
    size: u64,
    file: Hashed<DurableFile>,
    path: PathBuf,
    layout: Arc<Layout>,
    /// Held until the last byte is written, which may be after the upload was given up.
    _lock: UploadLock,
}

impl Part {
    /// Opens what is kept of an upload and goes on at `offset`; what is kept beyond is dropped.
    pub(super) fn open(
        layout: &Arc<Layout>,
        digest: Digest,
        size: u64,
        offset: u64,
        lock: UploadLock,
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
        file.set_len(offset)?;
        let hasher = hash(&mut file)?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(Self {
            digest,
            size,
            file: Hashed::resumed(DurableFile::new(file), hasher, offset),
            path,
            layout: Arc::clone(layout),
            _lock: lock,
        })
    }

    pub(super) fn finish(self) -> Result<(), BlobError> {
        let Self {
            digest,
            size,
            file,
            path,
            layout,
            _lock,
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
            fs::remove_file(&path)?;
            return Err(BlobError::DigestMismatch {
                expected: digest,
                found,
            });
        }
        // Bytes before name, name before acknowledgement: a blob that exists is whole.
        file.sync()?;
        Ok(layout.publish(&path, digest, sync_dir)?)
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

fn hash(file: &mut File) -> Result<Sha256, BlobError> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    file.seek(SeekFrom::Start(0))?;
    loop {
        let read = file.read(&mut buffer)?;
        let Some(data) = buffer.get(..read).filter(|data| !data.is_empty()) else {
            break;
        };
        hasher.update(data);
    }
    Ok(hasher)
}

//! Stored bytes are believed only when checked: a download is hashed while it is sent and its last bytes go out
//! only if the whole has the digest that it is named by; a slow walk looks at what nobody reads. What is not what
//! its name says is set aside, so that the blob is missing from then on and can be sent again.

use std::{
    fs::{self, File},
    io::{self, IoSliceMut, Read, Seek as _, SeekFrom},
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use rustix::io::{Errno, ReadWriteFlags, preadv2};
use sha2::{Digest as _, Sha256};

use super::{
    BlobError,
    gc::{entries, is_shard},
    local::{Layout, LocalBlobs},
    part::hash,
};
use crate::{digest::Digest, permits::Permits};

/// Bytes that are read at a time: an allocator gives them back to the next, on whatever thread.
const PIECE: usize = 64 << 10;

/// A blob's file from an offset on. Reading fails at the last byte of one that is damaged.
pub(super) struct Checked {
    file: File,
    hasher: Sha256,
    left: u64,
    digest: Digest,
    layout: Arc<Layout>,
    /// The permits of the call that reads it: as long.
    _permits: Option<Permits>,
}

impl Checked {
    /// Opens a blob; also its size in bytes. What lies before `offset` is read here.
    pub(super) fn open(
        layout: &Arc<Layout>,
        digest: Digest,
        offset: u64,
        permits: Option<Permits>,
    ) -> Result<(Self, u64), BlobError> {
        let mut file = match File::open(layout.blob(digest)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(BlobError::NotFound(digest));
            }
            Err(error) => return Err(error.into()),
        };
        let size = file.metadata()?.len();
        if offset > size {
            return Err(BlobError::OffsetOutOfRange {
                digest,
                offset,
                end: size,
            });
        }
        let hasher = hash(&mut file, offset)?;
        file.seek(SeekFrom::Start(offset))?;
        let mut checked = Self {
            file,
            hasher,
            left: size - offset,
            digest,
            layout: Arc::clone(layout),
            _permits: permits,
        };
        if checked.left == 0 {
            checked.at_end()?;
        }
        Ok((checked, size))
    }

    /// As [`Read::read`], if the system has the bytes in memory; `None` where it would have to wait for
    /// the disk, or does not tell.
    pub(super) fn read_cached(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let most = self.most(buffer);
        let buffer = &mut buffer[..most];
        if buffer.is_empty() {
            return Ok(Some(0));
        }
        // At the file's own position, which moves on.
        let slices = &mut [IoSliceMut::new(buffer)];
        match preadv2(&self.file, slices, u64::MAX, ReadWriteFlags::NOWAIT) {
            Ok(read) => self.has_read(&buffer[..read]).map(|()| Some(read)),
            Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Bytes to read into `buffer` at most.
    fn most(&self, buffer: &[u8]) -> usize {
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        left.min(buffer.len())
    }

    /// These bytes come next.
    fn has_read(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.left -= bytes.len() as u64;
        // Shorter than it was when it was opened: damaged as well.
        if bytes.is_empty() || self.left == 0 {
            self.left = 0;
            self.at_end()?;
        }
        Ok(())
    }

    /// Everything has been read: whether it is what it is named.
    fn at_end(&mut self) -> io::Result<()> {
        if Digest::finish(self.hasher.clone()) == self.digest {
            return Ok(());
        }
        self.layout.set_aside(self.digest, &self.file)?;
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            BlobError::Damaged(self.digest),
        ))
    }
}

impl Read for Checked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = self.most(buffer);
        if most == 0 {
            return Ok(0);
        }
        let read = self.file.read(&mut buffer[..most])?;
        self.has_read(&buffer[..read])?;
        Ok(read)
    }
}

impl Layout {
    /// Takes a damaged file out of the way, unless another has come in its place since it was opened.
    fn set_aside(&self, digest: Digest, damaged: &File) -> io::Result<()> {
        let path = self.blob(digest);
        let _excluded = self.exclude(digest);
        let same = match fs::metadata(&path) {
            Ok(there) => {
                let opened = damaged.metadata()?;
                (there.dev(), there.ino()) == (opened.dev(), opened.ino())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        if same {
            let aside = self.damaged();
            fs::create_dir_all(&aside)?;
            fs::rename(&path, aside.join(digest.hex()))?;
            self.found_damaged.fetch_add(1, Ordering::Relaxed);
            tracing::error!(%digest, "a stored blob is damaged: it was set aside, and has to be sent again");
        }
        Ok(())
    }
}

/// What a walk over all blobs has found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// Blobs that were read.
    pub blobs: u64,
    /// Those that were set aside.
    pub damaged: u64,
}

impl LocalBlobs {
    /// Whether a stored blob is what its name says; false if it is damaged, and set aside by now, or not there.
    /// Blocks.
    pub(super) fn is_whole(layout: &Arc<Layout>, digest: Digest) -> Result<bool, BlobError> {
        let mut buffer = vec![0; PIECE];
        let mut read = || -> Result<(), BlobError> {
            let (mut file, _) = Checked::open(layout, digest, 0, None)?;
            while file.read(&mut buffer)? > 0 {}
            Ok(())
        };
        match read() {
            Ok(()) => Ok(true),
            Err(BlobError::Damaged(_) | BlobError::NotFound(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Reads every blob once, at most `bytes_per_second` of them, for as long as `go_on` says so; blocks.
    ///
    /// # Errors
    /// A folder or a file cannot be read.
    pub fn scrub(
        &self,
        bytes_per_second: u64,
        go_on: impl Fn() -> bool,
    ) -> Result<Scrubbed, BlobError> {
        let layout = self.layout();
        let mut scrubbed = Scrubbed::default();
        let mut buffer = vec![0; PIECE];
        for digest in self.stored()? {
            let mut read = || -> Result<(), BlobError> {
                let (mut file, _) = Checked::open(layout, digest, 0, None)?;
                loop {
                    let began = Instant::now();
                    let read = file.read(&mut buffer)?;
                    if read == 0 || !go_on() {
                        return Ok(());
                    }
                    let due = Duration::from_secs_f64(read as f64 / bytes_per_second.max(1) as f64);
                    thread::sleep(due.saturating_sub(began.elapsed()));
                }
            };
            match read() {
                Ok(()) => scrubbed.blobs += 1,
                Err(BlobError::Damaged(_)) => scrubbed.damaged += 1,
                // Collected meanwhile.
                Err(BlobError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
            if !go_on() {
                break;
            }
        }
        Ok(scrubbed)
    }

    /// All blobs, in the order of their digests.
    fn stored(&self) -> io::Result<Vec<Digest>> {
        let mut digests = Vec::new();
        for shard in entries(&self.layout().shards())? {
            if !is_shard(&shard)? {
                continue;
            }
            let prefix = shard.file_name();
            for file in entries(&shard.path())? {
                let name =
                    [&prefix, &file.file_name()].map(|part| part.to_string_lossy().into_owned());
                digests.extend(Digest::from_hex(&name.concat()));
            }
        }
        digests.sort_unstable();
        Ok(digests)
    }
}

/// Removes what was set aside and is older than `grace`.
pub(super) fn sweep_damaged(
    folder: &Path,
    old: impl Fn(&fs::Metadata) -> io::Result<bool>,
) -> io::Result<()> {
    let files = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        files => files?,
    };
    for file in files {
        let file = file?;
        if old(&file.metadata()?)? {
            fs::remove_file(file.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio_stream::StreamExt as _;

    use super::*;
    use crate::blob::{BlobStore as _, store};

    /// Flips a bit of a stored blob.
    fn damage(blobs: &LocalBlobs, digest: Digest, at: usize) {
        let path = blobs.path_of(digest);
        let mut bytes = fs::read(&path).unwrap();
        bytes[at] ^= 4;
        fs::write(path, bytes).unwrap();
    }

    async fn read(blobs: &LocalBlobs, digest: Digest, offset: u64) -> (usize, Option<BlobError>) {
        let mut reader = match blobs.read(digest, offset).await {
            Ok(reader) => reader,
            Err(error) => return (0, Some(error)),
        };
        let mut received = 0;
        while let Some(chunk) = reader.pieces.next().await {
            match chunk {
                Ok(chunk) => received += chunk.len(),
                Err(error) => return (received, Some(error)),
            }
        }
        (received, None)
    }

    #[tokio::test]
    async fn a_damaged_blob_is_never_sent_whole_and_can_be_sent_again() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = LocalBlobs::open(folder.path()).unwrap();
        for (len, at, offset) in [
            (1usize, 0usize, 0u64),
            (3_000_000, 0, 0),
            (3_000_000, 2_999_999, 0),
            (3_000_000, 5, 2_999_000),
            (3_000_000, 5, 3_000_000),
        ] {
            let data = Bytes::from(vec![len as u8; len]);
            let digest = store(&blobs, data.clone()).await.unwrap();
            assert_eq!(
                read(&blobs, digest, offset).await.0 as u64,
                len as u64 - offset
            );
            damage(&blobs, digest, at);
            let (received, error) = read(&blobs, digest, offset).await;
            assert!(matches!(error, Some(BlobError::Damaged(_))), "{error:?}");
            assert!(
                (received as u64) < (len as u64 - offset).max(1),
                "{received}"
            );
            assert_eq!(blobs.size(digest).await.unwrap(), None);
            assert_eq!(store(&blobs, data).await.unwrap(), digest);
            assert_eq!(
                read(&blobs, digest, offset).await.0 as u64,
                len as u64 - offset
            );
        }
        assert_eq!(blobs.found_damaged(), 5);
    }

    #[tokio::test]
    async fn an_upload_takes_the_place_of_a_damaged_file_that_nobody_has_read() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = LocalBlobs::open(folder.path()).unwrap();
        let data = Bytes::from(vec![7; 100_000]);
        let digest = store(&blobs, data.clone()).await.unwrap();
        damage(&blobs, digest, 500);
        store(&blobs, data).await.unwrap();
        assert_eq!(read(&blobs, digest, 0).await.0, 100_000);
    }

    #[tokio::test]
    async fn the_walk_finds_what_nobody_reads() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = LocalBlobs::open(folder.path()).unwrap();
        let mut digests = Vec::new();
        for i in 0..20u8 {
            let data = Bytes::from(vec![i; 1000]);
            digests.push(store(&blobs, data).await.unwrap());
        }
        damage(&blobs, digests[3], 0);
        damage(&blobs, digests[17], 999);
        let found = blobs.scrub(u64::MAX, || true).unwrap();
        assert_eq!(
            found,
            Scrubbed {
                blobs: 18,
                damaged: 2
            }
        );
        assert_eq!(blobs.size(digests[3]).await.unwrap(), None);
        assert_eq!(blobs.scrub(u64::MAX, || true).unwrap().damaged, 0);
    }
}

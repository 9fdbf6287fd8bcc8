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
    pub(super) fn walk(
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

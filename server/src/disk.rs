//! The volume of the data directory, and the room on it that is kept for the job store before anything
//! else: uploads end where it begins, so that jobs can still be created, cancelled and deleted.
//!
//! Half of it is a file. Should something else fill the volume, the file goes, and a store that could
//! not write any more has that much to delete jobs with. What lies on the volume, this module must
//! not know.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use rustix::fs::{FallocateFlags, StatVfs, fallocate, statvfs};

/// Bytes of the file, at most: some segments of the store's log. As many are kept free beside it.
const RESERVE_BYTES: u64 = 16 << 20;
/// The most of a volume that the file takes.
const RESERVE_SHARE: u64 = 16;
/// The share of a volume that blobs may have where nobody says otherwise, in tenths.
const BLOBS_TENTHS: u64 = 9;

/// The volume of a data directory. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    directory: PathBuf,
}

/// What the system says of a volume, in bytes.
#[derive(Clone, Copy, Debug)]
struct Volume {
    total: u64,
    free: u64,
}

impl Volume {
    fn reserve(self) -> u64 {
        (self.total / RESERVE_SHARE).min(RESERVE_BYTES)
    }
}

impl Disk {
    /// That of a directory, which need not be there yet.
    pub(crate) fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
        }
    }

    fn volume(&self) -> io::Result<Volume> {
        let StatVfs {
            f_frsize,
            f_blocks,
            f_bavail,
            ..
        } = statvfs(&self.directory)?;
        Ok(Volume {
            total: f_blocks.saturating_mul(f_frsize),
            free: f_bavail.saturating_mul(f_frsize),
        })
    }

    /// Bytes that blobs may have on this volume where nobody says otherwise.
    pub(crate) fn share_of_blobs(&self) -> io::Result<u64> {
        Ok(self.volume()?.total / 10 * BLOBS_TENTHS)
    }

    /// Bytes that are free for blobs. A system that does not tell refuses none.
    pub(crate) fn free_for_blobs(&self) -> u64 {
        let Ok(volume) = self.volume() else {
            return u64::MAX;
        };
        let unused = volume.free.saturating_add(self.reserved());
        unused.saturating_sub(2 * volume.reserve())
    }

    /// Gives the reserve up where the volume is full, and makes it where there is room. Blocks.
    pub(crate) fn balance(&self) -> io::Result<()> {
        let volume = self.volume()?;
        let (reserve, reserved) = (volume.reserve(), self.reserved());
        if volume.free < reserve && reserved > 0 {
            fs::remove_file(self.file())?;
            tracing::warn!("the disk is full: what was reserved on it is the job store's now");
        } else if reserved < reserve && volume.free >= 3 * reserve {
            let file = File::create(self.file())?;
            // Some file systems cannot; there, what is kept free has to do.
            if let Err(error) = fallocate(file, FallocateFlags::empty(), 0, reserve) {
                tracing::debug!(%error, "nothing was reserved on the disk");
                fs::remove_file(self.file())?;
            }
        }
        Ok(())
    }

    fn file(&self) -> PathBuf {
        self.directory.join("reserve")
    }

    fn reserved(&self) -> u64 {
        fs::metadata(self.file()).map_or(0, |file| file.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_with_room_has_a_reserve_that_counts_as_kept() {
        let directory = tempfile::tempdir().unwrap();
        let disk = Disk::new(directory.path());
        let volume = disk.volume().unwrap();
        assert!(disk.share_of_blobs().unwrap() < volume.total);
        assert!(disk.free_for_blobs() < volume.free, "nothing is kept free");
        disk.balance().unwrap();
        // A file system that reserves nothing has no file either.
        let reserved = disk.reserved();
        assert!(reserved == 0 || reserved == volume.reserve());
        disk.balance().unwrap();
        assert_eq!(disk.reserved(), reserved);
        let gone = Disk::new(&directory.path().join("gone"));
        assert_eq!(gone.free_for_blobs(), u64::MAX);
    }
}

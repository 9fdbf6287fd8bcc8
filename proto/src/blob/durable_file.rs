//! A file that goes to the disk while it is written.

use std::{
    fs::File,
    io::{self, Write},
    thread::{self, JoinHandle},
};

/// Bytes after which a sync begins: enough for the disk to write in long runs.
const SYNC_BYTES: u64 = 16 << 20;

/// Bytes that may wait for the disk, beyond those of the sync under way. A faster writer waits.
const UNSYNCED_BYTES: u64 = 4 * SYNC_BYTES;

/// A file that is to be on the disk when it is done.
///
/// A file synced only at its end makes the disk idle first and the writer idle last, for seconds
/// when the file is large. This one is synced piece by piece beside the writing, so that
/// [`sync`](Self::sync) has little left to wait for.
pub struct DurableFile {
    file: File,
    unsynced: u64,
    syncing: Option<JoinHandle<io::Result<()>>>,
}

impl DurableFile {
    /// Writes go to where `file` stands.
    pub fn new(file: File) -> Self {
        Self {
            file,
            unsynced: 0,
            syncing: None,
        }
    }

    /// Waits until everything is on the disk, the file's length included.
    ///
    /// # Errors
    /// The system's, also those of earlier pieces: it reports each only once.
    pub fn sync(mut self) -> io::Result<()> {
        self.synced()?;
        self.file.sync_all()
    }

    fn sync_beside(&mut self) -> io::Result<()> {
        let busy = self.syncing.as_ref().is_some_and(|run| !run.is_finished());
        if busy && self.unsynced < UNSYNCED_BYTES {
            return Ok(());
        }
        self.synced()?;
        let file = self.file.try_clone()?;
        let thread = thread::Builder::new().name("dual16-sync".to_owned());
        self.syncing = Some(thread.spawn(move || file.sync_data())?);
        self.unsynced = 0;
        Ok(())
    }

    /// Waits for the sync under way.
    fn synced(&mut self) -> io::Result<()> {
        let Some(run) = self.syncing.take() else {
            return Ok(());
        };
        run.join()
            .unwrap_or_else(|_| Err(io::Error::other("the sync of a file panicked")))
    }
}

impl Write for DurableFile {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let written = self.file.write(data)?;
        self.unsynced += written as u64;
        if self.unsynced >= SYNC_BYTES {
            self.sync_beside()?;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn all_bytes_arrive_and_are_on_the_disk_with_many_syncs_on_the_way() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let mut file = DurableFile::new(File::create(&path).unwrap());
        let piece: Vec<u8> = (0..SYNC_BYTES / 4).map(|i| (i % 253) as u8).collect();
        for _ in 0..18 {
            file.write_all(&piece).unwrap();
            assert!(file.unsynced < UNSYNCED_BYTES + SYNC_BYTES);
        }
        file.sync().unwrap();
        let written = fs::read(&path).unwrap();
        assert!(written.chunks(piece.len()).all(|chunk| chunk == piece));
        assert_eq!(written.len(), 18 * piece.len());
    }

    #[test]
    fn a_write_that_the_system_refuses_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, b"old").unwrap();
        let mut file = DurableFile::new(File::open(&path).unwrap());
        assert!(file.write_all(b"new").is_err());
        file.sync().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
    }
}

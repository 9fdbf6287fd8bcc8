//! A file that goes to the disk while it is written.

use std::{
    fs::File,
    io::{self, Write},
    sync::Arc,
    thread::{self, JoinHandle},
};

/// Bytes after which a sync begins: enough for the disk to write in long runs.
const SYNC_BYTES: u64 = 16 << 20;

/// Bytes that may wait for the disk, beyond those of the sync under way. A faster writer waits.
const UNSYNCED_BYTES: u64 = 4 * SYNC_BYTES;

/// Told that a write or a sync has failed.
type Failed = Arc<dyn Fn() + Send + Sync>;

/// A file that is to be on the disk when it is done.
///
/// A file synced only at its end makes the disk idle first and the writer idle last, for seconds
/// when the file is large. This one is synced piece by piece beside the writing, so that
/// [`sync`](Self::sync) has little left to wait for.
pub struct DurableFile {
    file: File,
    unsynced: u64,
    /// Bytes after which a sync begins; `None` where nobody waits for the disk.
    sync_bytes: Option<u64>,
    syncing: Option<JoinHandle<io::Result<()>>>,
    failed: Failed,
}

impl DurableFile {
    /// Writes go to where `file` stands.
    pub fn new(file: File) -> Self {
        Self::watched(file, || {})
    }

    /// As [`DurableFile::new`]; `failed` is called when a write or a sync has failed, on whatever
    /// thread that was. It is dropped once the file is, and the last sync has ended: what is known
    /// by then is final, also for one who gave the file up in the middle.
    pub fn watched(file: File, failed: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            file,
            unsynced: 0,
            sync_bytes: Some(SYNC_BYTES),
            syncing: None,
            failed: Arc::new(failed),
        }
    }

    /// Nothing is synced beside the writing: for a file that is not going to be waited for.
    #[must_use]
    pub fn unhurried(self) -> Self {
        Self {
            sync_bytes: None,
            ..self
        }
    }

    /// Waits until everything is on the disk, the file's length included.
    ///
    /// # Errors
    /// The system's, also those of earlier pieces: it reports each only once.
    pub fn sync(mut self) -> io::Result<()> {
        self.synced()?;
        self.file.sync_all().inspect_err(|_| (self.failed)())
    }

    fn sync_beside(&mut self) -> io::Result<()> {
        let busy = self.syncing.as_ref().is_some_and(|run| !run.is_finished());
        if busy && self.unsynced < UNSYNCED_BYTES {
            return Ok(());
        }
        self.synced()?;
        let (file, failed) = (self.file.try_clone()?, Arc::clone(&self.failed));
        let thread = thread::Builder::new().name("dual16-sync".to_owned());
        let sync = move || file.sync_data().inspect_err(|_| failed());
        self.syncing = Some(thread.spawn(sync)?);
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
        let written = self.file.write(data).inspect_err(|error| {
            // Such a one is only tried again.
            if error.kind() != io::ErrorKind::Interrupted {
                (self.failed)();
            }
        })?;
        self.unsynced += written as u64;
        if self.sync_bytes.is_some_and(|most| self.unsynced >= most) {
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
    use std::{
        fs,
        sync::atomic::{AtomicUsize, Ordering},
        time::{Duration, Instant},
    };

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
        let failures = Arc::new(AtomicUsize::new(0));
        let mut file = counting(File::open(&path).unwrap(), &failures);
        assert!(file.write_all(b"new").is_err());
        assert_eq!(failures.load(Ordering::SeqCst), 1);
        file.sync().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
    }

    /// A device takes every byte and cannot be synced.
    #[cfg(unix)]
    #[test]
    fn a_sync_that_fails_is_told_even_when_nobody_waits_for_it() {
        let device = || File::options().write(true).open("/dev/null").unwrap();
        let failures = Arc::new(AtomicUsize::new(0));
        assert!(counting(device(), &failures).sync().is_err());
        assert_eq!(failures.load(Ordering::SeqCst), 1);
        let mut file = counting(device(), &failures);
        let large = usize::try_from(SYNC_BYTES).unwrap();
        file.write_all(&vec![7; large]).unwrap();
        drop(file);
        let deadline = Instant::now() + Duration::from_secs(20);
        while Arc::strong_count(&failures) > 1 {
            assert!(Instant::now() < deadline, "the sync did not end");
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(failures.load(Ordering::SeqCst), 2);
    }

    /// A device that cannot be synced tells that nobody has tried.
    #[cfg(unix)]
    #[test]
    fn what_is_not_waited_for_is_not_synced_beside_the_writing() {
        let failures = Arc::new(AtomicUsize::new(0));
        let device = File::options().write(true).open("/dev/null").unwrap();
        let mut file = counting(device, &failures).unhurried();
        let large = usize::try_from(SYNC_BYTES).unwrap();
        file.write_all(&vec![7; large]).unwrap();
        assert!(file.syncing.is_none());
        drop(file);
        assert_eq!(failures.load(Ordering::SeqCst), 0);
    }

    fn counting(file: File, failures: &Arc<AtomicUsize>) -> DurableFile {
        let failures = Arc::clone(failures);
        DurableFile::watched(file, move || {
            failures.fetch_add(1, Ordering::SeqCst);
        })
    }
}

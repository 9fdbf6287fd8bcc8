//! The audit log's file, behind a thread of its own: a disk that does not answer stops the thread and
//! not the calls whose lines it is to write.
//!
//! A call waits for its line, but not for long. Once one has waited in vain, none waits any more until
//! the thread gets on: lines then go into a queue of limited length, and beyond that they are lost.
//! How many, the server's log says.

use std::{
    fs::File,
    io::{self, Write as _},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

/// Lines that may wait for the disk, each some 300 bytes.
const QUEUE: usize = 4096;
/// How long a call waits for its line to be written.
const PATIENCE: Duration = Duration::from_secs(1);

/// Writes lines in the order in which they are handed in. Dropped, it writes what it still has.
pub(super) struct Writer {
    queue: mpsc::Sender<Entry>,
    shared: Arc<Shared>,
}

struct Shared {
    /// Replaced when it is opened again, whatever the thread hangs on.
    file: Mutex<Arc<File>>,
    /// A call has waited in vain, and nothing was written since.
    behind: AtomicBool,
    /// Lines that were not written, and not logged yet.
    lost: AtomicU64,
}

struct Entry {
    line: Vec<u8>,
    written: Option<oneshot::Sender<()>>,
}

impl Writer {
    pub(super) fn new(file: File) -> io::Result<Self> {
        let (queue, entries) = mpsc::channel(QUEUE);
        let shared = Arc::new(Shared {
            file: Mutex::new(Arc::new(file)),
            behind: AtomicBool::new(false),
            lost: AtomicU64::new(0),
        });
        let thread = thread::Builder::new().name("dual16-audit".to_owned());
        let working = Arc::clone(&shared);
        thread.spawn(move || working.work(entries))?;
        Ok(Self { queue, shared })
    }

    /// Goes on in another file.
    pub(super) fn replace(&self, file: File) {
        let mut current = self
            .shared
            .file
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *current = Arc::new(file);
    }

    /// Hands in a line; it is in the file on return, unless the disk is slow.
    pub(super) async fn write(&self, line: Vec<u8>) {
        let (sender, written) = oneshot::channel();
        if !self.enqueue(line, Some(sender)) || self.shared.behind.load(Ordering::Relaxed) {
            return;
        }
        if timeout(PATIENCE, written).await.is_err() {
            self.shared.falls_behind();
        }
    }

    /// Hands in a line from where nobody can wait.
    pub(super) fn hand_in(&self, line: Vec<u8>) {
        self.enqueue(line, None);
    }

    /// False if there is no room for the line, which is lost.
    fn enqueue(&self, line: Vec<u8>, written: Option<oneshot::Sender<()>>) -> bool {
        let enqueued = self.queue.try_send(Entry { line, written }).is_ok();
        if !enqueued {
            self.shared.lose();
        }
        enqueued
    }

    /// Waits until all that was handed in is written, at most `limit`.
    pub(super) async fn flush(&self, limit: Duration) {
        let (sender, written) = oneshot::channel();
        let last = Entry {
            line: Vec::new(),
            written: Some(sender),
        };
        let flushed = async { self.queue.send(last).await.is_ok() && written.await.is_ok() };
        if timeout(limit, flushed).await != Ok(true) {
            let waiting = QUEUE - self.queue.capacity();
            tracing::error!(waiting, "--audit-log: lines were not written in time");
        }
    }
}

impl Shared {
    fn work(&self, mut entries: mpsc::Receiver<Entry>) {
        while let Some(Entry { line, written }) = entries.blocking_recv() {
            let file = Arc::clone(&self.file.lock().unwrap_or_else(PoisonError::into_inner));
            if let Err(error) = (&*file).write_all(&line) {
                tracing::error!(%error, "--audit-log: a line could not be written");
            }
            self.behind.store(false, Ordering::Relaxed);
            let lines = self.lost.swap(0, Ordering::Relaxed);
            if lines > 0 {
                tracing::error!(lines, "--audit-log: it is written again; lines were lost");
            }
            if let Some(written) = written {
                // Whoever waited for it may have given up.
                let _ = written.send(());
            }
        }
    }

    fn falls_behind(&self) {
        if !self.behind.swap(true, Ordering::Relaxed) {
            tracing::error!("--audit-log: the disk does not answer; lines wait for it");
        }
    }

    fn lose(&self) {
        if self.lost.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::error!("--audit-log: lines are being lost: as many as may wait do already");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read as _, os::fd::OwnedFd, time::Instant};

    use super::*;

    #[tokio::test]
    async fn a_disk_that_hangs_holds_up_one_call_for_a_moment_and_loses_only_what_finds_no_room() {
        let (mut disk, file) = io::pipe().unwrap();
        let writer = Writer::new(OwnedFd::from(file).into()).unwrap();
        let line = |number: usize| format!("{number:0299}\n").into_bytes();
        writer.write(line(0)).await;
        // A pipe holds 64 KiB; then it does not answer.
        let began = Instant::now();
        let lines = QUEUE + 1000;
        for number in 1..lines {
            writer.write(line(number)).await;
        }
        let took = began.elapsed();
        assert!(took < PATIENCE * 4, "{took:?}");
        let lost = writer.shared.lost.load(Ordering::Relaxed) as usize;
        assert!((500..1000).contains(&lost), "{lost}");

        let reading = thread::spawn(move || {
            let mut text = String::new();
            disk.read_to_string(&mut text).unwrap();
            text
        });
        writer.flush(Duration::from_secs(20)).await;
        assert_eq!(writer.shared.lost.load(Ordering::Relaxed), 0, "logged");
        assert!(!writer.shared.behind.load(Ordering::Relaxed));
        writer.write(line(lines)).await;
        drop(writer);
        let text = reading.join().unwrap();
        let written: Vec<usize> = text.lines().map(|line| line.parse().unwrap()).collect();
        assert_eq!(written.len(), lines - lost + 1);
        assert!(written.is_sorted());
        assert_eq!(written.last(), Some(&lines));
    }
}

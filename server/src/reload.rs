//! Values that are read from files, and read again when the files change or the server is told to.
//!
//! A file that cannot be read, or is wrong, changes nothing: the last good value stays, and the
//! log says what is wrong with the new one.

use std::{
    fmt::Display,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Something that can be read again.
pub(crate) trait Reload: Send + Sync {
    /// Reads again what has changed; `asked` = the operator asked for it, so whatever it is. Blocks.
    fn reload(&self, asked: bool);
}

/// The newest good value of a [`Reloaded`]. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Latest<T>(watch::Receiver<Arc<T>>);

impl<T> Latest<T> {
    pub(crate) fn get(&self) -> Arc<T> {
        Arc::clone(&self.0.borrow())
    }
}

/// A value and the files it comes from.
pub(crate) struct Reloaded<T, L> {
    /// What to call it in the log: the flags, not the paths.
    name: &'static str,
    files: Vec<PathBuf>,
    load: L,
    current: watch::Sender<Arc<T>>,
    seen: Mutex<Seen>,
}

struct Seen {
    /// The files as they were when they were last read and were good.
    good: Stamps,
    /// As they were when they could not be used, and why. They are tried again at every look, for the
    /// reason may have been none of theirs, such as a system without file descriptors; but only
    /// what is new about it is told.
    bad: Option<(Stamps, String)>,
}

type Stamps = Vec<Option<Stamp>>;

/// What changes when a file's contents do, be it overwritten, replaced or linked anew.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    modified: SystemTime,
    bytes: u64,
    inode: u64,
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            modified: metadata.modified().ok()?,
            bytes: metadata.len(),
            inode: metadata.ino(),
        })
    }
}

impl<T, E, L> Reloaded<T, L>
where
    E: Display,
    L: Fn() -> Result<T, E>,
{
    /// Reads the value for the first time.
    pub(crate) fn open(
        name: &'static str,
        files: Vec<PathBuf>,
        load: L,
    ) -> Result<(Self, Latest<T>), E> {
        // Before the reading: a change in between is then noticed at the next look.
        let good = stamps(&files);
        let (current, latest) = watch::channel(Arc::new(load()?));
        let reloaded = Self {
            name,
            files,
            load,
            current,
            seen: Mutex::new(Seen { good, bad: None }),
        };
        Ok((reloaded, Latest(latest)))
    }
}

fn stamps(files: &[PathBuf]) -> Stamps {
    files.iter().map(|file| Stamp::of(file)).collect()
}

impl<T, E, L> Reload for Reloaded<T, L>
where
    T: Send + Sync,
    E: Display,
    L: Fn() -> Result<T, E> + Send + Sync,
{
    fn reload(&self, asked: bool) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = stamps(&self.files);
        if !asked && seen.good == now {
            return;
        }
        match (self.load)() {
            Ok(value) => {
                *seen = Seen {
                    good: now,
                    bad: None,
                };
                self.current.send_replace(Arc::new(value));
                tracing::info!("{}: read again", self.name);
            }
            Err(error) => {
                let bad = Some((now, error.to_string()));
                if asked || seen.bad != bad {
                    tracing::error!(
                        %error,
                        "{}: changed, but cannot be used; what was read before stays in force",
                        self.name
                    );
                }
                seen.bad = bad;
            }
        }
    }
}

/// Looks after all that can be read again.
#[derive(Clone, Default)]
pub(crate) struct Reloader(Arc<Vec<Arc<dyn Reload>>>);

impl Reloader {
    pub(crate) fn new(watched: Vec<Arc<dyn Reload>>) -> Self {
        Self(Arc::new(watched))
    }

    /// Reads everything again, or what has changed.
    pub(crate) async fn reload(&self, asked: bool) {
        let all = Arc::clone(&self.0);
        let reading = tokio::task::spawn_blocking(move || {
            for one in &*all {
                one.reload(asked);
            }
        });
        if let Err(error) = reading.await {
            tracing::error!(%error, "reading files again failed");
        }
    }

    /// Looks for changes until `stop`.
    pub(crate) async fn run(self, every: Duration, stop: CancellationToken) {
        if self.0.is_empty() {
            return;
        }
        while stop
            .run_until_cancelled(tokio::time::sleep(every))
            .await
            .is_some()
        {
            self.reload(false).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn a_changed_file_is_read_and_a_wrong_one_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("number");
        fs::write(&file, "1").unwrap();
        let path = file.clone();
        let load = move || -> Result<u32, String> {
            let text = fs::read_to_string(&path).map_err(|error| error.to_string())?;
            text.parse().map_err(|_| "no number".to_owned())
        };
        let (reloaded, latest) = Reloaded::open("--number", vec![file.clone()], load).unwrap();
        let after = |contents: Option<&str>, asked| {
            match contents {
                Some(contents) => fs::write(&file, contents).unwrap(),
                None => fs::remove_file(&file).unwrap(),
            }
            reloaded.reload(asked);
            *latest.get()
        };
        assert_eq!(after(Some("22"), false), 22);
        assert_eq!(after(Some("x"), false), 22);
        assert_eq!(after(None, false), 22);
        assert_eq!(after(Some("333"), false), 333);
        assert_eq!(after(Some("444"), true), 444);
    }

    #[test]
    fn a_file_that_could_not_be_read_once_is_read_at_the_next_look() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("word");
        fs::write(&file, "old").unwrap();
        let (path, broken) = (file.clone(), Arc::new(AtomicBool::new(false)));
        let fails = Arc::clone(&broken);
        let load = move || match fails.load(Ordering::Relaxed) {
            true => Err("too many open files".to_owned()),
            false => fs::read_to_string(&path).map_err(|error| error.to_string()),
        };
        let (reloaded, latest) = Reloaded::open("--word", vec![file.clone()], load).unwrap();
        fs::write(&file, "newer").unwrap();
        broken.store(true, Ordering::Relaxed);
        for _ in 0..2 {
            reloaded.reload(false);
            assert_eq!(*latest.get(), "old");
        }
        broken.store(false, Ordering::Relaxed);
        reloaded.reload(false);
        assert_eq!(*latest.get(), "newer");
        assert!(reloaded.seen.lock().unwrap().bad.is_none());
    }
}

//! Grouped commit: many callers wait for one sync.
//!
//! A caller that finds no sync under way runs one for everybody who has written before it began;
//! those who come later wait for the next. A failed sync cannot be repeated (the kernel may have
//! dropped the pages and forgotten), so it fails everything from then on.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::StoreError;

/// Orders writes and syncs.
#[derive(Debug, Default)]
pub(super) struct GroupCommit {
    progress: Mutex<Progress>,
    synced: Condvar,
}

#[derive(Debug, Default)]
struct Progress {
    written: u64,
    durable: u64,
    syncing: bool,
    failed: Option<String>,
}

impl GroupCommit {
    /// Runs `write`, which must be short, and counts it. Nobody finds what it wrote without finding
    /// that it is not durable yet.
    pub(super) fn write(&self, write: impl FnOnce()) {
        let mut progress = self.lock();
        write();
        progress.written += 1;
    }

    /// Refuses to go on after a failure.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        self.lock().check()
    }

    /// Returns once everything written so far is durable.
    pub(super) fn settle(
        &self,
        sync: impl Fn() -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut progress = self.lock();
        let target = progress.written;
        loop {
            progress.check()?;
            if progress.durable >= target {
                return Ok(());
            }
            if progress.syncing {
                progress = self
                    .synced
                    .wait(progress)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            progress.syncing = true;
            let covered = progress.written;
            drop(progress);
            let mut under_way = Syncing {
                commit: self,
                outcome: Err("the database panicked".into()),
            };
            let outcome = sync();
            under_way.outcome = outcome.map(|()| covered).map_err(|error| error.to_string());
            drop(under_way);
            progress = self.lock();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A sync under way. A panic in it is a failure like any other: those who wait must hear of it, and
/// nobody may go on as if nothing had been.
struct Syncing<'a> {
    commit: &'a GroupCommit,
    /// How much is durable, or why it is not.
    outcome: Result<u64, String>,
}

impl Drop for Syncing<'_> {
    fn drop(&mut self) {
        let mut progress = self.commit.lock();
        progress.syncing = false;
        match &mut self.outcome {
            Ok(covered) => progress.durable = *covered,
            Err(error) => progress.failed = Some(std::mem::take(error)),
        }
        self.commit.synced.notify_all();
    }
}

impl Progress {
    fn check(&self) -> Result<(), StoreError> {
        match &self.failed {
            Some(error) => Err(StoreError::Failed(error.clone())),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU64, Ordering},
        thread,
        time::Duration,
    };

    use super::*;

    #[test]
    fn concurrent_writers_share_syncs() {
        let commit = GroupCommit::default();
        let syncs = AtomicU64::new(0);
        thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    for _ in 0..4 {
                        commit.write(|| {});
                        let sync = || {
                            syncs.fetch_add(1, Ordering::SeqCst);
                            thread::sleep(Duration::from_millis(2));
                            Ok(())
                        };
                        commit.settle(sync).unwrap();
                    }
                });
            }
        });
        let syncs = syncs.into_inner();
        assert!((1..48).contains(&syncs), "{syncs} syncs for 64 writes");
        commit.settle(|| panic!("nothing is left to sync")).unwrap();
    }

    #[test]
    fn what_can_be_read_is_known_to_be_written() {
        let commit = GroupCommit::default();
        let synced = AtomicU64::new(0);
        let value = AtomicU64::new(0);
        thread::scope(|scope| {
            commit.write(|| {
                value.store(7, Ordering::SeqCst);
                let reader = scope.spawn(|| {
                    let read = value.load(Ordering::SeqCst);
                    let sync = || {
                        synced.store(value.load(Ordering::SeqCst), Ordering::SeqCst);
                        Ok(())
                    };
                    commit.settle(sync).unwrap();
                    assert_eq!(read, 7);
                    // Else a crash could undo what the reader tells.
                    assert_eq!(synced.load(Ordering::SeqCst), read);
                });
                // The reader has read, and settles while this write is not counted yet.
                thread::sleep(Duration::from_millis(20));
                assert!(!reader.is_finished());
            });
        });
    }

    #[test]
    fn a_failed_sync_fails_everything_after_it() {
        let commit = GroupCommit::default();
        commit.write(|| {});
        let failed = commit.settle(|| Err(StoreError::Failed("disk gone".into())));
        assert!(matches!(failed, Err(StoreError::Failed(_))));
        assert!(matches!(
            commit.settle(|| Ok(())),
            Err(StoreError::Failed(_))
        ));
        assert!(commit.check().is_err());
    }
}

//! Who is waiting for what: long polls for tasks, watchers for events. Nobody polls the store.
//!
//! Only tells that something changed; what did is read from the store, so that a signal too many
//! is harmless.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, watch};

use crate::{
    job::JobId,
    store::{Changes, Hint},
};

/// Waiting workers woken for one change. Each that finds work wakes the next while there is more.
const MAX_WOKEN: usize = 64;

#[derive(Debug, Default)]
pub(crate) struct Wakeups {
    queue: Notify,
    jobs: Mutex<HashMap<JobId, watch::Sender<()>>>,
}

impl Wakeups {
    /// Wakes those whom `changes` concern.
    pub(crate) fn announce(&self, changes: &Changes) {
        self.wake(&changes.jobs, changes.queued);
    }

    /// Wakes those whom the changes of another server may concern.
    pub(crate) fn heed(&self, hint: &Hint) {
        match hint {
            Hint::Changed { jobs, queued } => self.wake(jobs, *queued),
            Hint::Anything => {
                let watched: Vec<_> = self.watched().keys().copied().collect();
                self.wake(&watched, MAX_WOKEN);
            }
        }
    }

    fn wake(&self, jobs: &[JobId], queued: usize) {
        for _ in 0..queued.min(MAX_WOKEN) {
            self.queue.notify_one();
        }
        let watched = self.watched();
        for job in jobs {
            if let Some(sender) = watched.get(job) {
                sender.send_replace(());
            }
        }
    }

    /// Wakes one more worker: tasks are left.
    pub(crate) fn more_tasks(&self) {
        self.queue.notify_one();
    }

    /// The signal that tasks were queued. Enable it before looking, await it after.
    pub(crate) fn queue(&self) -> &Notify {
        &self.queue
    }

    /// Subscribes to a job's events.
    pub(crate) fn subscribe(self: &Arc<Self>, job: JobId) -> Subscription {
        let receiver = self.watched().entry(job).or_default().subscribe();
        Subscription {
            wakeups: Arc::clone(self),
            job,
            receiver,
        }
    }

    fn watched(&self) -> MutexGuard<'_, HashMap<JobId, watch::Sender<()>>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One watcher of one job.
#[derive(Debug)]
pub(crate) struct Subscription {
    wakeups: Arc<Wakeups>,
    job: JobId,
    receiver: watch::Receiver<()>,
}

impl Subscription {
    /// Returns after the next change, at once if there was one since the last call.
    pub(crate) async fn changed(&mut self) {
        // The sender lives as long as a receiver does.
        if self.receiver.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut watched = self.wakeups.watched();
        // This receiver still counts.
        if watched
            .get(&self.job)
            .is_some_and(|sender| sender.receiver_count() <= 1)
        {
            watched.remove(&self.job);
        }
    }
}

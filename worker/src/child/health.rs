//! What an ops port is told of the processes that run tasks.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// A process that has not answered for this long is ended; so should be a worker that has not looked
/// after its processes for as long.
pub(super) const DEAF: Duration = Duration::from_secs(30);

/// How the processes are, as the thread last found them.
#[derive(Debug, Default)]
pub(crate) struct Health {
    found: Mutex<Option<Found>>,
}

/// What was found, and when.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) when: Instant,
    /// One that does not answer.
    pub(super) silent: Option<String>,
    /// One that cannot be ended.
    pub(super) undying: Option<String>,
}

impl Health {
    /// Why no work should be sent here.
    pub(crate) fn ready(&self) -> Result<(), String> {
        self.look(|found| found.silent.clone())
    }

    /// Why this worker should be started anew.
    pub(crate) fn alive(&self) -> Result<(), String> {
        self.look(|found| match found.when.elapsed() {
            age if age > DEAF => Some(format!(
                "the processes of tasks have not been looked after for {} s",
                age.as_secs()
            )),
            _ => found.undying.clone(),
        })
    }

    pub(super) fn find(&self, found: Found) {
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
    }

    fn look(&self, wrong: impl FnOnce(&Found) -> Option<String>) -> Result<(), String> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.as_ref().and_then(wrong).map_or(Ok(()), Err)
    }
}

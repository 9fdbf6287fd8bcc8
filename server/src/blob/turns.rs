//! One upload of a digest at a time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::OwnedMutexGuard;

use super::BlobError;
use crate::digest::Digest;

/// The right to write the one upload of a digest.
pub(super) type Turn = OwnedMutexGuard<()>;

/// One lock for each digest being uploaded.
#[derive(Clone, Debug, Default)]
pub(super) struct Turns(Arc<Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>>);

impl Turns {
    /// Waits for the upload of `digest` under way, if there is one.
    pub(super) async fn take(&self, digest: Digest, patience: Duration) -> Result<Turn, BlobError> {
        let lock = {
            let mut uploads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // Locks that nobody holds or waits for are only in the map.
            uploads.retain(|_, lock| Arc::strong_count(lock) > 1);
            Arc::clone(uploads.entry(digest).or_default())
        };
        tokio::time::timeout(patience, lock.lock_owned())
            .await
            .map_err(|_| BlobError::Busy(digest))
    }
}

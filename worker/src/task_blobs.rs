//! The synchronous face of the blobs that one running task sees. It keeps pinned whatever the task
//! asked for until the task is over.

use std::{
    collections::{BTreeSet, HashMap},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, mpsc},
};

use dual16_quant::flow::{Blobs, Control, KernelRun};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::{blob_cache::Pinned, blob_store::BlobStore, digest::Digest, metrics::Metrics};

/// Blobs and cancellation of one task. Its methods block, so they are for compute threads only.
#[derive(Debug)]
pub(crate) struct TaskBlobs {
    store: Arc<BlobStore>,
    runtime: Handle,
    cancel: CancellationToken,
    metrics: Arc<Metrics>,
    pins: Mutex<HashMap<Digest, Pinned>>,
    left: Mutex<BTreeSet<Digest>>,
}

impl TaskBlobs {
    /// Transfers run on `runtime`, and end early once `cancel` is cancelled.
    pub(crate) fn new(
        store: Arc<BlobStore>,
        runtime: Handle,
        cancel: CancellationToken,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            store,
            runtime,
            cancel,
            metrics,
            pins: Mutex::default(),
            left: Mutex::default(),
        }
    }

    /// A blob whose bytes are not what the task was promised.
    pub(crate) fn damaged(&self) -> Option<Digest> {
        let pins = self.pins.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = pins.values().find(|pinned| pinned.changed())?;
        Some(*changed.digest())
    }

    /// Blobs that the task has stored on the server, so that its job keeps them.
    pub(crate) fn into_left(self) -> BTreeSet<Digest> {
        self.left
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn leave(&self, digest: Digest) -> String {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.insert(digest);
        digest.to_string()
    }

    /// Runs a future on the runtime and waits for it. Not `block_on`: that panics, or never
    /// returns, when the runtime goes away meanwhile; a dropped sender is an ordinary error.
    fn wait<T, F>(&self, work: impl FnOnce(Arc<BlobStore>) -> F) -> io::Result<T>
    where
        T: Send + 'static,
        F: Future<Output = io::Result<T>> + Send + 'static,
    {
        let (sender, receiver) = mpsc::sync_channel(1);
        let work = work(Arc::clone(&self.store));
        let cancel = self.cancel.clone();
        let moved = async move {
            let done = cancel.run_until_cancelled_owned(work).await;
            // Nobody waits any more only if the task is gone.
            let _ = sender.send(done);
        };
        self.runtime.spawn(moved.in_current_span());
        match receiver.recv() {
            Ok(Some(done)) => done,
            Ok(None) => Err(io::Error::new(
                io::ErrorKind::Interrupted,
                "the task was cancelled",
            )),
            Err(_) => Err(io::Error::new(
                io::ErrorKind::Interrupted,
                "the worker is stopping",
            )),
        }
    }
}

impl Blobs for TaskBlobs {
    fn path(&self, digest: &str) -> io::Result<PathBuf> {
        let digest = parse(digest)?;
        if let Some(pinned) = self
            .pins
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&digest)
        {
            return Ok(pinned.path().to_owned());
        }
        let pinned = self.wait(|store| async move { store.fetch(&digest).await })?;
        let path = pinned.path().to_owned();
        self.pins
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(digest, pinned);
        Ok(path)
    }

    fn put(&self, bytes: Vec<u8>) -> io::Result<String> {
        let digest = self.wait(|store| async move { store.put(bytes).await })?;
        Ok(self.leave(digest))
    }

    fn put_file(&self, file: &Path) -> io::Result<String> {
        let file = file.to_owned();
        let digest = self.wait(|store| async move { store.put_file(&file).await })?;
        Ok(self.leave(digest))
    }
}

impl Control for TaskBlobs {
    fn cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }

    fn kernel_ran(&self, run: &KernelRun) {
        self.metrics.kernel_ran(run);
    }
}

fn parse(digest: &str) -> io::Result<Digest> {
    digest
        .parse()
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
}

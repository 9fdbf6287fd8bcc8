//! The worker's blobs, here or on the server: the cache in front of the transfers. Several tasks
//! that want the same blob at once cause one download.

use std::{
    collections::HashMap,
    io::{self, Write as _},
    path::Path,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use bytes::Bytes;
use dual16_telemetry::nameless::nameless;
use tokio::task::spawn_blocking;

use crate::{
    blob_cache::{BlobCache, Found, Pinned},
    digest::Digest,
    metrics::Metrics,
    transfer::Transfer,
};

/// Shared by all tasks of a worker.
#[derive(Debug)]
pub(crate) struct BlobStore {
    cache: Arc<BlobCache>,
    transfer: Transfer,
    metrics: Arc<Metrics>,
    /// One lock for each blob being fetched; whoever gets it second finds the blob in the cache.
    flights: Mutex<HashMap<Digest, Weak<tokio::sync::Mutex<()>>>>,
}

impl BlobStore {
    pub(crate) fn new(cache: Arc<BlobCache>, transfer: Transfer, metrics: Arc<Metrics>) -> Self {
        Self {
            cache,
            transfer,
            metrics,
            flights: Mutex::default(),
        }
    }

    /// A local, verified copy, which stays until the pin is dropped.
    pub(crate) async fn fetch(&self, digest: &Digest) -> io::Result<Pinned> {
        let flight = self.flight(digest);
        let _alone = flight.lock().await;
        let (cache, wanted) = (Arc::clone(&self.cache), *digest);
        match blocking(move || cache.pin(&wanted)).await? {
            Found::Here(pinned) => {
                self.metrics.blob_hits.inc();
                return Ok(pinned);
            }
            Found::Damaged => drop(self.metrics.blob_damaged.inc()),
            Found::Nothing => {}
        }
        self.metrics.blob_misses.inc();
        let fetching = || async {
            let file = self.cache.temp_file()?.into_temp_path();
            let size = self.transfer.download(digest, &file).await?;
            Ok((file, size))
        };
        let (file, size) = self.with_room(fetching).await?;
        self.metrics.blob_received.inc_by(size);
        tracing::debug!(%digest, size, "blob fetched");
        self.cache.insert(digest, file, size)
    }

    /// All bytes of a blob.
    pub(crate) async fn read(&self, digest: &Digest) -> io::Result<Vec<u8>> {
        let pinned = self.fetch(digest).await?;
        let bytes = tokio::fs::read(pinned.path()).await?;
        match pinned.changed() {
            true => Err(damaged(digest)),
            false => Ok(bytes),
        }
    }

    /// Stores bytes on the server, and keeps a copy: a later task here often reads them.
    pub(crate) async fn put(&self, bytes: Vec<u8>) -> io::Result<Digest> {
        let size = bytes.len() as u64;
        let bytes = Bytes::from(bytes);
        let writing = || {
            let (cache, bytes) = (Arc::clone(&self.cache), bytes.clone());
            blocking(move || {
                let digest = Digest::of(&bytes);
                let mut file = cache.temp_file()?;
                file.write_all(&bytes).map_err(nameless)?;
                let pinned = cache.insert(&digest, file.into_temp_path(), size)?;
                Ok((digest, pinned))
            })
        };
        let (digest, pinned) = self.with_room(writing).await?;
        self.transfer.upload(&digest, pinned.path(), size).await?;
        self.metrics.blob_sent.inc_by(size);
        Ok(digest)
    }

    /// Stores a file's bytes on the server. Not cached: a task writes a file where bytes are many.
    pub(crate) async fn put_file(&self, file: &Path) -> io::Result<Digest> {
        let path = file.to_owned();
        let (digest, size) = blocking(move || Digest::of_file(&path)).await?;
        self.transfer.upload(&digest, file, size).await?;
        self.metrics.blob_sent.inc_by(size);
        Ok(digest)
    }

    /// Does `work`, and once more if the disk was full and dropping blobs has made room.
    async fn with_room<T, F>(&self, work: impl Fn() -> F) -> io::Result<T>
    where
        F: Future<Output = io::Result<T>>,
    {
        match work().await {
            Err(error) if is_full(&error) => {
                let cache = Arc::clone(&self.cache);
                let freed = blocking(move || Ok(cache.make_room())).await?;
                if freed == 0 {
                    return Err(error);
                }
                tracing::warn!(
                    freed,
                    "the disk is full; cached blobs are dropped to make room"
                );
                work().await
            }
            done => done,
        }
    }

    fn flight(&self, digest: &Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get(digest).and_then(Weak::upgrade) {
            return flight;
        }
        flights.retain(|_, flight| flight.strong_count() > 0);
        let flight = Arc::default();
        flights.insert(*digest, Arc::downgrade(&flight));
        flight
    }
}

/// A cached blob that somebody wrote to while it was read.
pub(crate) fn damaged(digest: &Digest) -> io::Error {
    let message = format!("the cached blob {digest} changed while it was read");
    io::Error::new(io::ErrorKind::InvalidData, message)
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Disk work, off the threads that drive the network.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    spawn_blocking(work).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake_blobs::{FakeBlobs, Fault};

    fn metrics() -> Arc<Metrics> {
        Arc::new(Metrics::new(1))
    }

    #[tokio::test]
    async fn tasks_that_want_the_same_blob_at_once_cause_one_download() {
        let blob = vec![7; 50_000];
        let digest = Digest::of(&blob);
        let (fake, transfer) = FakeBlobs::serve(blob.clone(), Fault::None).await;
        let dir = tempfile::tempdir().unwrap();
        let cache = BlobCache::open(dir.path(), 1 << 20).unwrap();
        let store = BlobStore::new(cache, transfer, metrics());
        let (a, b, c) = tokio::join!(
            store.read(&digest),
            store.read(&digest),
            store.read(&digest)
        );
        for bytes in [a, b, c] {
            assert_eq!(bytes.unwrap(), blob);
        }
        assert_eq!(fake.seen.lock().unwrap().downloads, [0]);
    }

    #[tokio::test]
    async fn a_blob_evicted_is_fetched_again_and_one_put_is_here_already() {
        let blob = vec![7; 50_000];
        let digest = Digest::of(&blob);
        let (fake, transfer) = FakeBlobs::serve(blob.clone(), Fault::None).await;
        let dir = tempfile::tempdir().unwrap();
        let store = BlobStore::new(
            BlobCache::open(dir.path(), 60_000).unwrap(),
            transfer,
            metrics(),
        );
        assert_eq!(store.read(&digest).await.unwrap(), blob);
        let put = store.put(vec![8; 50_000]).await.unwrap();
        assert_eq!(store.read(&put).await.unwrap(), vec![8; 50_000]);
        assert_eq!(store.read(&digest).await.unwrap(), blob);
        assert_eq!(fake.seen.lock().unwrap().downloads, [0, 0]);
    }

    #[tokio::test]
    async fn a_full_disk_is_tried_once_more_if_the_cache_could_make_room() {
        let (_fake, transfer) = FakeBlobs::serve(Vec::new(), Fault::None).await;
        let dir = tempfile::tempdir().unwrap();
        let cache = BlobCache::open(dir.path(), 1 << 20).unwrap();
        let store = BlobStore::new(Arc::clone(&cache), transfer, metrics());
        let tries = std::cell::Cell::new(0);
        // The disk is full as long as the cache has anything.
        let work = || async {
            tries.set(tries.get() + 1);
            match cache.bytes() {
                0 => Ok(()),
                _ => Err(io::Error::from(io::ErrorKind::StorageFull)),
            }
        };
        store.put(vec![7; 1000]).await.unwrap();
        store.with_room(work).await.unwrap();
        assert_eq!((tries.take(), cache.bytes()), (2, 0));
        let never = || async {
            tries.set(tries.get() + 1);
            io::Result::<()>::Err(io::ErrorKind::StorageFull.into())
        };
        let error = store.with_room(never).await.unwrap_err();
        assert_eq!((tries.get(), error.kind()), (1, io::ErrorKind::StorageFull));
    }

    #[tokio::test]
    async fn wrong_bytes_never_reach_the_cache() {
        let blob = vec![7; 50_000];
        let (_, transfer) = FakeBlobs::serve(blob.clone(), Fault::Corrupt).await;
        let dir = tempfile::tempdir().unwrap();
        let store = BlobStore::new(
            BlobCache::open(dir.path(), 1 << 20).unwrap(),
            transfer,
            metrics(),
        );
        let error = store.fetch(&Digest::of(&blob)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        for folder in ["blobs", "tmp"] {
            let left = std::fs::read_dir(dir.path().join(folder)).unwrap();
            assert_eq!(left.count(), 0, "{folder}");
        }
    }
}

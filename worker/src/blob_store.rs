//! The worker's blobs, here or on the server: the cache in front of the transfers. Several tasks
//! that want the same blob at once cause one download.

use std::{
    collections::HashMap,
    io::{self, Write as _},
    path::Path,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use bytes::Bytes;
use dual16_rpc::Connection;
use dual16_telemetry::nameless::nameless;
use tokio::task::spawn_blocking;

use crate::{
    blob_cache::{BlobCache, Found, Pinned},
    digest::Digest,
    metrics::Metrics,
    transfer,
};

/// Shared by all tasks of a worker.
#[derive(Debug)]
pub(crate) struct BlobStore {
    cache: Arc<BlobCache>,
    connection: Connection,
    metrics: Arc<Metrics>,
    /// One lock for each blob being fetched; whoever gets it second finds the blob in the cache.
    flights: Mutex<HashMap<Digest, Weak<tokio::sync::Mutex<()>>>>,
}

impl BlobStore {
    pub(crate) fn new(
        cache: Arc<BlobCache>,
        connection: Connection,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            cache,
            connection,
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
            let size = transfer::download(&self.connection, digest, &file).await?;
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
        transfer::upload(&self.connection, &digest, pinned.path(), size).await?;
        self.metrics.blob_sent.inc_by(size);
        Ok(digest)
    }

    /// Stores a file's bytes on the server. Not cached: a task writes a file where bytes are many.
    pub(crate) async fn put_file(&self, file: &Path) -> io::Result<Digest> {
        let path = file.to_owned();
        let (digest, size) = blocking(move || Digest::of_file(&path)).await?;
        transfer::upload(&self.connection, &digest, file, size).await?;
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
    use dual16_rpc::{Address, credentials::Credentials};
    use dual16_server::{RunningServer, ServerOptions};
    use tempfile::TempDir;
    use tokio::net::TcpListener;

    use super::*;
    use crate::link::Link;

    struct Fixture {
        store: BlobStore,
        cache: Arc<BlobCache>,
        metrics: Arc<Metrics>,
        dir: TempDir,
        _server: RunningServer,
    }

    /// A store whose cache keeps so many bytes, and the server behind it.
    async fn fixture(cache_bytes: u64) -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = listener.local_addr().unwrap().to_string();
        let options = ServerOptions::new(dir.path().join("server"));
        let server = dual16_server::start(options, listener).await.unwrap();
        let address = Address::new(&url, &Credentials::default(), || None).unwrap();
        let connection = Connection::new(&address, Arc::new(Link::new(&url)));
        let cache = BlobCache::open(&dir.path().join("cache"), cache_bytes).unwrap();
        let metrics = Arc::new(Metrics::new(1));
        Fixture {
            store: BlobStore::new(Arc::clone(&cache), connection, Arc::clone(&metrics)),
            cache,
            metrics,
            dir,
            _server: server,
        }
    }

    #[tokio::test]
    async fn tasks_that_want_the_same_blob_at_once_cause_one_download() {
        let it = fixture(1 << 20).await;
        let blob = vec![7; 50_000];
        let digest = it.store.put(blob.clone()).await.unwrap();
        it.cache.make_room();
        let (a, b, c) = tokio::join!(
            it.store.read(&digest),
            it.store.read(&digest),
            it.store.read(&digest)
        );
        for bytes in [a, b, c] {
            assert_eq!(bytes.unwrap(), blob);
        }
        assert_eq!(it.metrics.blob_misses.get(), 1);
        assert_eq!(it.metrics.blob_received.get(), 50_000);
    }

    #[tokio::test]
    async fn a_blob_evicted_is_fetched_again_and_one_put_is_here_already() {
        let it = fixture(60_000).await;
        let blob = vec![7; 50_000];
        let digest = it.store.put(blob.clone()).await.unwrap();
        let put = it.store.put(vec![8; 50_000]).await.unwrap();
        assert_eq!(it.store.read(&put).await.unwrap(), vec![8; 50_000]);
        assert_eq!(it.metrics.blob_misses.get(), 0);
        assert_eq!(it.store.read(&digest).await.unwrap(), blob);
        assert_eq!(it.metrics.blob_misses.get(), 1);
    }

    #[tokio::test]
    async fn a_full_disk_is_tried_once_more_if_the_cache_could_make_room() {
        let Fixture { store, cache, .. } = &fixture(1 << 20).await;
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
    async fn what_does_not_come_across_leaves_nothing_in_the_cache() {
        let it = fixture(1 << 20).await;
        let error = it.store.fetch(&Digest::of(b"nowhere")).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        for folder in ["blobs", "tmp"] {
            let left = std::fs::read_dir(it.dir.path().join("cache").join(folder)).unwrap();
            assert_eq!(left.count(), 0, "{folder}");
        }
    }
}

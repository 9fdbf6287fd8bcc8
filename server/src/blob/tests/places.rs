//! Places of blobs as the suite has them: with means to spoil what is stored and to let time pass.

use std::{collections::HashSet, fs, io, sync::Mutex, time::Duration};

use object_store::{ObjectStore, ObjectStoreExt as _, path::Path};

use super::*;
use crate::{
    clock::{ManualClock, Timestamp},
    server::StoreUses,
    store::{Embedded, MemoryEngine, testing},
};

#[async_trait]
pub(super) trait Backend: Send + Sync {
    fn blobs(&self) -> Arc<dyn BlobStore>;

    /// Flips a bit of what is stored.
    async fn damage(&self, digest: Digest, at: usize);
}

/// Uses of blobs that jobs keep without there being any.
struct Kept {
    inner: StoreUses,
    kept: Mutex<HashSet<Digest>>,
}

impl Kept {
    fn new(clock: Arc<ManualClock>) -> Arc<Self> {
        let store = testing::open(MemoryEngine::default(), Duration::from_secs(30));
        let store = Arc::new(Embedded::new(store));
        Arc::new(Self {
            inner: StoreUses { store, clock },
            kept: Mutex::default(),
        })
    }

    fn without_kept(&self, mut digests: Vec<Digest>) -> Vec<Digest> {
        let kept = self.kept.lock().unwrap();
        digests.retain(|digest| !kept.contains(digest));
        digests
    }
}

#[async_trait]
impl Uses for Kept {
    async fn unreferenced(&self, blobs: &[Digest]) -> io::Result<Vec<Digest>> {
        Ok(self.without_kept(self.inner.unreferenced(blobs).await?))
    }

    async fn note(&self, blobs: &[Digest]) -> io::Result<()> {
        self.inner.note(blobs).await
    }

    async fn unused(&self, blobs: &[Digest], grace: Duration) -> io::Result<Vec<Digest>> {
        Ok(self.without_kept(self.inner.unused(blobs, grace).await?))
    }

    async fn remove(
        &self,
        blob: Digest,
        grace: Option<Duration>,
        removal: Removal,
    ) -> io::Result<bool> {
        self.inner.remove(blob, grace, removal).await
    }

    async fn forget(&self, age: Duration) -> io::Result<()> {
        self.inner.forget(age).await
    }
}

/// Files.
pub(super) struct Local {
    _directory: tempfile::TempDir,
    blobs: Arc<LocalBlobs>,
}

impl Local {
    pub(super) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self {
            blobs: Arc::new(LocalBlobs::open(directory.path()).unwrap()),
            _directory: directory,
        }
    }
}

#[async_trait]
impl Backend for Local {
    fn blobs(&self) -> Arc<dyn BlobStore> {
        Arc::clone(&self.blobs) as _
    }

    async fn damage(&self, digest: Digest, at: usize) {
        let path = self.blobs.path_of(digest);
        let mut bytes = fs::read(&path).unwrap();
        bytes[at] ^= 4;
        fs::write(path, bytes).unwrap();
    }
}

/// A part of the bucket that `./test` makes, of its own.
pub(super) struct S3 {
    pub(super) objects: Arc<dyn ObjectStore>,
    pub(super) prefix: Path,
    pub(super) blobs: Arc<ObjectBlobs>,
    uses: Arc<Kept>,
    clock: Arc<ManualClock>,
}

impl S3 {
    pub(super) async fn new() -> Self {
        let url = std::env::var("DUAL16_TEST_S3").expect(
            "DUAL16_TEST_S3 must be the URL of a bucket for tests, s3://BUCKET, with its AWS_* variables; ./test starts a server that has one",
        );
        let url = format!("{url}/{}", uuid::Uuid::new_v4().simple());
        let Ok(Place::Bucket(bucket)) = url.parse() else {
            panic!("DUAL16_TEST_S3 is no bucket: {url}");
        };
        let objects = bucket.connect().await.unwrap();
        Self::over(objects, bucket.prefix().clone())
    }

    pub(super) fn over(objects: Arc<dyn ObjectStore>, prefix: Path) -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000)));
        let uses = Kept::new(Arc::clone(&clock));
        // S3 wants no less of a part.
        let part_bytes = 5 << 20;
        let blobs = ObjectBlobs::for_test(
            Arc::clone(&objects),
            prefix.clone(),
            Arc::clone(&uses) as _,
            part_bytes,
        );
        Self {
            objects,
            prefix,
            blobs: Arc::new(blobs),
            uses,
            clock,
        }
    }
}

impl S3 {
    pub(super) fn uses(&self) -> Arc<dyn Uses> {
        Arc::clone(&self.uses) as _
    }

    /// As if a job kept it.
    pub(super) fn keep(&self, digest: Digest) {
        self.uses.kept.lock().unwrap().insert(digest);
    }

    /// Nobody uses any for so long.
    pub(super) fn pass(&self, time: Duration) {
        self.clock.advance(time);
    }
}

#[async_trait]
impl Backend for S3 {
    fn blobs(&self) -> Arc<dyn BlobStore> {
        Arc::clone(&self.blobs) as _
    }

    async fn damage(&self, digest: Digest, at: usize) {
        let key = self.blobs.key_of(digest);
        let bytes = self.objects.get(&key).await.unwrap().bytes().await.unwrap();
        let mut bytes = bytes.to_vec();
        bytes[at] ^= 4;
        self.objects.put(&key, bytes.into()).await.unwrap();
    }
}

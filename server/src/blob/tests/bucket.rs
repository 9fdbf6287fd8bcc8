//! What only an object store has: parts, uses that are kept elsewhere, a server that is killed.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
};

use object_store::{ObjectStore, ObjectStoreExt as _, RetryConfig, aws::AmazonS3Builder};

use super::*;

const GRACE: Duration = Duration::from_secs(86_400);
const MIB: usize = 1 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_of_many_parts_goes_on_from_wherever_the_sender_likes() {
    let s3 = S3::new().await;
    let blobs = s3.blobs();
    let all = data(13 * MIB + 5);
    let (digest, size) = (Digest::of(&all), all.len() as u64);
    let chunks = |from: usize, to: usize| -> Vec<Bytes> {
        let starts = (from..to).step_by(MIB);
        starts.map(|at| all.slice(at..to.min(at + MIB))).collect()
    };
    drop(send(&*blobs, digest, size, 0, &chunks(0, 7 * MIB)).await);
    committed(&*blobs, digest, 7 * MIB).await;
    // Less than what waits for its part to fill, less than what was sent, all there is.
    for (offset, end) in [(6 * MIB, 8 * MIB), (3 * MIB, 9 * MIB), (9 * MIB, 12 * MIB)] {
        drop(send(&*blobs, digest, size, offset, &chunks(offset, end)).await);
        committed(&*blobs, digest, end).await;
    }
    assert_eq!(
        blobs.size(digest).await.unwrap(),
        None,
        "half a blob must not exist"
    );
    let upload = send(
        &*blobs,
        digest,
        size,
        12 * MIB,
        &chunks(12 * MIB, all.len()),
    )
    .await;
    upload.finish().await.unwrap();
    assert_eq!(blobs.size(digest).await.unwrap(), Some(size));
    assert_eq!(read_all(&*blobs, digest, 0).await, all);
    assert_eq!(
        read_all(&*blobs, digest, size - 3).await,
        all.slice(all.len() - 3..)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_with_the_wrong_digest_make_no_object() {
    let s3 = S3::new().await;
    let blobs = s3.blobs();
    let all = data(11 * MIB);
    let digest = Digest::of(b"another");
    let refused = send(
        &*blobs,
        digest,
        all.len() as u64,
        0,
        std::slice::from_ref(&all),
    )
    .await
    .finish()
    .await;
    assert!(
        matches!(refused, Err(BlobError::DigestMismatch { .. })),
        "{refused:?}"
    );
    assert_eq!(blobs.size(digest).await.unwrap(), None);
    assert_eq!(blobs.committed(digest).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_old_and_needed_by_nobody_goes() {
    let s3 = S3::new().await;
    let blobs = s3.blobs();
    let mut digests = Vec::new();
    for bytes in [&b"kept"[..], b"old one", b"asked for", b"sent again"] {
        digests.push(store(&*blobs, Bytes::from_static(bytes)).await.unwrap());
    }
    let (kept, old, asked_for) = (digests[0], digests[1], digests[2]);
    s3.keep(kept);
    // One that a server has not noted any more, between the PUT and the note, gets its grace.
    let unnoted = Digest::of(b"unnoted");
    let key = s3.blobs.key_of(unnoted);
    s3.objects
        .put(&key, Bytes::from_static(b"unnoted").into())
        .await
        .unwrap();
    let stranger = s3.prefix.clone().join("sha256").join("README");
    s3.objects
        .put(&stranger, Bytes::from_static(b"of somebody").into())
        .await
        .unwrap();
    let collect = async || blobs.collect(GRACE, s3.uses()).await.unwrap();
    s3.pass(GRACE / 2);
    assert_eq!(collect().await.removed, 0);
    s3.pass(GRACE - Duration::from_secs(1));
    store(&*blobs, Bytes::from_static(b"sent again"))
        .await
        .unwrap();
    store(&*blobs, Bytes::from_static(b"young")).await.unwrap();
    assert_eq!(blobs.renew(vec![asked_for]).await.unwrap(), [Some(9)]);
    assert_eq!(blobs.count().await.unwrap(), 4 + 7 + 9 + 10 + 7 + 5);
    let swept = collect().await;
    assert_eq!((swept.blobs, swept.bytes), (5, 4 + 9 + 10 + 7 + 5));
    assert_eq!((swept.removed, swept.removed_bytes), (1, 7));
    assert_eq!(blobs.sizes(vec![old, kept]).await.unwrap(), [None, Some(4)]);
    // And it can come back.
    assert_eq!(
        store(&*blobs, Bytes::from_static(b"old one"))
            .await
            .unwrap(),
        old
    );
    s3.pass(Duration::from_secs(2));
    assert_eq!(collect().await.removed, 1, "the one that was not noted");
    assert!(s3.objects.head(&stranger).await.is_ok());
}

/// A server of its own, which can be killed.
struct Killable {
    folder: tempfile::TempDir,
    child: Child,
    url: String,
}

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/python/s3_server.py");

fn script(command: &str, folder: &Path) -> Command {
    let python = std::env::var("DUAL16_TEST_PYTHON").expect(
        "DUAL16_TEST_PYTHON must be a Python with tests/python/requirements.txt; ./test makes one",
    );
    let mut script = Command::new(python);
    script.arg(SCRIPT).arg(command).arg(folder);
    script
}

impl Killable {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (child, url) = Self::run(folder.path());
        Self { folder, child, url }
    }

    fn run(folder: &Path) -> (Child, String) {
        let mut run = script("run", folder);
        let child = run
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let waited = script("wait", folder).output().unwrap();
        assert!(waited.status.success(), "{waited:?}");
        let url = String::from_utf8(waited.stdout).unwrap();
        (child, url.trim().to_owned())
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Killable {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Uploads blobs of its own, small and of several parts, until `stop`. Those that were acknowledged.
async fn upload_until(
    blobs: Arc<dyn BlobStore>,
    seed: usize,
    stop: Arc<AtomicBool>,
    failed: Arc<AtomicU32>,
) -> Vec<Digest> {
    let mut stored = Vec::new();
    for number in 0.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let len = [100, 300_000, 6 * MIB][number % 3];
        let bytes: Vec<u8> = (0..len).map(|i| (i * (seed + 1) + number) as u8).collect();
        match store(
            &*blobs,
            [&bytes[..], &seed.to_le_bytes(), &number.to_le_bytes()]
                .concat()
                .into(),
        )
        .await
        {
            Ok(digest) => stored.push(digest),
            Err(error) => {
                assert!(error.retryable(), "{error}");
                failed.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
    stored
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_outlives_kills_of_the_object_store() {
    let mut server = tokio::task::spawn_blocking(Killable::start).await.unwrap();
    let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
    let objects = AmazonS3Builder::new()
        .with_endpoint(&server.url)
        .with_allow_http(true)
        .with_bucket_name("dual16-test")
        .with_access_key_id("dual16")
        .with_secret_access_key("dual16-secret")
        .with_retry(RetryConfig {
            max_retries: 1,
            ..RetryConfig::default()
        });
    let objects: Arc<dyn ObjectStore> = Arc::new(objects.build().unwrap());
    let s3 = S3::over(objects, "kills".into());
    let (stop, failed) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU32::new(0)),
    );
    let uploading: Vec<_> = (0..4)
        .map(|seed| {
            let (stop, failed) = (Arc::clone(&stop), Arc::clone(&failed));
            tokio::spawn(upload_until(s3.blobs(), seed, stop, failed))
        })
        .collect();
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        server = tokio::task::spawn_blocking(move || {
            server.kill();
            (server.child, _) = Killable::run(server.folder.path());
            server
        })
        .await
        .unwrap();
    }
    tokio::time::sleep(Duration::from_millis(1500)).await;
    stop.store(true, Ordering::SeqCst);
    let mut stored = 0;
    for uploading in uploading {
        for digest in uploading.await.unwrap() {
            let bytes = read_all(&*s3.blobs(), digest, 0).await;
            assert_eq!(Digest::of(&bytes), digest);
            stored += 1;
        }
    }
    assert!(stored > 20, "only {stored} were stored");
    assert!(failed.load(Ordering::SeqCst) > 0, "no upload met a kill");
}

//! Blobs on disk: resumed, refused, concurrent.

use std::{fs, sync::Arc, time::Duration};

use dual16_rpc::blob::CHUNK_BYTES;
use tokio_stream::StreamExt as _;

use super::*;

/// Nothing here takes longer.
const PATIENCE: Duration = Duration::from_secs(5);

struct Fixture {
    directory: tempfile::TempDir,
    blobs: Arc<LocalBlobs>,
}

fn fixture() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let blobs = Arc::new(LocalBlobs::open(directory.path()).unwrap());
    Fixture { directory, blobs }
}

fn data(len: usize) -> Bytes {
    (0..len).map(|i| (i % 251) as u8).collect()
}

async fn read_all(blobs: &LocalBlobs, digest: Digest, offset: u64) -> Vec<u8> {
    let mut reader = blobs.read(digest, offset).await.unwrap();
    let mut bytes = Vec::new();
    while let Some(chunk) = reader.pieces.next().await {
        let chunk = chunk.unwrap();
        assert!(chunk.len() <= CHUNK_BYTES);
        bytes.extend(chunk);
    }
    bytes
}

fn files(directory: &std::path::Path) -> usize {
    fs::read_dir(directory).unwrap().count()
}

#[tokio::test]
async fn an_interrupted_upload_goes_on_where_it_was() {
    let Fixture { directory, blobs } = fixture();
    let all = data(3 * CHUNK_BYTES + 17);
    let (digest, size) = (Digest::of(&all), all.len() as u64);
    let mut upload = blobs.begin(digest, size, 0).await.unwrap().unwrap();
    upload.write(all.slice(..CHUNK_BYTES)).await.unwrap();
    upload
        .write(all.slice(CHUNK_BYTES..2 * CHUNK_BYTES))
        .await
        .unwrap();
    drop(upload);
    assert_eq!(
        blobs.size(digest).await.unwrap(),
        None,
        "half a blob must not exist"
    );
    // What was taken is written in the background.
    let committed = 2 * CHUNK_BYTES as u64;
    while blobs.committed(digest).await.unwrap() < committed {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    // A restarted server knows as much. Going on from less than all is fine too.
    let blobs = LocalBlobs::open(directory.path()).unwrap();
    let beyond = blobs.begin(digest, size, committed + 1).await.err();
    assert!(
        matches!(beyond, Some(BlobError::OffsetOutOfRange { .. })),
        "{beyond:?}"
    );
    let offset = CHUNK_BYTES + 5;
    let mut upload = blobs
        .begin(digest, size, offset as u64)
        .await
        .unwrap()
        .unwrap();
    upload.write(all.slice(offset..)).await.unwrap();
    upload.finish().await.unwrap();
    assert_eq!(blobs.size(digest).await.unwrap(), Some(size));
    assert_eq!(read_all(&blobs, digest, 0).await, all);
    assert_eq!(
        read_all(&blobs, digest, size - 3).await,
        all.slice(all.len() - 3..)
    );
    assert_eq!(read_all(&blobs, digest, size).await, b"");
    let beyond = blobs.read(digest, size + 1).await.err();
    assert!(
        matches!(beyond, Some(BlobError::OffsetOutOfRange { .. })),
        "{beyond:?}"
    );
    assert_eq!(files(&directory.path().join("uploads")), 0);
    assert!(
        blobs.begin(digest, size, 0).await.unwrap().is_none(),
        "it is stored already"
    );
}

#[tokio::test]
async fn bytes_that_do_not_match_their_name_leave_nothing() {
    let Fixture { directory, blobs } = fixture();
    let digest = Digest::of(b"what was promised");
    let mut upload = blobs.begin(digest, 7, 0).await.unwrap().unwrap();
    upload.write(Bytes::from_static(b"garbage")).await.unwrap();
    let refused = upload.finish().await;
    assert!(
        matches!(refused, Err(BlobError::DigestMismatch { found, .. })
        if found == Digest::of(b"garbage"))
    );
    assert_eq!(blobs.sizes(vec![digest]).await.unwrap(), [None]);
    assert_eq!(blobs.committed(digest).await.unwrap(), 0);
    assert_eq!(files(&directory.path().join("uploads")), 0);
    assert!(matches!(
        blobs.read(digest, 0).await,
        Err(BlobError::NotFound(_))
    ));
}

#[tokio::test]
async fn an_upload_has_exactly_its_declared_size() {
    let Fixture {
        directory: _directory,
        blobs,
    } = fixture();
    let digest = Digest::of(b"four");
    let mut upload = blobs.begin(digest, 4, 0).await.unwrap().unwrap();
    upload.write(Bytes::from_static(b"fo")).await.unwrap();
    let refused = upload.finish().await;
    assert!(matches!(
        refused,
        Err(BlobError::Incomplete {
            written: 2,
            size: 4,
            ..
        })
    ));
    let mut upload = blobs.begin(digest, 4, 2).await.unwrap().unwrap();
    upload.write(Bytes::from_static(b"urth")).await.unwrap();
    let refused = upload.finish().await;
    assert!(matches!(refused, Err(BlobError::TooLong { size: 4, .. })));
    assert_eq!(blobs.committed(digest).await.unwrap(), 2);
    let empty = Digest::of(b"");
    blobs
        .begin(empty, 0, 0)
        .await
        .unwrap()
        .unwrap()
        .finish()
        .await
        .unwrap();
    assert_eq!(blobs.size(empty).await.unwrap(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_of_one_digest_at_once_are_safe() {
    let Fixture {
        directory: _directory,
        blobs,
    } = fixture();
    let all = data(2 * CHUNK_BYTES);
    let (digest, size) = (Digest::of(&all), all.len() as u64);
    let uploads = (0..8).map(|_| {
        let (blobs, all) = (Arc::clone(&blobs), all.clone());
        tokio::spawn(async move {
            let Some(mut upload) = blobs.begin(digest, size, 0).await? else {
                return Ok(false);
            };
            for offset in (0..all.len()).step_by(CHUNK_BYTES / 4) {
                upload
                    .write(all.slice(offset..offset + CHUNK_BYTES / 4))
                    .await?;
                tokio::task::yield_now().await;
            }
            upload.finish().await.map(|()| true)
        })
    });
    let mut stored = 0;
    for upload in uploads.collect::<Vec<_>>() {
        stored += u32::from(upload.await.unwrap().unwrap());
    }
    assert_eq!(stored, 1, "one stores it, the others find it stored");
    assert_eq!(read_all(&blobs, digest, 0).await, all);
}

#[tokio::test]
async fn the_next_uploader_goes_on_when_the_first_gives_up() {
    let Fixture {
        directory: _directory,
        blobs,
    } = fixture();
    let digest = Digest::of(b"hello");
    let mut first = blobs.begin(digest, 5, 0).await.unwrap().unwrap();
    first.write(Bytes::from_static(b"hel")).await.unwrap();
    let second = {
        let blobs = Arc::clone(&blobs);
        tokio::spawn(async move { blobs.begin(digest, 5, 3).await })
    };
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(
        !second.is_finished(),
        "there is one upload of a digest at a time"
    );
    drop(first);
    let mut second = second.await.unwrap().unwrap().unwrap();
    second.write(Bytes::from_static(b"lo")).await.unwrap();
    second.finish().await.unwrap();
    assert_eq!(read_all(&blobs, digest, 0).await, b"hello");
}

#[tokio::test]
async fn a_blob_is_found_only_once_its_name_is_durable() {
    let Fixture {
        directory: _directory,
        blobs,
    } = fixture();
    let digest = Digest::of(b"whole");
    let layout = Arc::clone(blobs.layout());
    let part = layout.part(digest);
    fs::write(&part, b"whole").unwrap();
    let shard = layout.blob(digest).parent().unwrap().to_owned();
    let (renamed, mut is_renamed) = tokio::sync::mpsc::channel(1);
    let (go_on, gone_on) = std::sync::mpsc::channel::<()>();
    let publishing = tokio::task::spawn_blocking(move || {
        layout.publish(&part, digest, |folder| {
            if folder == shard {
                renamed.blocking_send(()).unwrap();
                gone_on.recv().unwrap();
            }
            Ok(())
        })
    });
    is_renamed.recv().await.unwrap();
    let asked = {
        let blobs = Arc::clone(&blobs);
        tokio::spawn(async move { blobs.renew(vec![digest]).await })
    };
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!asked.is_finished(), "told of a blob that could still go");
    // What lies elsewhere waits for no disk of this one.
    let elsewhere = tokio::time::timeout(PATIENCE, elsewhere(&blobs, digest));
    elsewhere.await.unwrap();
    go_on.send(()).unwrap();
    publishing.await.unwrap().unwrap();
    assert_eq!(asked.await.unwrap().unwrap(), [Some(5)]);
}

/// A blob in another folder than `digest` comes to be, is found and is asked for.
async fn elsewhere(blobs: &LocalBlobs, digest: Digest) {
    let other = (0_u8..).map(|byte| vec![byte]);
    let mut other = other.filter(|data| Digest::of(data).as_bytes()[0] != digest.as_bytes()[0]);
    let stored = store(blobs, other.next().unwrap().into()).await.unwrap();
    assert_eq!(blobs.renew(vec![stored]).await.unwrap(), [Some(1)]);
}

#[tokio::test]
async fn a_name_that_cannot_be_made_durable_is_taken_back() {
    let Fixture {
        directory: _directory,
        blobs,
    } = fixture();
    let digest = Digest::of(b"whole");
    let part = blobs.layout().part(digest);
    fs::write(&part, b"whole").unwrap();
    let shards = blobs.layout().shards();
    let sync = |folder: &std::path::Path| match folder == shards {
        true => Ok(()),
        false => Err(std::io::Error::other("the disk is dying")),
    };
    assert!(blobs.layout().publish(&part, digest, sync).is_err());
    assert_eq!(blobs.size(digest).await.unwrap(), None);
    assert_eq!(blobs.committed(digest).await.unwrap(), 5);
}

#[tokio::test]
async fn an_uploader_waits_no_longer_than_it_has_patience() {
    let Fixture {
        directory: _directory,
        blobs,
    } = fixture();
    let digest = Digest::of(b"hello");
    let first = blobs.begin(digest, 5, 0).await.unwrap().unwrap();
    let patience = Duration::from_millis(20);
    let second = blobs.begin_within(digest, 5, 0, patience).await.err();
    assert!(matches!(second, Some(BlobError::Busy(_))), "{second:?}");
    drop(first);
    let second = blobs.begin_within(digest, 5, 0, PATIENCE).await;
    assert!(second.unwrap().is_some());
}

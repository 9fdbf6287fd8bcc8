//! What only files have: names that have to be made durable, parts that outlive a server.

use std::fs;

use super::*;

struct Fixture {
    directory: tempfile::TempDir,
    blobs: Arc<LocalBlobs>,
}

fn fixture() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let blobs = Arc::new(LocalBlobs::open(directory.path()).unwrap());
    Fixture { directory, blobs }
}

fn files(directory: &std::path::Path) -> usize {
    fs::read_dir(directory).unwrap().count()
}

#[tokio::test]
async fn a_restarted_server_goes_on_with_an_upload_and_leaves_nothing_beside_the_blob() {
    let Fixture { directory, blobs } = fixture();
    let all = data(3_000_000);
    let (digest, size) = (Digest::of(&all), all.len() as u64);
    let mut upload = blobs.begin(digest, size, 0).await.unwrap().unwrap();
    upload.write(all.slice(..2_000_000)).await.unwrap();
    drop(upload);
    // What was taken is written in the background.
    while blobs.committed(digest).await.unwrap() < 2_000_000 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let blobs = LocalBlobs::open(directory.path()).unwrap();
    assert_eq!(blobs.committed(digest).await.unwrap(), 2_000_000);
    let upload = blobs.begin(digest, size, 2_000_000).await.unwrap();
    let mut upload = upload.unwrap();
    upload.write(all.slice(2_000_000..)).await.unwrap();
    upload.finish().await.unwrap();
    assert_eq!(read_all(&blobs, digest, 0).await, all);
    let mut refused = blobs
        .begin(Digest::of(b"other"), 1, 0)
        .await
        .unwrap()
        .unwrap();
    refused.write(Bytes::from_static(b"x")).await.unwrap();
    assert!(refused.finish().await.is_err());
    assert_eq!(files(&directory.path().join("uploads")), 0);
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

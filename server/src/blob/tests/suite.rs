//! What holds for every place of blobs: resumed, refused, concurrent, damaged, collected.

use dual16_rpc::blob::CHUNK_BYTES;

use super::*;

pub(super) async fn an_interrupted_upload_goes_on_where_it_was(backend: &dyn Backend) {
    let blobs = backend.blobs();
    let all = data(3 * CHUNK_BYTES + 17);
    let (digest, size) = (Digest::of(&all), all.len() as u64);
    let kept = 2 * CHUNK_BYTES;
    let chunks = [all.slice(..CHUNK_BYTES), all.slice(CHUNK_BYTES..kept)];
    drop(send(&*blobs, digest, size, 0, &chunks).await);
    assert_eq!(
        blobs.size(digest).await.unwrap(),
        None,
        "half a blob must not exist"
    );
    committed(&*blobs, digest, kept).await;

    // Going on from less than all is fine too.
    let beyond = blobs.begin(digest, size, kept as u64 + 1).await.err();
    assert!(
        matches!(beyond, Some(BlobError::OffsetOutOfRange { .. })),
        "{beyond:?}"
    );
    let offset = CHUNK_BYTES + 5;
    let upload = send(&*blobs, digest, size, offset, &[all.slice(offset..)]).await;
    upload.finish().await.unwrap();
    assert_eq!(blobs.size(digest).await.unwrap(), Some(size));
    assert_eq!(read_all(&*blobs, digest, 0).await, all);
    assert_eq!(
        read_all(&*blobs, digest, size - 3).await,
        all.slice(all.len() - 3..)
    );
    assert_eq!(read_all(&*blobs, digest, size).await, b"");
    let beyond = blobs.read(digest, size + 1).await.err();
    assert!(
        matches!(beyond, Some(BlobError::OffsetOutOfRange { .. })),
        "{beyond:?}"
    );
    assert_eq!(blobs.committed(digest).await.unwrap(), 0);
    assert!(
        blobs.begin(digest, size, 0).await.unwrap().is_none(),
        "it is stored already"
    );
}

pub(super) async fn bytes_that_do_not_match_their_name_leave_nothing(backend: &dyn Backend) {
    let blobs = backend.blobs();
    let digest = Digest::of(b"what was promised");
    let garbage = [Bytes::from_static(b"garbage")];
    let refused = send(&*blobs, digest, 7, 0, &garbage).await.finish().await;
    assert!(
        matches!(refused, Err(BlobError::DigestMismatch { found, .. })
        if found == Digest::of(b"garbage"))
    );
    assert_eq!(blobs.sizes(vec![digest]).await.unwrap(), [None]);
    assert_eq!(blobs.committed(digest).await.unwrap(), 0);
    assert!(matches!(
        blobs.read(digest, 0).await,
        Err(BlobError::NotFound(_))
    ));
}

pub(super) async fn an_upload_has_exactly_its_declared_size(backend: &dyn Backend) {
    let blobs = backend.blobs();
    let digest = Digest::of(b"four");
    let half = [Bytes::from_static(b"fo")];
    let refused = send(&*blobs, digest, 4, 0, &half).await.finish().await;
    assert!(matches!(
        refused,
        Err(BlobError::Incomplete {
            written: 2,
            size: 4,
            ..
        })
    ));
    let mut upload = send(&*blobs, digest, 4, 2, &[]).await;
    let refused = match upload.write(Bytes::from_static(b"urth")).await {
        Ok(()) => upload.finish().await,
        Err(error) => {
            drop(upload);
            Err(error)
        }
    };
    assert!(matches!(refused, Err(BlobError::TooLong { size: 4, .. })));
    assert_eq!(blobs.committed(digest).await.unwrap(), 2);
    let empty = Digest::of(b"");
    let upload = send(&*blobs, empty, 0, 0, &[]).await;
    upload.finish().await.unwrap();
    assert_eq!(blobs.size(empty).await.unwrap(), Some(0));
}

pub(super) async fn uploads_of_one_digest_at_once_are_safe(backend: &dyn Backend) {
    let blobs = backend.blobs();
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
    assert_eq!(read_all(&*blobs, digest, 0).await, all);
}

pub(super) async fn the_next_uploader_goes_on_when_the_first_gives_up(backend: &dyn Backend) {
    let blobs = backend.blobs();
    let digest = Digest::of(b"hello");
    let first = send(&*blobs, digest, 5, 0, &[Bytes::from_static(b"hel")]).await;
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
    assert_eq!(read_all(&*blobs, digest, 0).await, b"hello");
}

pub(super) async fn an_uploader_waits_no_longer_than_it_has_patience(backend: &dyn Backend) {
    let blobs = backend.blobs();
    let digest = Digest::of(b"hello");
    let first = blobs.begin(digest, 5, 0).await.unwrap().unwrap();
    let patience = Duration::from_millis(20);
    let second = blobs.begin_within(digest, 5, 0, patience).await.err();
    assert!(matches!(second, Some(BlobError::Busy(_))), "{second:?}");
    drop(first);
    let second = blobs.begin_within(digest, 5, 0, PATIENCE).await;
    assert!(second.unwrap().is_some());
}

pub(super) async fn a_damaged_blob_is_never_sent_whole_and_can_be_sent_again(
    backend: &dyn Backend,
) {
    let blobs = backend.blobs();
    for (len, at, offset) in [
        (1usize, 0usize, 0u64),
        (3_000_000, 2_999_999, 0),
        (3_000_000, 5, 2_999_000),
        (3_000_000, 5, 3_000_000),
    ] {
        let data = Bytes::from(vec![len as u8; len]);
        let digest = store(&*blobs, data.clone()).await.unwrap();
        let expected = len as u64 - offset;
        assert_eq!(
            read_all(&*blobs, digest, offset).await.len() as u64,
            expected
        );
        backend.damage(digest, at).await;
        let (received, error) = read(&*blobs, digest, offset).await;
        assert!(matches!(error, Some(BlobError::Damaged(_))), "{error:?}");
        assert!((received.len() as u64) < expected.max(1));
        assert_eq!(blobs.size(digest).await.unwrap(), None);
        assert_eq!(store(&*blobs, data).await.unwrap(), digest);
        assert_eq!(
            read_all(&*blobs, digest, offset).await.len() as u64,
            expected
        );
    }
    assert_eq!(blobs.found_damaged(), 4);
}

pub(super) async fn a_walk_finds_what_nobody_reads(backend: &dyn Backend) {
    let blobs = backend.blobs();
    let mut digests = Vec::new();
    for i in 0..6_u8 {
        digests.push(store(&*blobs, vec![i; 1000].into()).await.unwrap());
    }
    // One that is damaged and sent again by somebody who was not told is whole again.
    backend.damage(digests[3], 0).await;
    backend.damage(digests[5], 999).await;
    store(&*blobs, vec![5; 1000].into()).await.unwrap();
    let found = blobs
        .scrub(u64::MAX, CancellationToken::new())
        .await
        .unwrap();
    assert_eq!((found.blobs, found.damaged), (5, 1));
    assert_eq!(blobs.size(digests[3]).await.unwrap(), None);
    let found = blobs
        .scrub(u64::MAX, CancellationToken::new())
        .await
        .unwrap();
    assert_eq!((found.blobs, found.damaged), (5, 0));
}

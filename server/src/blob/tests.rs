//! One suite for every place of blobs, and what each has of its own.

mod bucket;
mod local;
mod places;
mod suite;

use std::{sync::Arc, time::Duration};

use tokio_stream::StreamExt as _;

use self::places::{Backend, Local, S3};
use super::*;

/// Nothing here takes longer.
const PATIENCE: Duration = Duration::from_secs(5);
/// What is given out at a time, at most.
const MAX_PIECE: usize = dual16_rpc::blob::CHUNK_BYTES;

/// Declares the whole suite for one place.
macro_rules! blob_suite {
    ($place:ident: $make:expr) => {
        blob_suite!(@ $place: $make;
            an_interrupted_upload_goes_on_where_it_was,
            bytes_that_do_not_match_their_name_leave_nothing,
            an_upload_has_exactly_its_declared_size,
            uploads_of_one_digest_at_once_are_safe,
            the_next_uploader_goes_on_when_the_first_gives_up,
            an_uploader_waits_no_longer_than_it_has_patience,
            a_damaged_blob_is_never_sent_whole_and_can_be_sent_again,
            a_walk_finds_what_nobody_reads,
        );
    };
    (@ $place:ident: $make:expr; $($test:ident,)+) => {
        mod $place {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::suite::$test(&$make).await;
                }
            )+
        }
    };
}

blob_suite!(files: super::Local::new());
blob_suite!(s3: super::S3::new().await);

fn data(len: usize) -> Bytes {
    (0..len).map(|i| (i % 251) as u8).collect()
}

/// An upload that has taken these bytes from `offset` on.
async fn send(
    blobs: &dyn BlobStore,
    digest: Digest,
    size: u64,
    offset: usize,
    data: &[Bytes],
) -> Box<dyn Upload> {
    let upload = blobs.begin(digest, size, offset as u64).await.unwrap();
    let mut upload = upload.unwrap();
    for data in data {
        upload.write(data.clone()).await.unwrap();
    }
    upload
}

/// Waits until so many bytes are kept: what was taken is written in the background.
async fn committed(blobs: &dyn BlobStore, digest: Digest, bytes: usize) {
    let deadline = std::time::Instant::now() + 4 * PATIENCE;
    while blobs.committed(digest).await.unwrap() != bytes as u64 {
        assert!(std::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What comes of a blob, and how it ends if that is not well.
async fn read(blobs: &dyn BlobStore, digest: Digest, offset: u64) -> (Vec<u8>, Option<BlobError>) {
    let mut bytes = Vec::new();
    let mut reader = match blobs.read(digest, offset).await {
        Ok(reader) => reader,
        Err(error) => return (bytes, Some(error)),
    };
    while let Some(piece) = reader.pieces.next().await {
        match piece {
            Ok(piece) => {
                assert!(piece.len() <= MAX_PIECE);
                bytes.extend(piece);
            }
            Err(error) => return (bytes, Some(error)),
        }
    }
    (bytes, None)
}

async fn read_all(blobs: &dyn BlobStore, digest: Digest, offset: u64) -> Vec<u8> {
    let (bytes, error) = read(blobs, digest, offset).await;
    assert!(error.is_none(), "{error:?}");
    bytes
}

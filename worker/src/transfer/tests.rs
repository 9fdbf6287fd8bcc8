//! Transfers against a service that breaks off, ends early and corrupts.

use std::{fs, path::Path};

use tempfile::NamedTempFile;

use super::*;
use crate::{
    fake_blobs::{CHUNK, FakeBlobs, Fault},
    runner::TaskError,
};

/// Ten chunks and a bit, no two chunks alike.
fn blob() -> Vec<u8> {
    (0..CHUNK * 10 + 7).map(|i| (i % 251) as u8).collect()
}

async fn download(fault: Fault) -> (FakeBlobs, Result<Vec<u8>, TransferError>) {
    let blob = blob();
    let (fake, transfer) = FakeBlobs::serve(blob.clone(), fault).await;
    let file = NamedTempFile::new().unwrap();
    let done = transfer.download(&Digest::of(&blob), file.path()).await;
    let done = done.map(|size| {
        let bytes = fs::read(file.path()).unwrap();
        assert_eq!(size, bytes.len() as u64);
        bytes
    });
    (fake, done)
}

#[tokio::test]
async fn a_broken_download_goes_on_where_it_was() {
    let (fake, bytes) = download(Fault::Break(CHUNK * 4)).await;
    assert_eq!(bytes.unwrap(), blob());
    assert_eq!(fake.seen.lock().unwrap().downloads, [0, 4000, 8000]);
}

#[tokio::test]
async fn wrong_bytes_are_refused() {
    let (_, done) = download(Fault::Corrupt).await;
    let error = done.unwrap_err();
    assert!(matches!(error, TransferError::Damaged { .. }), "{error}");
}

#[tokio::test]
async fn a_download_that_always_ends_short_is_an_error_and_not_a_loop() {
    let (_, done) = download(Fault::EndAt(2500)).await;
    let error = done.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("sent 2500 bytes and ended, short of 10007"),
        "{error}"
    );
}

async fn upload(bytes: &[u8], fault: Fault) -> FakeBlobs {
    let (fake, transfer) = FakeBlobs::serve(Vec::new(), fault).await;
    let file = NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    let digest = Digest::of(bytes);
    // Twice: the second finds it there.
    for _ in 0..2 {
        transfer
            .upload(&digest, file.path(), bytes.len() as u64)
            .await
            .unwrap();
    }
    fake
}

#[tokio::test]
async fn a_broken_upload_goes_on_where_it_was_and_a_stored_blob_is_not_sent_again() {
    let fake = upload(&blob(), Fault::Break(CHUNK * 4)).await;
    let seen = fake.seen.lock().unwrap();
    assert_eq!(seen.kept, blob());
    assert_eq!(seen.uploads, [0, 4000, 8000]);
}

#[tokio::test]
async fn garbage_that_was_kept_costs_a_new_beginning_and_no_failure() {
    let bytes = blob();
    let garbage = vec![7; CHUNK * 4];
    let (fake, transfer) = FakeBlobs::serve(Vec::new(), Fault::None).await;
    fake.seen.lock().unwrap().kept = garbage;
    let file = NamedTempFile::new().unwrap();
    fs::write(file.path(), &bytes).unwrap();
    let size = bytes.len() as u64;
    let digest = Digest::of(&bytes);
    transfer.upload(&digest, file.path(), size).await.unwrap();
    let seen = fake.seen.lock().unwrap();
    assert!(seen.complete && seen.kept == bytes);
    assert_eq!(seen.uploads, [CHUNK as u64 * 4, 0]);
}

#[tokio::test]
async fn a_file_with_other_bytes_than_its_digest_is_refused() {
    let (fake, transfer) = FakeBlobs::serve(Vec::new(), Fault::None).await;
    let file = NamedTempFile::new().unwrap();
    fs::write(file.path(), b"others").unwrap();
    let error = transfer
        .upload(&Digest::of(b"promised"), file.path(), 6)
        .await
        .unwrap_err();
    assert!(matches!(error, TransferError::Refused { .. }), "{error}");
    assert_eq!(fake.seen.lock().unwrap().uploads, [0]);
}

#[tokio::test]
async fn a_full_storage_is_waited_for_and_not_for_ever() {
    let (fake, transfer) = FakeBlobs::serve(Vec::new(), Fault::Full).await;
    let file = NamedTempFile::new().unwrap();
    fs::write(file.path(), b"result").unwrap();
    let digest = Digest::of(b"result");
    let uploading = transfer.upload(&digest, file.path(), 6);
    let limit = std::time::Duration::from_secs(20);
    let error = tokio::time::timeout(limit, uploading).await;
    let error = std::io::Error::from(error.expect("it gives up").unwrap_err());
    assert_eq!(error.kind(), std::io::ErrorKind::QuotaExceeded);
    assert_eq!(TaskError::storing("it", &error).code, "STORAGE_FULL");
    assert!(fake.seen.lock().unwrap().uploads.len() > 1, "tried once");
    assert!(transfer.link.is_up(), "it answered");
}

#[tokio::test]
async fn an_empty_blob_is_a_header() {
    let fake = upload(&[], Fault::None).await;
    let seen = fake.seen.lock().unwrap();
    assert!(seen.complete && seen.kept.is_empty());
    assert_eq!(seen.uploads, [0]);
}

#[tokio::test]
async fn of_a_file_that_is_gone_the_blob_is_named_and_not_the_place() {
    let (_, transfer) = FakeBlobs::serve(Vec::new(), Fault::None).await;
    let (digest, path) = (Digest::of(b""), Path::new("gone/blob"));
    let error = transfer.upload(&digest, path, 0).await.unwrap_err();
    let error = error.to_string();
    assert!(error.contains(&digest.to_string()), "{error}");
    assert!(!error.contains("gone"), "{error}");
}

//! Transfers against a service that breaks off, ends early and corrupts.

use std::{
    fs::{self, File},
    io::Cursor,
    path::Path,
    sync::atomic::{AtomicI64, Ordering},
};

use tempfile::NamedTempFile;
use tonic::Code;

use super::{
    fake::{CHUNK, FakeBlobs, Fault},
    *,
};
use crate::Connection;

/// Ten chunks and a bit, no two chunks alike.
fn blob() -> Vec<u8> {
    (0..CHUNK * 10 + 7).map(|i| (i % 251) as u8).collect()
}

async fn download(fault: Fault, size: Option<u64>) -> (FakeBlobs, Result<Vec<u8>, TransferError>) {
    let blob = blob();
    let (fake, connection) = FakeBlobs::serve(blob.clone(), fault).await;
    let file = NamedTempFile::new().unwrap();
    let moved = AtomicI64::new(0);
    let digest = Digest::of(&blob).to_string();
    let sink = file.reopen().unwrap();
    let count = |bytes| {
        moved.fetch_add(bytes, Ordering::Relaxed);
    };
    let done = connection.download(&digest, size, sink, &count).await;
    let done = done.map(|(_, size)| {
        let bytes = fs::read(file.path()).unwrap();
        assert_eq!(size, bytes.len() as u64);
        assert_eq!(size as i64, moved.load(Ordering::Relaxed));
        bytes
    });
    (fake, done)
}

#[tokio::test]
async fn a_broken_download_goes_on_where_it_was() {
    for size in [None, Some(10_007)] {
        let (fake, bytes) = download(Fault::Break(CHUNK * 4), size).await;
        assert_eq!(bytes.unwrap(), blob());
        assert_eq!(fake.seen.lock().unwrap().downloads, [0, 4000, 8000]);
    }
}

#[tokio::test]
async fn wrong_bytes_are_refused() {
    let (_, done) = download(Fault::Corrupt, None).await;
    let error = done.unwrap_err();
    assert!(matches!(error, TransferError::Damaged { .. }), "{error}");
}

#[tokio::test]
async fn a_download_that_always_ends_short_is_an_error_and_not_a_loop() {
    let (_, done) = download(Fault::EndAt(2500), None).await;
    let error = done.unwrap_err().to_string();
    assert!(
        error.contains("sent 2500 bytes and ended, of 10007"),
        "{error}"
    );
}

#[tokio::test]
async fn no_more_is_taken_than_a_blob_has() {
    let (_, done) = download(Fault::None, Some(1500)).await;
    let error = done.unwrap_err();
    assert!(
        matches!(error, TransferError::WrongSize { size: 1500, .. }),
        "{error}"
    );
}

/// Uploads bytes from memory, and returns what was reported of it.
async fn send(connection: &Connection, bytes: &[u8], digest: Digest) -> Result<i64, TransferError> {
    let moved = AtomicI64::new(0);
    let digest = digest.to_string();
    let blob = Blob {
        digest: &digest,
        size: bytes.len() as u64,
    };
    let bytes = bytes.to_vec();
    let open = move || Ok(Cursor::new(bytes.clone()));
    let count = |bytes| {
        moved.fetch_add(bytes, Ordering::Relaxed);
    };
    connection.upload(blob, open, &count).await?;
    Ok(moved.into_inner())
}

async fn upload(bytes: &[u8], fault: Fault, kept: &[u8]) -> FakeBlobs {
    let (fake, connection) = FakeBlobs::serve(Vec::new(), fault).await;
    fake.seen.lock().unwrap().kept = kept.to_vec();
    // Twice: the second finds it there.
    for _ in 0..2 {
        let moved = send(&connection, bytes, Digest::of(bytes)).await;
        assert_eq!(moved.unwrap(), bytes.len() as i64, "progress adds up");
    }
    let seen = fake.seen.lock().unwrap();
    assert!(seen.complete && seen.kept == bytes);
    drop(seen);
    fake
}

#[tokio::test]
async fn a_broken_upload_goes_on_where_it_was_and_a_stored_blob_is_not_sent_again() {
    let fake = upload(&blob(), Fault::Break(CHUNK * 4), &[]).await;
    assert_eq!(fake.seen.lock().unwrap().uploads, [0, 4000, 8000]);
}

#[tokio::test]
async fn garbage_that_was_kept_costs_a_new_beginning_and_no_failure() {
    let size = blob().len();
    // Less than the blob, all of it, and more than there is.
    for (garbage, uploads) in [
        (4000, vec![4000, 0]),
        (size, vec![10_007, 0]),
        (size + 1, vec![0]),
    ] {
        let fake = upload(&blob(), Fault::None, &vec![7; garbage]).await;
        assert_eq!(fake.seen.lock().unwrap().uploads, uploads);
    }
}

#[tokio::test]
async fn an_upload_whose_kept_part_is_lost_meanwhile_begins_anew() {
    let fake = upload(&blob(), Fault::Lost, &blob()[..4000]).await;
    assert_eq!(fake.seen.lock().unwrap().uploads, [4000, 0]);
}

#[tokio::test]
async fn an_empty_blob_is_a_header() {
    let fake = upload(&[], Fault::None, &[]).await;
    assert_eq!(fake.seen.lock().unwrap().uploads, [0]);
}

#[tokio::test]
async fn other_bytes_than_those_of_the_digest_are_told_from_an_outage() {
    let (fake, connection) = FakeBlobs::serve(Vec::new(), Fault::None).await;
    let error = send(&connection, b"others", Digest::of(b"promised")).await;
    let error = error.unwrap_err();
    assert!(matches!(error, TransferError::Changed(_)), "{error}");
    assert_eq!(fake.seen.lock().unwrap().uploads, [0]);
}

#[tokio::test]
async fn a_full_storage_is_waited_for_and_not_for_ever() {
    let (fake, connection) = FakeBlobs::serve(Vec::new(), Fault::Full).await;
    let uploading = send(&connection, b"result", Digest::of(b"result"));
    let error = tokio::time::timeout(Duration::from_secs(20), uploading).await;
    let Err(TransferError::Call(error)) = error.expect("it gives up") else {
        panic!("a full server")
    };
    assert_eq!(error.status.code(), Code::ResourceExhausted);
    assert!(error.waited.is_some());
    assert!(fake.seen.lock().unwrap().uploads.len() > 1, "tried once");
}

#[tokio::test]
async fn what_cannot_be_read_or_has_shrunk_is_told_apart_from_what_the_server_says() {
    let (_, connection) = FakeBlobs::serve(Vec::new(), Fault::None).await;
    let digest = Digest::of(b"gone").to_string();
    let blob = Blob {
        digest: &digest,
        size: 4,
    };
    let error = connection.upload(blob, || File::open(Path::new("gone/blob")), &|_| {});
    let error = error.await.unwrap_err();
    assert!(matches!(error, TransferError::Local(_)), "{error}");
    let error = connection.upload(blob, || Ok(Cursor::new(*b"go")), &|_| {});
    let error = error.await.unwrap_err();
    assert!(matches!(error, TransferError::Changed(_)), "{error}");
}

//! Blobs over loopback: chunks in, chunks out, resumed, refused.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "the helpers of tests fail as the tests themselves do"
)]

mod support;

use dual16_proto::v1::{self, blob_service_client::BlobServiceClient};
use dual16_server::{digest::Digest, limits::Limits};
use std::time::Duration;

use support::*;
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

const CHUNK: usize = 1 << 20;

fn data(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 253) as u8).collect()
}

/// Messages that upload `data[offset..end]` of a blob of `size` bytes.
fn messages(digest: &str, size: usize, data: &[u8], offset: usize) -> Vec<v1::UploadRequest> {
    let mut messages = vec![v1::UploadRequest {
        digest: digest.into(),
        size: size as u64,
        offset: offset as u64,
        ..Default::default()
    }];
    let chunks = data.get(offset..).unwrap_or_default().chunks(CHUNK);
    messages.extend(chunks.map(|chunk| v1::UploadRequest {
        data: chunk.to_vec().into(),
        ..Default::default()
    }));
    messages
}

async fn upload(server: &TestServer, messages: Vec<v1::UploadRequest>) -> Result<u64, Status> {
    let stream = tokio_stream::iter(messages);
    server
        .blobs
        .clone()
        .upload(stream)
        .await
        .map(|response| response.into_inner().size)
}

async fn download(server: &TestServer, digest: &str, offset: u64) -> (u64, Vec<u8>) {
    let mut stream = server.downloading(digest, offset).await.unwrap();
    let size = stream.message().await.unwrap().unwrap().size;
    let mut bytes = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        bytes.extend(message.data);
    }
    (size, bytes)
}

#[tokio::test]
async fn a_blob_goes_in_and_out_in_chunks_and_is_resumed() {
    let server = serve_new().await;
    let blob = data(5 * CHUNK + 1);
    let digest = Digest::of(&blob).to_string();
    let cut = upload(
        &server,
        messages(&digest, blob.len(), &blob[..2 * CHUNK], 0),
    )
    .await;
    let cut = cut.unwrap_err();
    assert_refused(&cut, Code::Aborted, "UPLOAD_INCOMPLETE");
    let kept = server.query(&digest).await;
    assert_eq!((kept.committed, kept.complete), (2 * CHUNK as u64, false));
    let find = v1::FindMissingRequest {
        digests: vec![digest.clone()],
    };
    let missing = ok(server.blobs.clone().find_missing(find.clone())).await;
    assert_eq!(missing.missing, [digest.as_str()]);

    let rest = messages(&digest, blob.len(), &blob, 2 * CHUNK);
    assert_eq!(upload(&server, rest).await.unwrap(), blob.len() as u64);
    let kept = server.query(&digest).await;
    assert_eq!((kept.committed, kept.complete), (blob.len() as u64, true));
    let missing = ok(server.blobs.clone().find_missing(find)).await;
    assert!(missing.missing.is_empty());
    assert!(download(&server, &digest, 0).await == (blob.len() as u64, blob.clone()));
    let offset = 3 * CHUNK + 7;
    assert!(download(&server, &digest, offset as u64).await.1 == blob[offset..]);
    // Once more, although it is there: as good as the first time.
    let again = messages(&digest, blob.len(), &blob, 0);
    assert_eq!(upload(&server, again).await.unwrap(), blob.len() as u64);
}

#[tokio::test]
async fn a_wrong_upload_is_refused_and_leaves_nothing() {
    let server = serve_limited(Limits {
        blob_bytes: 4096,
        ..Default::default()
    })
    .await;
    let digest = Digest::of(b"right").to_string();
    let chunk = |data: &[u8]| v1::UploadRequest {
        data: data.to_vec().into(),
        ..Default::default()
    };
    let first = |size, offset| v1::UploadRequest {
        digest: digest.clone(),
        size,
        offset,
        ..Default::default()
    };
    let nameless = v1::UploadRequest {
        digest: "right".into(),
        ..first(5, 0)
    };
    let cases = [
        (vec![], Code::InvalidArgument, "REQUIRED"),
        (vec![nameless], Code::InvalidArgument, "INVALID_DIGEST"),
        (
            vec![first(4097, 0)],
            Code::ResourceExhausted,
            "LIMIT_EXCEEDED",
        ),
        (
            vec![first(5, 6)],
            Code::InvalidArgument,
            "OFFSET_OUT_OF_RANGE",
        ),
        (
            vec![first(5, 3), chunk(b"ht")],
            Code::OutOfRange,
            "OFFSET_OUT_OF_RANGE",
        ),
        (
            vec![first(5, 0), chunk(b"rights")],
            Code::InvalidArgument,
            "UPLOAD_TOO_LONG",
        ),
        (
            vec![first(5, 0), chunk(&data(CHUNK + 1))],
            Code::ResourceExhausted,
            "LIMIT_EXCEEDED",
        ),
        (
            vec![first(5, 0), chunk(b"wrong")],
            Code::DataLoss,
            "DIGEST_MISMATCH",
        ),
    ];
    for (messages, code, expected) in cases {
        let status = upload(&server, messages).await.expect_err(expected);
        assert_refused(&status, code, expected);
    }
    let kept = server.query(&digest).await;
    assert_eq!((kept.committed, kept.complete), (0, false));
    let status = no(server.downloading(&digest, 0)).await;
    assert_refused(&status, Code::NotFound, "BLOB_NOT_FOUND");
    upload(&server, vec![first(5, 0), chunk(b"right")])
        .await
        .unwrap();
    assert_eq!(download(&server, &digest, 0).await, (5, b"right".to_vec()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_clients_upload_the_same_blob_at_once() {
    let server = serve_new().await;
    let blob = data(2 * CHUNK);
    let digest = Digest::of(&blob).to_string();
    let uploads = (0..6).map(|_| {
        let mut client = server.blobs.clone();
        let stream = tokio_stream::iter(messages(&digest, blob.len(), &blob, 0));
        tokio::spawn(async move { client.upload(stream).await })
    });
    for upload in uploads.collect::<Vec<_>>() {
        upload.await.unwrap().unwrap();
    }
    assert!(download(&server, &digest, 0).await.1 == blob);
}

#[tokio::test]
async fn results_too_large_for_one_message_reach_the_reduce_as_blobs() {
    let limits = Limits {
        lease_bytes: 20_000,
        ..Limits::default()
    };
    let server = serve_limited(limits).await;
    server.create("").await;
    server.work_once().await;
    let results: Vec<_> = ["a", "b", "c"].map(|text| text.repeat(10_000)).into();
    for result in &results {
        let map = server.lease_one().await;
        server.complete(completion(&map, result)).await.unwrap();
    }
    let reduce = server.lease_one().await;
    let mut inputs = Vec::new();
    let mut spilled = 0;
    for input in reduce.inputs {
        inputs.push(match input.kind.unwrap() {
            v1::payload::Kind::Inline(bytes) => bytes,
            v1::payload::Kind::Blob(digest) => {
                spilled += 1;
                download(&server, &digest, 0).await.1
            }
        });
    }
    assert_eq!(spilled, 2);
    assert!(
        inputs
            .iter()
            .zip(&results)
            .all(|(input, result)| input == result.as_bytes())
    );
}

/// Each transfer may wait for its peer for long, and there may be thousands: were a thread waiting
/// with it, a few would stop the server.
#[test]
fn transfers_that_stand_still_hold_no_threads() {
    const BLOCKING_THREADS: usize = 2;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(BLOCKING_THREADS)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let server = serve_new().await;
        // Far more than a connection's windows and the chunks read ahead.
        let large = data(12 * CHUNK);
        let name = Digest::of(&large).to_string();
        let whole = messages(&name, large.len(), &large, 0);
        upload(&server, whole).await.unwrap();
        let mut standing = Vec::new();
        for index in 0..4 * BLOCKING_THREADS {
            let url = format!("http://{}", server.server.addr());
            let mut client = BlobServiceClient::connect(url).await.unwrap();
            let request = v1::DownloadRequest {
                digest: name.clone(),
                offset: 0,
                accept_url: false,
            };
            let unread = client.clone().download(request).await.unwrap();
            let blob = data(2 * CHUNK + index);
            let digest = Digest::of(&blob).to_string();
            let half = messages(&digest, blob.len(), &blob[..CHUNK], 0);
            let (sender, receiver) = tokio::sync::mpsc::channel(2);
            for message in half {
                sender.send(message).await.unwrap();
            }
            let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
            let silent = tokio::spawn(async move { client.upload(stream).await });
            let kept = CHUNK as u64;
            while server.query(&digest).await.committed < kept {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
            standing.push((unread, sender, silent));
        }
        let blob = data(3 * CHUNK);
        let name = Digest::of(&blob).to_string();
        let whole = messages(&name, blob.len(), &blob, 0);
        upload(&server, whole).await.unwrap();
        assert_eq!(download(&server, &name, 0).await.1, blob);
        assert!(standing.iter().all(|(.., silent)| !silent.is_finished()));
        standing.iter().for_each(|(.., silent)| silent.abort());
    });
}

/// An upload that sends `chunk` again and again, every so often, until the server has had enough.
fn dripping(
    server: &TestServer,
    first: v1::UploadRequest,
    chunk: &'static [u8],
    pause: Duration,
) -> JoinHandle<Status> {
    let (messages, stream) = mpsc::channel(1);
    let mut blobs = server.blobs.clone();
    tokio::spawn(async move {
        messages.send(first).await.unwrap();
        let drip = async {
            let chunk = v1::UploadRequest {
                data: chunk.into(),
                ..Default::default()
            };
            while messages.send(chunk.clone()).await.is_ok() {
                tokio::time::sleep(pause).await;
            }
            std::future::pending().await
        };
        tokio::select! {
            ended = blobs.upload(ReceiverStream::new(stream)) => ended.unwrap_err(),
            () = drip => unreachable!(),
        }
    })
}

fn idle_after_a_second() -> Limits {
    Limits {
        upload_idle_seconds: 1,
        ..Limits::default()
    }
}

/// Repeats an upload from the beginning, as clients do, while the server says to come back.
async fn upload_when_free(server: &TestServer, blob: &[u8]) -> Vec<Status> {
    let digest = Digest::of(blob).to_string();
    let mut refusals = Vec::new();
    while let Err(status) = upload(server, messages(&digest, blob.len(), blob, 0)).await {
        assert_eq!(status.code(), Code::Aborted, "{status}");
        refusals.push(status);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    refusals
}

#[tokio::test]
async fn an_upload_without_data_ends_and_lets_another_through() {
    let server = serve_limited(idle_after_a_second()).await;
    for drip in [&b""[..], b"x"] {
        let blob = [&b"what two have"[..], drip].concat();
        let first = v1::UploadRequest {
            digest: Digest::of(&blob).to_string(),
            // Said by one who means no good.
            size: 1 << 30,
            ..Default::default()
        };
        let silent = dripping(&server, first, drip, Duration::from_millis(200));
        tokio::time::sleep(Duration::from_millis(50)).await;

        let done = upload_when_free(&server, &blob);
        tokio::time::timeout(Duration::from_secs(10), done)
            .await
            .expect("the first one holds the blob for ever");

        let status = silent.await.unwrap();
        assert_refused(&status, Code::Aborted, "UPLOAD_IDLE");
    }
}

#[tokio::test]
async fn who_waits_for_a_long_upload_of_the_same_blob_is_told_to_come_back() {
    let server = serve_limited(idle_after_a_second()).await;
    let blob = b"what two have";
    let digest = Digest::of(blob).to_string();
    let first = v1::UploadRequest {
        digest: digest.clone(),
        size: 1 << 30,
        ..Default::default()
    };
    // Fast enough to go on for hours.
    let busy = dripping(&server, first, &[7; 64 << 10], Duration::from_millis(200));
    while server.query(&digest).await.committed == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let began = std::time::Instant::now();
    let status = upload(&server, messages(&digest, blob.len(), blob, 0)).await;
    let status = status.unwrap_err();
    let waited = began.elapsed();
    let details = assert_refused(&status, Code::Aborted, "UPLOAD_IDLE");
    assert!(details.retry_info().is_some(), "{details:?}");
    assert!(waited < Duration::from_secs(5), "{waited:?}");
    assert!(!busy.is_finished());
    busy.abort();
    upload_when_free(&server, blob).await;
}

#[tokio::test]
async fn a_part_that_another_left_is_thrown_away_once_it_proves_wrong() {
    let server = serve_new().await;
    let blob = b"what two have";
    let digest = Digest::of(blob).to_string();
    let garbage = messages(&digest, blob.len(), b"garbage", 0);
    assert_eq!(
        upload(&server, garbage).await.unwrap_err().code(),
        Code::Aborted
    );
    let rest = messages(&digest, blob.len(), blob, 7);
    assert_eq!(
        upload(&server, rest).await.unwrap_err().code(),
        Code::DataLoss
    );
    assert_eq!(server.query(&digest).await.committed, 0);
    upload(&server, messages(&digest, blob.len(), blob, 0))
        .await
        .unwrap();
}

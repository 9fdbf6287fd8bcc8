//! Downloads past the server: signed URLs into the S3 server that `./test` starts.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "the helpers of tests fail as the tests themselves do"
)]

mod support;

use std::{io::Cursor, sync::Arc, time::Duration};

use dual16_proto::v1;
use dual16_rpc::{
    Address, Blob, Connection, Policy, Retrying, TransferError, credentials::Credentials,
};
use dual16_server::{ServerOptions, StartError, blob::Presign, digest::Digest, start};
use object_store::{ObjectStoreExt as _, aws::AmazonS3Builder, path::Path};
use tokio::{
    io::{AsyncReadExt as _, copy},
    net::{TcpListener, TcpStream},
};
use tonic::{Code, Status};

use self::support::*;

/// No multiple of anything.
const BYTES: usize = (3 << 20) + 5;
/// What a server sends of a blob that it only names.
const FEW: u64 = 4096;

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} must be set; ./test does so"))
}

/// A server whose blobs are below a prefix of its own, and that prefix.
async fn serve(presign: Presign) -> (TestServer, String, tempfile::TempDir) {
    let data = tempfile::tempdir().unwrap();
    let prefix = format!("presign-{}", data.path().file_name().unwrap().display());
    let prefix = prefix.replace('.', "");
    let server = serve_from(ServerOptions {
        blobs: Some(format!("{}/{prefix}", variable("DUAL16_TEST_S3"))),
        presign: Some(presign),
        ..ServerOptions::new(data.path())
    });
    (server.await, prefix, data)
}

fn signed(endpoint: Option<String>, seconds: u64) -> Presign {
    Presign {
        endpoint,
        valid_for: Duration::from_secs(seconds),
    }
}

/// Bears nothing.
#[derive(Debug)]
struct Strict;

impl Policy for Strict {
    fn patience(&self, _: &Status) -> Option<Duration> {
        None
    }

    fn retrying(&self, _: &Retrying<'_>) {}
}

fn connect(server: &TestServer) -> Connection {
    let url = format!("http://{}", server.server.addr());
    let address = Address::new(&url, &Credentials::default(), || None).unwrap();
    Connection::new(&address, Arc::new(Strict))
}

/// Stores a blob; its digest.
async fn send(server: &TestServer, bytes: Vec<u8>) -> String {
    let digest = Digest::of(&bytes).to_string();
    let blob = Blob {
        digest: &digest,
        size: bytes.len() as u64,
    };
    let open = move || Ok(Cursor::new(bytes.clone()));
    connect(server).upload(blob, open, &|_| {}).await.unwrap();
    digest
}

async fn fetch(server: &TestServer, digest: &str) -> Result<Vec<u8>, TransferError> {
    let connection = connect(server);
    let fetched = connection.download(digest, None, Vec::new(), &|_| {}).await;
    fetched.map(|(bytes, _)| bytes)
}

/// Message bytes that the server has sent in answer to downloads.
async fn sent(server: &TestServer) -> u64 {
    let text = server.server.observed().metrics().await;
    let name = "dual16_rpc_sent_bytes_total{rpc=\"BlobService/Download\"} ";
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("{text}")).parse().unwrap()
}

fn bytes() -> Vec<u8> {
    (0..BYTES).map(|at| (at * 7 / 3) as u8).collect()
}

/// A way to the S3 server on which a connection waits for so long, and breaks after so many bytes of an answer.
async fn way(wait: Duration, most: u64) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let s3 = variable("AWS_ENDPOINT").replace("http://", "");
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let far = TcpStream::connect(&s3).await.unwrap();
            tokio::spawn(async move {
                let ((mut from_near, mut to_near), (from_far, mut to_far)) =
                    (near.into_split(), far.into_split());
                tokio::time::sleep(wait).await;
                let asked = tokio::spawn(async move { copy(&mut from_near, &mut to_far).await });
                let _ = copy(&mut from_far.take(most), &mut to_near).await;
                asked.abort();
            });
        }
    });
    url
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bytes_of_a_download_do_not_pass_the_server() {
    let (server, ..) = serve(signed(None, 60)).await;
    let digest = send(&server, bytes()).await;
    assert!(fetch(&server, &digest).await.unwrap() == bytes());
    let few = sent(&server).await;
    assert!(few < FEW, "{few} bytes passed");
    let empty = send(&server, Vec::new()).await;
    assert_eq!(fetch(&server, &empty).await.unwrap(), b"");
    // Who does not ask for a URL gets the bytes.
    let mut blobs = server.blobs.clone();
    let request = v1::DownloadRequest {
        digest,
        ..v1::DownloadRequest::default()
    };
    let mut stream = blobs.download(request).await.unwrap().into_inner();
    while let Some(message) = stream.message().await.unwrap() {
        assert_eq!(message.url, "");
    }
    assert!(sent(&server).await > BYTES as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_had_from_the_store_comes_through_the_server() {
    let nobody = "http://127.0.0.1:1".to_owned();
    let late = way(Duration::from_millis(2500), u64::MAX).await;
    let broken = way(Duration::ZERO, 1 << 20).await;
    for (what, presign, least) in [
        ("nobody listens", signed(Some(nobody), 60), BYTES),
        ("the URL has expired", signed(Some(late), 1), BYTES),
        ("it breaks off", signed(Some(broken), 60), BYTES - (1 << 20)),
    ] {
        let (server, ..) = serve(presign).await;
        let digest = send(&server, bytes()).await;
        let connection = connect(&server);
        for _ in 0..2 {
            let fetched = connection
                .download(&digest, None, Vec::new(), &|_| {})
                .await;
            assert!(fetched.unwrap().0 == bytes(), "{what}");
        }
        // The second time nobody tries the way that was none a moment ago.
        let passed = sent(&server).await;
        assert!(passed >= (least + BYTES) as u64, "{what}: {passed}");
        assert!(passed < 2 * BYTES as u64 + FEW * 200, "{what}: {passed}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_object_is_refused_and_the_server_learns_of_it() {
    let (server, prefix, _data) = serve(signed(None, 60)).await;
    let named = send(&server, bytes()).await;
    let hex = named.parse::<Digest>().unwrap().hex();
    let bucket = variable("DUAL16_TEST_S3").replace("s3://", "");
    let objects = AmazonS3Builder::from_env().with_bucket_name(bucket);
    let objects = objects.build().unwrap();
    let key = Path::from(format!("{prefix}/sha256/{}/{hex}", &hex[..2]));
    let mut damaged = objects
        .get(&key)
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap()
        .to_vec();
    damaged[BYTES / 2] ^= 1;
    objects.put(&key, damaged.into()).await.unwrap();
    match fetch(&server, &named).await {
        Err(TransferError::Call(error)) => assert_eq!(error.status.code(), Code::DataLoss),
        other => panic!("{:?}", other.map(|bytes| bytes.len())),
    }
    let digests = vec![named];
    let request = v1::FindMissingRequest { digests };
    let answer = server.blobs.clone().find_missing(request).await.unwrap();
    assert_eq!(answer.into_inner().missing.len(), 1);
    let few = sent(&server).await;
    assert!(few < FEW, "{few} bytes passed");
}

#[tokio::test]
async fn files_have_no_urls() {
    let data = tempfile::tempdir().unwrap();
    let options = ServerOptions {
        presign: Some(signed(None, 60)),
        ..ServerOptions::new(data.path())
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let refused = start(options, listener).await.err().unwrap();
    assert!(matches!(refused, StartError::PresignFiles), "{refused}");
}

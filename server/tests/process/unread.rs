//! Downloads that nobody reads: what they cost in memory, and that they end.

use std::{
    fs,
    time::{Duration, Instant},
};

use bytes::Bytes;
use dual16_proto::v1::{self, blob_service_client::BlobServiceClient};
use dual16_server::digest::Digest;
use h2::{RecvStream, client::SendRequest};
use prost::Message as _;
use tokio::{net::TcpStream, task::JoinHandle};
use tonic::codegen::http::{Request, Response};

use super::{command, terminate, wait_for};

const DOWNLOADS: usize = 1000;
/// Each of them may cost so many bytes.
const COST: u64 = 64 << 10;

/// A connection that takes megabytes into flight, and what drives it.
async fn connect(addr: &str) -> (SendRequest<Bytes>, JoinHandle<Result<(), h2::Error>>) {
    let stream = TcpStream::connect(addr).await.unwrap();
    let mut client = h2::client::Builder::new();
    let client = client
        .initial_window_size(256 << 10)
        .initial_connection_window_size(16 << 20)
        .initial_max_send_streams(DOWNLOADS);
    let (client, connection) = client.handshake(stream).await.unwrap();
    (client.ready().await.unwrap(), tokio::spawn(connection))
}

/// Begins a download of which only the head of the answer is ever looked at.
async fn download(client: &SendRequest<Bytes>, digest: &str) -> Response<RecvStream> {
    let request = Request::post("http://server/dual16.v1.BlobService/Download")
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    let message = v1::DownloadRequest {
        digest: digest.to_owned(),
        offset: 0,
        accept_url: false,
    };
    let message = message.encode_to_vec();
    let prefix = [&[0][..], &(message.len() as u32).to_be_bytes()].concat();
    let mut client = client.clone().ready().await.unwrap();
    let (answer, mut body) = client
        .send_request(request.body(()).unwrap(), false)
        .unwrap();
    body.send_data([prefix, message].concat().into(), true)
        .unwrap();
    let answer = answer.await.unwrap();
    assert!(answer.headers().get("grpc-status").is_none(), "{answer:?}");
    answer
}

/// Memory that a process holds, in bytes, once that has come to rest.
async fn resident(process: u32) -> u64 {
    let now = || {
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.unwrap().trim().trim_end_matches(" kB").parse::<u64>();
        kib.unwrap() << 10
    };
    let mut last = now();
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let held = now();
        if held.abs_diff(last) < 1 << 20 {
            return held;
        }
        last = held;
    }
}

#[tokio::test]
async fn a_thousand_downloads_that_nobody_reads_cost_little_and_are_ended() {
    let data = tempfile::tempdir().unwrap();
    let port_file = data.path().join("port");
    let server = command(data.path())
        .arg("--port-file")
        .arg(&port_file)
        .args(["--limit-transfers", "2000"])
        .args(["--limit-upload-idle-seconds", "20"])
        .spawn()
        .unwrap();
    wait_for("the port file", || port_file.exists());
    let addr = fs::read_to_string(&port_file).unwrap().trim().to_owned();
    let blob = vec![7; 1 << 20];
    let digest = Digest::of(&blob).to_string();
    let upload = v1::UploadRequest {
        digest: digest.clone(),
        size: blob.len() as u64,
        offset: 0,
        data: blob.into(),
    };
    let blobs = BlobServiceClient::connect(format!("http://{addr}")).await;
    let upload = tokio_stream::once(upload);
    blobs.unwrap().upload(upload).await.unwrap();
    let before = resident(server.id()).await;

    // Ten to a connection, so that what a connection costs counts as well.
    let (mut connections, mut answers) = (Vec::new(), Vec::new());
    for _ in 0..DOWNLOADS / 10 {
        let (client, connection) = connect(&addr).await;
        for _ in 0..10 {
            answers.push(download(&client, &digest).await);
        }
        connections.push(connection);
    }
    let cost = resident(server.id()).await.saturating_sub(before);
    let each = cost / DOWNLOADS as u64;
    assert!(each <= COST, "{each} bytes for each of {DOWNLOADS}");

    let deadline = Instant::now() + Duration::from_secs(60);
    for connection in connections {
        let left = deadline.saturating_duration_since(Instant::now());
        let ended = tokio::time::timeout(left, connection).await;
        assert!(ended.is_ok(), "downloads that nobody reads go on");
    }
    tokio::task::spawn_blocking(|| terminate(server))
        .await
        .unwrap();
}

//! Callers who send without end, read nothing, or only connect: each is ended in time, and holds
//! little until then, while the others are served.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "the helpers of tests fail as the tests themselves do"
)]

mod support;

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use dual16_proto::v1::{self, blob_service_client::BlobServiceClient};
use dual16_server::limits::Limits;
use h2::client::SendRequest;
use support::*;
use tokio::{
    io::AsyncReadExt as _,
    net::TcpStream,
    time::{Instant, timeout},
};
use tokio_stream::StreamExt as _;
use tonic::{
    Code, Status,
    codegen::http::{HeaderMap, Request},
    transport::Channel,
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

const CHECK: &str = "/grpc.health.v1.Health/Check";
const HEARTBEAT: &str = "/dual16.v1.WorkerService/Heartbeat";

/// A connection that says what a test wants it to say.
async fn http2(addr: SocketAddr) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(addr).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    client.ready().await.unwrap()
}

/// Begins a call, sends `bytes` of its request, and never ends that. The code of the answer.
async fn begin(client: SendRequest<Bytes>, path: &str, bytes: Vec<u8>) -> Code {
    let request = Request::post(format!("http://server{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(());
    let mut client = client.ready().await.unwrap();
    let (answer, mut body) = client.send_request(request.unwrap(), false).unwrap();
    body.send_data(bytes.into(), false).unwrap();
    let answer = answer.await.unwrap();
    let code = code(answer.headers());
    drop(body);
    code.expect("an answer without a message")
}

fn code(headers: &HeaderMap) -> Option<Code> {
    Status::from_header_map(headers).map(|status| status.code())
}

/// The start of a message that has `promised` bytes.
fn prefix(promised: u32) -> Vec<u8> {
    [&[0][..], &promised.to_be_bytes()].concat()
}

async fn channel(addr: SocketAddr) -> Channel {
    let channel = Channel::from_shared(format!("http://{addr}")).unwrap();
    channel.connect().await.unwrap()
}

async fn check(channel: Channel) -> Result<i32, Status> {
    let answer = HealthClient::new(channel)
        .check(HealthCheckRequest::default())
        .await?;
    Ok(answer.into_inner().status)
}

async fn heartbeat(server: &TestServer) -> Result<(), Status> {
    let beat = v1::HeartbeatRequest {
        worker: "fake".into(),
        ..v1::HeartbeatRequest::default()
    };
    server.workers.clone().heartbeat(beat).await.map(drop)
}

#[tokio::test]
async fn requests_that_never_end_are_ended() {
    let limits = Limits {
        call_seconds: 1,
        ..Limits::default()
    };
    let server = serve_limited(limits).await;
    let addr = server.server.addr();
    let client = http2(addr).await;
    let began = Instant::now();
    let mut hanging = Vec::new();
    for path in [
        CHECK,
        HEARTBEAT,
        "/grpc.health.v1.Health/Watch",
        "/dual16.v1.JobService/WatchJob",
        "/dual16.v1.BlobService/Download",
        "/dual16.v1.WorkerService/Lease",
        "/dual16.v1.JobService/CreateJob",
    ] {
        for bytes in [vec![], prefix(1000), prefix(0)] {
            for _ in 0..11 {
                hanging.push(tokio::spawn(begin(client.clone(), path, bytes.clone())));
            }
        }
    }
    assert_eq!(check(channel(addr).await).await.unwrap(), 1, "SERVING");
    heartbeat(&server).await.unwrap();
    for call in hanging {
        let code = timeout(Duration::from_secs(10), call).await.unwrap();
        assert_eq!(code.unwrap(), Code::DeadlineExceeded);
    }
    let took = began.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(check(channel(addr).await).await.unwrap(), 1, "SERVING");
}

#[tokio::test]
async fn what_needs_no_large_request_takes_none() {
    let server = serve_new().await;
    let client = http2(server.server.addr()).await;
    let promise = [prefix((4 << 20) - 1), vec![0; 5000]].concat();
    // Refused by the promise, long before any deadline.
    let refused = begin(client.clone(), CHECK, promise);
    let refused = timeout(Duration::from_secs(5), refused).await.unwrap();
    assert!(
        [Code::OutOfRange, Code::ResourceExhausted].contains(&refused),
        "{refused}"
    );
    for path in [
        "/dual16.v1.JobService/WatchJob",
        "/dual16.v1.WorkerService/Lease",
        HEARTBEAT,
    ] {
        let sent = [prefix((4 << 20) - 1), vec![0; 400 << 10]].concat();
        let refused = begin(client.clone(), path, sent);
        let refused = timeout(Duration::from_secs(5), refused).await.unwrap();
        assert_eq!(refused, Code::ResourceExhausted, "{path}");
    }
}

#[tokio::test]
async fn strangers_fill_only_the_places_of_health_checks() {
    let limits = Limits {
        vital_calls: 4,
        ..Limits::default()
    };
    let server = serve_limited(limits).await;
    let client = http2(server.server.addr()).await;
    let hang = || tokio::spawn(begin(client.clone(), CHECK, Vec::new()));
    let hanging: Vec<_> = (0..4).map(|_| hang()).collect();
    let channel = channel(server.server.addr()).await;
    let refused = async {
        loop {
            if let Err(status) = check(channel.clone()).await {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let refused = timeout(Duration::from_secs(5), refused).await.unwrap();
    let details = assert_refused(&refused, Code::Unavailable, "OVERLOADED");
    assert!(details.retry_info().is_some());
    heartbeat(&server).await.unwrap();
    server.create("").await;
    hanging.iter().for_each(tokio::task::JoinHandle::abort);
}

/// Waits until the server has closed a connection.
async fn closed(mut stream: TcpStream) {
    let mut bytes = Vec::new();
    let read = stream.read_to_end(&mut bytes);
    // An end or a reset, whichever it was.
    let _ = timeout(Duration::from_secs(10), read).await.unwrap();
}

#[tokio::test]
async fn silent_connections_are_closed_and_their_places_are_others() {
    let limits = Limits {
        connections: 8,
        handshake_seconds: 1,
        ..Limits::default()
    };
    let server = serve_limited(limits).await;
    heartbeat(&server).await.unwrap();
    let addr = server.server.addr();
    let mut silent = Vec::new();
    for _ in 0..8 {
        silent.push(TcpStream::connect(addr).await.unwrap());
    }
    let through = async { check(channel(addr).await).await.unwrap() };
    let status = timeout(Duration::from_secs(8), through).await.unwrap();
    assert_eq!(status, 1, "SERVING");
    for stream in silent {
        closed(stream).await;
    }
    heartbeat(&server).await.unwrap();
}

#[tokio::test]
async fn connections_on_which_nobody_calls_give_way_once_all_are_taken() {
    let limits = Limits {
        connections: 4,
        handshake_seconds: 1,
        ..Limits::default()
    };
    let server = serve_limited(limits).await;
    heartbeat(&server).await.unwrap();
    let addr = server.server.addr();
    let mut idle = Vec::new();
    for _ in 0..2 {
        idle.push(http2(addr).await);
    }
    // There is room: they stay beyond the time that a silent one has.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    for client in &idle {
        client.clone().ready().await.unwrap();
    }
    idle.push(http2(addr).await);
    let through = async { check(channel(addr).await).await.unwrap() };
    let status = timeout(Duration::from_secs(8), through).await.unwrap();
    assert_eq!(status, 1, "SERVING");
    // The one on which somebody had called is still the same.
    heartbeat(&server).await.unwrap();
}

/// Uploads a blob of `chunks` MiB.
async fn blob(server: &TestServer, chunks: usize) -> String {
    let blob: Vec<u8> = vec![7; chunks << 20];
    let digest = dual16_server::digest::Digest::of(&blob).to_string();
    let pieces: Vec<_> = blob
        .chunks(1 << 20)
        .map(|data| v1::UploadRequest {
            digest: digest.clone(),
            size: blob.len() as u64,
            offset: 0,
            data: data.to_vec().into(),
        })
        .collect();
    let mut client = server.blobs.clone();
    client.upload(tokio_stream::iter(pieces)).await.unwrap();
    digest
}

/// Begins a download over a connection of its own that lets the least possible into flight.
async fn download(server: &TestServer, digest: &str) -> tonic::Streaming<v1::DownloadResponse> {
    let channel = Channel::from_shared(format!("http://{}", server.server.addr())).unwrap();
    let channel = channel
        .initial_stream_window_size(65_535)
        .initial_connection_window_size(65_535);
    let mut client = BlobServiceClient::new(channel.connect().await.unwrap());
    let request = v1::DownloadRequest {
        digest: digest.to_owned(),
        offset: 0,
        accept_url: false,
    };
    client.download(request).await.unwrap().into_inner()
}

#[tokio::test]
async fn transfers_are_counted_and_those_that_stand_still_are_ended() {
    let limits = Limits {
        transfers: 2,
        upload_idle_seconds: 1,
        ..Limits::default()
    };
    let server = serve_limited(limits).await;
    let digest = blob(&server, 8).await;
    let stalled = [
        download(&server, &digest).await,
        download(&server, &digest).await,
    ];
    let request = v1::DownloadRequest {
        digest: digest.clone(),
        offset: 0,
        accept_url: false,
    };
    let mut blobs = server.blobs.clone();
    let refused = blobs.download(request.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let began = Instant::now();
    let mut last = loop {
        if let Ok(answer) = blobs.download(request.clone()).await {
            break answer.into_inner();
        }
        assert!(began.elapsed() < Duration::from_secs(8));
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let mut read = 0;
    while let Some(piece) = last.next().await {
        read += piece.unwrap().data.len();
    }
    assert_eq!(read, 8 << 20);
    // The place may have been that of either; by now the other has stood still for long enough, too.
    tokio::time::sleep(Duration::from_secs(3)).await;
    for mut stream in stalled {
        let end = async {
            while let Some(piece) = stream.next().await {
                piece?;
            }
            Ok::<(), Status>(())
        };
        let end = timeout(Duration::from_secs(10), end).await.unwrap();
        end.expect_err("cut off in the middle");
    }
}

#[tokio::test]
async fn a_reader_that_is_slow_gets_all_of_it() {
    let limits = Limits {
        upload_idle_seconds: 1,
        ..Limits::default()
    };
    let server = serve_limited(limits).await;
    let digest = blob(&server, 8).await;
    let mut stream = download(&server, &digest).await;
    let (mut read, mut paused) = (0, 0);
    while let Some(piece) = stream.next().await {
        read += piece.unwrap().data.len();
        if read - paused >= 1 << 20 {
            paused = read;
            tokio::time::sleep(Duration::from_millis(400)).await;
        }
    }
    assert_eq!(read, 8 << 20);
}

#[tokio::test]
async fn whoever_asks_whether_the_server_is_ready_disturbs_nobody_else() {
    let server = serve_new().await;
    let probes: Vec<_> = (0..100)
        .map(|_| {
            let observed = server.server.observed();
            tokio::spawn(async move { observed.ready().await })
        })
        .collect();
    for probe in probes {
        assert_eq!(probe.await.unwrap(), Ok(()));
    }
}

#[tokio::test]
async fn a_worker_that_is_quarantined_while_it_waits_gets_nothing() {
    let limits = Limits {
        attempts: 1,
        ..Limits::default()
    };
    let server = serve_limited(limits).await;
    for _ in 0..5 {
        server.create("").await;
    }
    let leases = server.lease(5, Duration::ZERO).await;
    assert_eq!(leases.len(), 5);
    let request = v1::LeaseRequest {
        worker: "fake".into(),
        max_tasks: 1,
        max_wait: Some(Duration::from_secs(20).try_into().unwrap()),
        jobs: Vec::new(),
    };
    let mut workers = server.workers.clone();
    let waiting = tokio::spawn(async move { workers.lease(request).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    for lease in &leases {
        let failed = server.fail(lease, "BROKEN", "everything fails here", false);
        failed.await.unwrap();
    }
    server.create("").await;
    let answer = timeout(Duration::from_secs(10), waiting).await.unwrap();
    let answer = answer.unwrap().unwrap().into_inner();
    assert!(answer.leases.is_empty());
    assert!(answer.quarantined_for.is_some());
}

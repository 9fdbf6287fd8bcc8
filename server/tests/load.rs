//! More than the server can take: refused early, with the time to come back, and without harm to
//! those who are being served.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "the helpers of tests fail as the tests themselves do"
)]

mod support;

use std::time::Duration;

use dual16_proto::v1;
use dual16_server::limits::Limits;
use support::*;
use tokio_stream::StreamExt as _;
use tonic::{Code, Request, transport::Channel};

#[tokio::test]
async fn beyond_what_is_worked_on_calls_are_shed_and_the_vital_ones_pass() {
    let limits = Limits {
        working_calls: 1,
        queued_calls: 0,
        ..Limits::default()
    };
    let server = serve_limited(limits).await;
    server.create("").await;
    let lease = server.lease_one().await;

    let hanging = hang(&server);
    let mut refused = None;
    until(&server, |answer| {
        refused = answer.err();
        refused.is_some()
    })
    .await;
    let refused = refused.unwrap();
    let details = assert_refused(&refused, Code::Unavailable, "OVERLOADED");
    assert!(details.retry_info().is_some());

    let beat = v1::HeartbeatRequest {
        worker: "fake".into(),
        leases: vec![lease_ref(&lease)],
    };
    let kept = server.workers.clone().heartbeat(beat).await.unwrap();
    assert!(kept.into_inner().revoked.is_empty());
    assert!(server.lease(1, Duration::ZERO).await.is_empty());

    hanging.abort();
    until(&server, |answer| answer.is_ok()).await;
}

#[tokio::test]
async fn a_call_waits_in_the_queue_and_one_that_never_ends_gives_up_its_place() {
    let limits = Limits {
        working_calls: 1,
        queued_calls: 1000,
        queued_call_seconds: 60,
        call_seconds: 1,
        ..Limits::default()
    };
    let server = serve_limited(limits).await;
    let hanging = hang(&server);
    // Nobody is refused: whoever comes meanwhile waits.
    for _ in 0..3 {
        ok(server.info.clone().get_info(v1::GetInfoRequest {})).await;
    }
    let ended = hanging.await.unwrap().unwrap_err();
    let details = assert_refused(&ended, Code::DeadlineExceeded, "CALL_TOO_SLOW");
    assert!(details.retry_info().is_some());
}

#[tokio::test]
async fn headers_far_beyond_the_limit_are_refused_by_the_transport_and_the_server_goes_on() {
    let limits = Limits {
        header_bytes: 4096,
        ..Limits::default()
    };
    let server = serve_limited(limits).await;
    let mut request = Request::new(v1::GetInfoRequest {});
    let long = "x".repeat(9000).parse().unwrap();
    request.metadata_mut().insert("long", long);
    server.info.clone().get_info(request).await.unwrap_err();
    let info = server.info.clone().get_info(v1::GetInfoRequest {}).await;
    let limits = info.unwrap().into_inner().limits;
    for (name, value) in [("header_bytes", 4096), ("connection_streams", 2048)] {
        assert_eq!(limits.get(name), Some(&value), "{name}");
    }
}

/// A connection whose reader lets the least possible into flight.
async fn narrow(server: &TestServer) -> Channel {
    let channel = Channel::from_shared(format!("http://{}", server.server.addr())).unwrap();
    let channel = channel
        .initial_stream_window_size(65_535)
        .initial_connection_window_size(65_535);
    channel.connect().await.unwrap()
}

/// Message bytes that the server has handed to the transport for a call that nobody reads, once
/// that has come to rest.
async fn sent_unread(server: &TestServer, rpc: &str) -> u64 {
    let sample = format!("dual16_rpc_sent_bytes_total{{rpc=\"{rpc}\"}} ");
    let (mut last, mut same) = (0, 0);
    for _ in 0..1000 {
        let text = server.server.observed().metrics().await;
        let line = text.lines().find_map(|line| line.strip_prefix(&sample));
        let sent = line.map_or(0, |sent| sent.parse().unwrap());
        same = if sent == last && sent > 0 {
            same + 1
        } else {
            0
        };
        last = sent;
        if same == 20 {
            return sent;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{rpc} did not come to rest: {last} bytes sent");
}

#[tokio::test]
async fn a_watch_that_nobody_reads_holds_a_few_events_only() {
    let server = serve_new().await;
    let job = server.create("").await;
    let lease = server.lease_one().await;
    let notice = |number: usize| v1::EventDetail {
        detail: Some(v1::event_detail::Detail::Notice(v1::Notice {
            severity: 1,
            code: "TEST".into(),
            subject: number.to_string(),
            message: "m".repeat(1000),
        })),
    };
    let events = 3000;
    let request = v1::CompleteRequest {
        lease: Some(lease_ref(&lease)),
        worker: "fake".into(),
        result: Some(inline("")),
        events: (0..events).map(notice).collect(),
        next: Some(v1::complete_request::Next::Finish(v1::Finish::default())),
        blobs: Vec::new(),
    };
    server.complete(request).await.unwrap();

    let channel = narrow(&server).await;
    let mut reader = v1::job_service_client::JobServiceClient::new(channel);
    let request = v1::WatchJobRequest {
        name: job.name,
        after_sequence: 0,
    };
    let mut stream = reader.watch_job(request).await.unwrap().into_inner();
    let sent = sent_unread(&server, "JobService/WatchJob").await;
    assert!(sent <= 1 << 20, "{sent} bytes in flight");
    let mut read = 0;
    while let Some(event) = stream.next().await {
        event.unwrap();
        read += 1;
    }
    assert!(read > events, "{read} events");
}

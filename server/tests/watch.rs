//! Watching under pressure: limited streams, slow readers, and what Info says meanwhile.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "the helpers of tests fail as the tests themselves do"
)]

mod support;

use std::time::Duration;

use dual16_proto::v1::{self, event_detail::Detail};
use dual16_server::limits::Limits;
use support::*;
use tonic::Code;

#[tokio::test]
async fn the_number_of_streams_is_limited_and_a_closed_one_makes_room() {
    let server = serve_limited(Limits {
        watchers: 2,
        ..Limits::default()
    })
    .await;
    let job = server.create("").await;
    let first = server.watching(&job.name, 0).await.unwrap();
    let _second = server.watching(&job.name, 0).await.unwrap();
    let refused = server.watching(&job.name, 0).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    drop(first);
    // The server learns of it from the connection, soon.
    let mut open = None;
    for _ in 0..200 {
        open = server.watching(&job.name, 0).await.ok();
        if open.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(open.is_some(), "the closed stream still counts");
}

#[tokio::test]
async fn a_slow_reader_gets_every_event_and_then_the_end() {
    let server = serve_new().await;
    let job = server.create("").await;
    let mut slow = server.watching(&job.name, 0).await.unwrap();
    let plan = server.lease_one().await;
    let notice = |i| {
        let notice = v1::Notice {
            message: format!("{i}"),
            ..v1::Notice::default()
        };
        v1::EventDetail {
            detail: Some(Detail::Notice(notice)),
        }
    };
    let events = (0..500).map(notice).collect();
    server
        .complete(v1::CompleteRequest {
            events,
            ..do_task(&plan)
        })
        .await
        .unwrap();
    for expected in 1..=400 {
        assert_eq!(slow.message().await.unwrap().unwrap().sequence, expected);
    }
    let cancel = v1::CancelJobRequest {
        name: job.name.clone(),
    };
    server.jobs.clone().cancel_job(cancel).await.unwrap();
    let last = server.job(&job.name).await.last_sequence;
    for expected in 401..=last {
        assert_eq!(slow.message().await.unwrap().unwrap().sequence, expected);
    }
    assert_eq!(slow.message().await.unwrap(), None);

    let open = server.create("").await;
    let gone = v1::DeleteJobRequest {
        name: job.name.clone(),
    };
    server.jobs.clone().delete_job(gone).await.unwrap();
    let refused = server.watching(&job.name, 0).await.unwrap_err();
    assert_refused(&refused, Code::NotFound, "JOB_NOT_FOUND");
    assert!(server.watching(&open.name, 0).await.is_ok());
}

#[tokio::test]
async fn info_counts_what_is_queued_and_leased() {
    let server = serve_new().await;
    server.create("").await;
    server.work_once().await;
    let _running = server.lease_one().await;
    let info = ok(server.info.clone().get_info(v1::GetInfoRequest {})).await;
    assert_eq!((info.queued_tasks, info.leased_tasks), (2, 1));
    assert_eq!(info.limits.get("queued_jobs"), Some(&10_000));
    assert!(!info.version.is_empty());
}

#[tokio::test]
async fn a_reader_that_lags_at_shutdown_is_told_to_come_back() {
    let server = serve_new().await;
    let job = server.create("").await;
    let plan = server.lease_one().await;
    let notice = v1::Notice {
        message: "x".repeat(12_000),
        ..v1::Notice::default()
    };
    let event = v1::EventDetail {
        detail: Some(Detail::Notice(notice)),
    };
    let request = v1::CompleteRequest {
        events: vec![event; 300],
        ..do_task(&plan)
    };
    server.complete(request).await.unwrap();
    let mut lagging = server.watching(&job.name, 0).await.unwrap();
    assert!(lagging.message().await.unwrap().is_some());
    let reading = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        loop {
            match lagging.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the stream of an open job must not end as if it were over"),
                Err(status) => return status,
            }
        }
    };
    let (status, ()) = tokio::join!(reading, server.server.shutdown(Duration::from_secs(3)));
    assert_refused(&status, Code::Unavailable, "SHUTTING_DOWN");
}

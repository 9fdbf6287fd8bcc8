//! The rows: how each limit is exceeded.

use std::time::Duration;

use dual16_proto::v1::{self, complete_request::Next, payload::Kind};
use dual16_server::digest::Digest;
use tokio::{io::AsyncReadExt as _, net::TcpStream, time::timeout};
use tokio_stream::StreamExt as _;
use tonic::{Code, Request};

use crate::{
    Row, Then,
    Then::{Instead, Later, Never},
    acts::{
        Hanging, fail, find_missing, heartbeat, in_lease, notice, refused, result, send, twice,
        with_spec,
    },
    support::{TestServer, completion, do_task, hang, inline},
};

const OVERLOADED: Then = Later(Code::Unavailable, "OVERLOADED");

const fn exhausted(why: &'static str) -> Then {
    Later(Code::ResourceExhausted, why)
}

pub(crate) const ROWS: &[Row] = &[
    row!("queued_jobs", 1, exhausted("QUEUE_FULL"), |s| twice(s)
        .await,),
    row!("owner_jobs", 1, exhausted("QUOTA_EXCEEDED"), |s| twice(s)
        .await,),
    // The spec's model and batch have five bytes each.
    row!("owner_bytes", 10, exhausted("QUOTA_EXCEEDED"), |s| twice(s)
        .await,),
    row!("stored_bytes", 10, exhausted("QUOTA_EXCEEDED"), |s| {
        // The server's first look at its files may yet correct its sum.
        for blob in 0..100 {
            send(s, format!("{blob:05}").as_bytes()).await?;
        }
        Ok(())
    },),
    row!("spec_bytes", 100, Never("spec"), |s| {
        with_spec(s, |_| {}).await
    }),
    row!("spec_files", 2, Never("spec.calibration"), |s| {
        with_spec(s, |_| {}).await
    }),
    row!("spec_settings", 1, Never("spec.quantize.settings"), |s| {
        with_spec(s, |spec| {
            let setting = v1::LayerSetting {
                name: "*".into(),
                value: Some(v1::layer_setting::Value::Way("split".into())),
            };
            spec.quantize = Some(v1::QuantizeSpec {
                settings: vec![setting; 2],
                ..Default::default()
            });
        })
        .await
    }),
    row!("name_bytes", 20, Never("spec.calibration[0].name"), |s| {
        with_spec(s, |spec| spec.calibration[0].name = "x".repeat(21)).await
    }),
    row!("error_bytes", 10, Instead("the message is cut"), |s| {
        let job = s.create("").await;
        fail(s, &"m".repeat(100), true).await?;
        assert_eq!(
            s.job(&job.name).await.error.unwrap().message,
            "m".repeat(10) + "…"
        );
        Ok(())
    }),
    row!("attempts", 1, Instead("the job ends"), |s| {
        let job = s.create("").await;
        fail(s, "broken", false).await?;
        let job = s.job(&job.name).await;
        assert_eq!(job.state(), v1::JobState::Failed);
        assert_eq!(job.error.unwrap().code, "ATTEMPTS_EXHAUSTED");
        Ok(())
    }),
    row!("task_seconds", 7, Instead("the task ends its job"), |s| {
        deadline_is(s, 0, 7).await;
        Ok(())
    }),
    row!("task_estimates", 2, Instead("the task ends its job"), |s| {
        deadline_is(s, 1000, 2000).await;
        Ok(())
    }),
    row!("stages", 1, Never(""), |s| result(s, |_| {}).await),
    row!("stage_maps", 2, Never("stage.maps"), |s| {
        result(s, |_| {}).await
    }),
    row!("artifacts", 1, Never("finish.artifacts"), |s| {
        result(s, |result| {
            let artifact = |name: &str| v1::Artifact {
                name: name.into(),
                digest: Digest::of(b"model").to_string(),
                size: 5,
            };
            let artifacts = vec![artifact("a"), artifact("b")];
            result.next = Some(Next::Finish(v1::Finish { artifacts }));
        })
        .await
    }),
    row!("inline_bytes", 20, Never("result"), |s| {
        result(s, |result| result.result = Some(inline(&"x".repeat(21)))).await
    }),
    row!(
        "lease_bytes",
        100,
        Instead("what does not fit becomes blobs"),
        |s| {
            s.create("").await;
            s.work_once().await;
            for _ in 0..3 {
                let map = s.lease_one().await;
                s.complete(completion(&map, &"r".repeat(1000))).await?;
            }
            let reduce = s.lease_one().await;
            let blob = |input: &v1::Payload| matches!(input.kind, Some(Kind::Blob(_)));
            assert!(reduce.inputs.iter().all(blob), "{:?}", reduce.inputs);
            Ok(())
        },
    ),
    row!("lease_tasks", 1, Instead("no more are granted"), |s| {
        s.create("").await;
        s.create("").await;
        assert_eq!(s.lease(2, Duration::from_secs(3)).await.len(), 1);
        assert_eq!(s.lease(2, Duration::from_secs(3)).await.len(), 1);
        Ok(())
    }),
    row!(
        "lease_wait_seconds",
        0,
        Instead("the answer comes earlier"),
        |s| {
            let asked = s.lease(1, Duration::from_secs(3600));
            let leases = tokio::time::timeout(Duration::from_secs(10), asked).await;
            assert_eq!(leases.unwrap(), []);
            Ok(())
        },
    ),
    row!("result_events", 0, Never("events"), |s| {
        result(s, |result| result.events.push(notice(1))).await
    }),
    row!("event_bytes", 100, Never("events[0]"), |s| {
        result(s, |result| result.events.push(notice(101))).await
    }),
    row!("blob_bytes", 4, Never("size"), |s| {
        send(s, b"12345").await
    }),
    row!("chunk_bytes", 4, Never("data"), |s| {
        send(s, b"12345").await
    }),
    row!("blob_digests", 1, Never("digests"), |s| {
        find_missing(s, 2).await
    }),
    row!(
        "upload_idle_seconds",
        1,
        Later(Code::Aborted, "UPLOAD_IDLE"),
        |s| {
            let first = v1::UploadRequest {
                digest: Digest::of(b"12345").to_string(),
                size: 5,
                offset: 0,
                data: b"123".to_vec().into(),
            };
            let silent = tokio_stream::once(first).chain(tokio_stream::pending());
            s.blobs.clone().upload(silent).await.map(|_| ())
        },
    ),
    row!("watchers", 1, exhausted("TOO_MANY_WATCHERS"), |s| {
        let job = s.create("").await;
        let _first = s.watching(&job.name, 0).await?;
        s.watching(&job.name, 0).await.map(|_| ())
    },),
    row!("transfers", 1, exhausted("TOO_MANY_TRANSFERS"), |s| {
        let mut blobs = s.blobs.clone();
        let upload = async move {
            let silent = tokio_stream::pending::<v1::UploadRequest>();
            blobs.upload(silent).await.map(|_| ())
        };
        let _hanging = Hanging(tokio::spawn(upload));
        tokio::time::sleep(Duration::from_millis(200)).await;
        send(s, b"12345").await
    },),
    row!("held_leases", 1, Never("leases"), |s| {
        heartbeat(s, 2).await
    }),
    row!("connections", 1, Instead("others wait their turn"), |s| {
        heartbeat(s, 0).await?;
        let mut other = TcpStream::connect(s.server.addr()).await.unwrap();
        let mut byte = [0];
        let waited = timeout(Duration::from_millis(500), other.read(&mut byte)).await;
        assert!(waited.is_err(), "the connection was served or closed");
        heartbeat(s, 0).await
    }),
    row!(
        "handshake_seconds",
        1,
        Instead("the connection is closed"),
        |s| {
            let mut silent = TcpStream::connect(s.server.addr()).await.unwrap();
            let mut answer = Vec::new();
            // Closed or reset, it is over.
            let over = timeout(Duration::from_secs(10), silent.read_to_end(&mut answer)).await;
            assert!(over.is_ok(), "the connection is still open");
            Ok(())
        },
    ),
    row!("vital_calls", 0, OVERLOADED, |s| heartbeat(s, 0).await),
    row!("open_calls", 1, exhausted("TOO_MANY_CALLS"), |s| {
        let _hanging = Hanging(hang(s));
        refused(s).await
    },),
    row!(
        "connection_streams",
        1,
        Instead("the caller's side waits"),
        |s| {
            let job = s.create("").await;
            let stream = s.watching(&job.name, 0).await?;
            let info = async || s.info.clone().get_info(v1::GetInfoRequest {}).await;
            let waited = tokio::time::timeout(Duration::from_millis(300), info()).await;
            assert!(waited.is_err(), "a second stream was let through");
            drop(stream);
            info().await.map(|_| ())
        },
    ),
    Row {
        with: &[("queued_calls", 0)],
        ..row!("working_calls", 1, OVERLOADED, |s| {
            let _hanging = Hanging(hang(s));
            refused(s).await
        })
    },
    Row {
        with: &[("working_calls", 1)],
        ..row!("queued_calls", 0, OVERLOADED, |s| {
            let _hanging = Hanging(hang(s));
            refused(s).await
        })
    },
    Row {
        with: &[("working_calls", 1)],
        ..row!("queued_call_seconds", 1, OVERLOADED, |s| {
            let _hanging = Hanging(hang(s));
            refused(s).await
        })
    },
    row!(
        "decoded_bytes",
        1,
        Instead("one waits for the other"),
        |s| {
            let (one, other) = tokio::join!(find_missing(s, 20), find_missing(s, 30));
            one.and(other)
        },
    ),
    row!(
        "call_seconds",
        1,
        Later(Code::DeadlineExceeded, "CALL_TOO_SLOW"),
        |s| hang(s).await.unwrap(),
    ),
    row!("header_bytes", 1000, Never("headers"), |s| {
        let mut request = Request::new(v1::GetInfoRequest {});
        let long = "x".repeat(1000).parse().unwrap();
        request.metadata_mut().insert("long", long);
        s.info.clone().get_info(request).await.map(|_| ())
    }),
    Row {
        // What is allowed in a message must fit into one.
        with: &[("chunk_bytes", 500), ("spec_bytes", 500)],
        ..row!("message_bytes", 2000, Never("message"), |s| {
            find_missing(s, 40).await
        })
    },
    row!("model_nodes", 7, Instead("workers are told"), |s| {
        in_lease(s, |limits| limits.model_nodes, 7).await
    }),
    row!("file_tensors", 7, Instead("workers are told"), |s| {
        in_lease(s, |limits| limits.file_tensors, 7).await
    }),
    row!("tensor_name_bytes", 7, Instead("workers are told"), |s| {
        in_lease(s, |limits| limits.tensor_name_bytes, 7).await
    }),
    row!("graph_nesting", 7, Instead("workers are told"), |s| {
        in_lease(s, |limits| limits.graph_nesting, 7).await
    }),
    row!("unpacked_bytes", 7, Instead("workers are told"), |s| {
        in_lease(s, |limits| limits.unpacked_bytes, 7).await
    }),
];

/// How long a task may take that is expected to take so many seconds.
async fn deadline_is(server: &TestServer, expected_seconds: u64, seconds: i64) {
    server.create("").await;
    let mut done = do_task(&server.lease_one().await);
    if let Some(Next::Stage(stage)) = &mut done.next {
        stage.expected_seconds = expected_seconds;
    }
    server.complete(done).await.unwrap();
    let deadline = server.lease_one().await.deadline.unwrap();
    assert_eq!(deadline.seconds, seconds);
}

//! A server that has all the work it takes: strangers neither wait for a place nor take one.

use std::{fs, time::Duration};

use dual16_server::limits::Limits;
use tonic::{Code, Request, client::Grpc, codegen::http::uri::PathAndQuery};
use tonic_prost::ProstCodec;

use super::guarded::{Caller, Guarded, entries};

const CANCEL: &str = "/dual16.v1.JobService/CancelJob";
const JOB: &str = "jobs/00000000-0000-7000-8000-000000000000";

#[tokio::test]
async fn who_is_not_let_in_takes_no_place_and_who_is_shed_leaves_no_line() {
    let ann = Caller::new("ann", "submit");
    let stranger = Caller::new("ann", "submit");
    let guarded = Guarded::start_with(&entries(&[&ann]), |options| {
        options.limits = Limits {
            working_calls: 1,
            queued_calls: 0,
            ..Limits::default()
        };
    })
    .await;
    // A request that never ends has the only place.
    let mut client = Grpc::new(guarded.channel.clone());
    let token = format!("Bearer {}", ann.secret());
    let hanging = tokio::spawn(async move {
        // The place may be another's at first.
        loop {
            client.ready().await.unwrap();
            let mut request = Request::new(tokio_stream::pending::<String>());
            let metadata = request.metadata_mut();
            metadata.insert("authorization", token.parse().unwrap());
            let path: PathAndQuery = "/dual16.v1.JobService/GetJob".parse().unwrap();
            let codec = ProstCodec::<String, ()>::default();
            let _ = client.client_streaming(request, path, codec).await;
        }
    });
    for left in (0..1000).rev() {
        if guarded.code_as(&ann).await == Code::Unavailable {
            break;
        }
        assert!(left > 0, "the place stays free");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    let shed = guarded.call_as(&ann, CANCEL, JOB).await.unwrap_err();
    assert_eq!(shed.code(), Code::Unavailable, "{shed:?}");
    let refused = guarded.call_as(&stranger, CANCEL, JOB).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused:?}");

    hanging.abort();
    for left in (0..1000).rev() {
        if guarded.code_as(&ann).await == Code::Ok {
            break;
        }
        assert!(left > 0, "the place is never free");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let audit = fs::read_to_string(guarded.file("audit")).unwrap();
    assert!(!audit.contains("UNAVAILABLE"), "{audit}");
    assert_eq!(audit.lines().count(), 1, "{audit}");
    assert!(audit.contains("UNAUTHENTICATED"), "{audit}");
}

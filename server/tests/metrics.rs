//! What strangers send makes no new series, and what ends badly is counted by how it ended.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "the helpers of tests fail as the tests themselves do"
)]

mod support;

use dual16_proto::v1;
use tonic::{Code, Request, client::Grpc, transport::Channel};
use tonic_prost::ProstCodec;

#[tokio::test]
async fn invented_methods_are_one_series_and_errors_are_counted_by_code() {
    let server = support::serve_new().await;
    let channel = Channel::from_shared(format!("http://{}", server.server.addr())).unwrap();
    let mut grpc = Grpc::new(channel.connect().await.unwrap());
    for invented in ["/dual16.v1.JobService/Invented", "/some.Other/Thing"] {
        grpc.ready().await.unwrap();
        let codec = ProstCodec::<v1::GetJobRequest, v1::Job>::default();
        let request = Request::new(v1::GetJobRequest::default());
        let answer = grpc.unary(request, invented.parse().unwrap(), codec).await;
        assert_eq!(
            answer.unwrap_err().code(),
            Code::Unimplemented,
            "{invented}"
        );
    }
    let bad = v1::GetJobRequest {
        name: "no job".into(),
    };
    server.jobs.clone().get_job(bad).await.unwrap_err();

    let text = server.server.observed().metrics().await;
    assert!(
        !text.contains("Invented") && !text.contains("some.Other"),
        "{text}"
    );
    for counted in [
        "dual16_rpcs_total{rpc=\"other\",code=\"UNIMPLEMENTED\"} 2",
        "dual16_rpcs_total{rpc=\"JobService/GetJob\",code=\"INVALID_ARGUMENT\"} 1",
        "dual16_open_rpcs{rpc=\"JobService/GetJob\"} 0",
    ] {
        assert!(
            text.lines().any(|line| line == counted),
            "no {counted} in\n{text}"
        );
    }
}

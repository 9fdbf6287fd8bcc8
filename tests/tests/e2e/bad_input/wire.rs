//! Calls over gRPC as it is, and what is wrong with how they were refused.

use std::time::Duration;

use dual16_proto::{
    digest::Digest,
    v1::{
        self, blob_service_client::BlobServiceClient, job_service_client::JobServiceClient,
        job_spec::Model,
    },
};
use dual16_tests::ServerProcess;
use tokio::runtime::Runtime;
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_types::StatusExt as _;

use super::requests::REQUESTS;

/// Sends every request, and says what is wrong with the refusals.
pub(super) fn check(server: &ServerProcess) -> Vec<String> {
    let runtime = Runtime::new().unwrap();
    let channel = connect(&runtime, server);
    let mut problems = Vec::new();
    for request in REQUESTS {
        let Some(status) = (request.call)(&runtime, channel.clone()) else {
            problems.push(format!("{}: was taken", request.name));
            continue;
        };
        let violations = status.get_details_bad_request();
        let missing = status.get_details_precondition_failure();
        let said = format!("{status} {violations:?} {missing:?}");
        let unsaid = request.says.iter().find(|part| !said.contains(**part));
        if status.code() != request.code || unsaid.is_some() {
            problems.push(format!("{}: does not say {unsaid:?}: {said}", request.name));
        }
    }
    problems
}

/// The server says of itself that it serves.
pub(super) fn is_serving(server: &ServerProcess) {
    let runtime = Runtime::new().unwrap();
    let channel = connect(&runtime, server);
    let request = HealthCheckRequest::default();
    let answer = runtime.block_on(async { HealthClient::new(channel).check(request).await });
    let status = answer.unwrap().into_inner().status();
    assert_eq!(status.as_str_name(), "SERVING");
}

fn connect(runtime: &Runtime, server: &ServerProcess) -> Channel {
    let endpoint = Endpoint::from_shared(server.url()).unwrap();
    let endpoint = endpoint.timeout(Duration::from_secs(60));
    runtime.block_on(endpoint.connect()).unwrap()
}

pub(super) async fn create(
    channel: Channel,
    change: impl FnOnce(&mut v1::JobSpec),
) -> Result<tonic::Response<v1::Job>, Status> {
    let file = |name: &str| v1::InputFile {
        name: name.to_owned(),
        digest: Digest::of(name.as_bytes()).to_string(),
        size: 7,
    };
    let mut spec = v1::JobSpec {
        model: Some(Model::Layers(v1::LayerModel {
            weights: Some(file("w.safetensors")),
        })),
        calibration: vec![file("0.npz")],
        ..v1::JobSpec::default()
    };
    change(&mut spec);
    let request = v1::CreateJobRequest {
        spec: Some(spec),
        ..v1::CreateJobRequest::default()
    };
    JobServiceClient::new(channel).create_job(request).await
}

pub(super) async fn get(channel: Channel, name: &str) -> Result<tonic::Response<v1::Job>, Status> {
    let request = v1::GetJobRequest {
        name: name.to_owned(),
    };
    JobServiceClient::new(channel).get_job(request).await
}

pub(super) async fn upload(
    channel: Channel,
    change: impl FnOnce(&mut v1::UploadRequest),
) -> Result<tonic::Response<v1::UploadResponse>, Status> {
    let mut message = v1::UploadRequest {
        digest: Digest::of(b"right").to_string(),
        size: 5,
        offset: 0,
        data: b"right".to_vec().into(),
    };
    change(&mut message);
    let messages = tokio_stream::once(message);
    BlobServiceClient::new(channel).upload(messages).await
}

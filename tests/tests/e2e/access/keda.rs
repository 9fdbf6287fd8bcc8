//! KEDA has no way to send a token: it shows a certificate, which lets it ask how many workers are wanted.

use std::{collections::HashMap, fs};

use dual16_proto::{
    externalscaler::{ScaledObjectRef, external_scaler_client::ExternalScalerClient},
    v1::{ListJobsRequest, job_service_client::JobServiceClient},
};
use tonic::{
    Code,
    transport::{Certificate, Channel, ClientTlsConfig, Identity},
};

use super::secured::Secured;

/// A connection as KEDA makes it from `caCert`, `tlsClientCert` and `tlsClientKey`.
async fn connect(server: &Secured) -> Channel {
    let files = server.client_certificate();
    let [_, certificate, _, key] = &files[..] else {
        panic!("{files:?}")
    };
    let identity = Identity::from_pem(fs::read(certificate).unwrap(), fs::read(key).unwrap());
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(server.authority().pem()))
        .identity(identity);
    let endpoint = Channel::from_shared(server.url()).unwrap().tls_config(tls);
    endpoint.unwrap().connect().await.unwrap()
}

fn object() -> ScaledObjectRef {
    ScaledObjectRef {
        scaler_metadata: HashMap::from([("tasksPerWorker".into(), "4".into())]),
        ..ScaledObjectRef::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_with_the_role_scaler_may_ask_for_that_and_see_no_job() {
    let mut server = Secured::start_mutual();
    let channel = connect(&server).await;
    let mut scaler = ExternalScalerClient::new(channel.clone());
    let unknown = scaler.is_active(object()).await.unwrap_err();
    assert_eq!(unknown.code(), Code::Unauthenticated, "{unknown}");

    server.certificate_entry("keda", "scaler");
    server.reload();
    let active = scaler.is_active(object()).await.unwrap();
    assert!(!active.into_inner().result);
    let mut jobs = JobServiceClient::new(channel);
    let refused = jobs.list_jobs(ListJobsRequest::default()).await;
    assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
}

//! What a caller does to exceed a limit; most rows have that in common.

use dual16_proto::v1;
use dual16_server::digest::Digest;
use tonic::Status;

use crate::support::{TestServer, do_task, submission, until};

/// A call that is let go with this.
pub(crate) struct Hanging(pub(crate) tokio::task::JoinHandle<Result<(), Status>>);

impl Drop for Hanging {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The refusal that a call meets once the hanging one has its place.
pub(crate) async fn refused(server: &TestServer) -> Result<(), Status> {
    let mut refused = Ok(());
    until(server, |answer| {
        refused = answer;
        refused.is_err()
    })
    .await;
    refused
}

/// Creates a job, and another like it.
pub(crate) async fn twice(server: &TestServer) -> Result<(), Status> {
    server.create("").await;
    with_spec(server, |_| {}).await
}

pub(crate) async fn with_spec(
    server: &TestServer,
    change: impl FnOnce(&mut v1::JobSpec),
) -> Result<(), Status> {
    let mut spec = server.spec().await;
    change(&mut spec);
    let request = submission(spec);
    server.jobs.clone().create_job(request).await.map(|_| ())
}

/// Uploads a blob in one message.
pub(crate) async fn send(server: &TestServer, data: &[u8]) -> Result<(), Status> {
    let message = v1::UploadRequest {
        digest: Digest::of(data).to_string(),
        size: data.len() as u64,
        offset: 0,
        data: data.to_vec().into(),
    };
    let messages = tokio_stream::once(message);
    server.blobs.clone().upload(messages).await.map(|_| ())
}

pub(crate) async fn find_missing(server: &TestServer, count: usize) -> Result<(), Status> {
    let digests = vec![Digest::of(b"x").to_string(); count];
    let request = v1::FindMissingRequest { digests };
    server.blobs.clone().find_missing(request).await.map(|_| ())
}

/// Renews so many leases that nobody has.
pub(crate) async fn heartbeat(server: &TestServer, leases: usize) -> Result<(), Status> {
    let request = v1::HeartbeatRequest {
        worker: "fake".into(),
        leases: vec![v1::LeaseRef::default(); leases],
    };
    server.workers.clone().heartbeat(request).await.map(|_| ())
}

/// Hands in the plan task of a new job, changed.
pub(crate) async fn result(
    server: &TestServer,
    change: impl FnOnce(&mut v1::CompleteRequest),
) -> Result<(), Status> {
    server.create("").await;
    let mut request = do_task(&server.lease_one().await);
    change(&mut request);
    server.complete(request).await
}

pub(crate) async fn fail(
    server: &TestServer,
    message: &str,
    permanent: bool,
) -> Result<(), Status> {
    let lease = server.lease_one().await;
    server.fail(&lease, "IO", message, permanent).await
}

pub(crate) fn notice(bytes: usize) -> v1::EventDetail {
    let notice = v1::Notice {
        message: "m".repeat(bytes),
        ..Default::default()
    };
    v1::EventDetail {
        detail: Some(v1::event_detail::Detail::Notice(notice)),
    }
}

/// A limit on what the server does not read itself is in every lease.
pub(crate) async fn in_lease(
    server: &TestServer,
    limit: fn(v1::InputLimits) -> Option<u64>,
    low: u64,
) -> Result<(), Status> {
    server.create("").await;
    let limits = server.lease_one().await.input_limits;
    assert_eq!(limits.and_then(limit), Some(low));
    Ok(())
}

//! Tells the server how a task ended. A report is repeated until the server has answered it or has
//! taken the lease away: work that is done is not thrown away because the server was restarted.

use std::{collections::BTreeSet, io, sync::Arc, time::Duration};

use dual16_proto::{
    credentials::AuthorizedChannel,
    v1::{
        Artifact, CompleteRequest, FailRequest, Finish, LeaseRef, Payload, ReleaseRequest, Stage,
        complete_request, payload, worker_service_client::WorkerServiceClient,
    },
};
use tonic::{Code, Response, Status};
use tonic_types::StatusExt as _;

use crate::{
    backoff::Backoff,
    blob_store::BlobStore,
    connection::{CALL_TIMEOUT, traced, transient, within},
    digest::Digest,
    leases::HeldLease,
    link::Link,
    runner::{Next, TaskError, TaskOutput},
};

/// All inline payloads of one message together: a stage of many tasks must fit into a message.
const INLINE_BYTES_OF_MESSAGE: usize = 1 << 20;

/// Longest error message that is sent; the server keeps less of it.
const MESSAGE_BYTES: usize = 16 << 10;

/// Reason of the ErrorInfo that refuses a report because another attempt has the task.
const LEASE_LOST: &str = "LEASE_LOST";

/// Hands in results and errors.
#[derive(Debug)]
pub(crate) struct Reporter {
    pub(crate) client: WorkerServiceClient<AuthorizedChannel>,
    pub(crate) worker: String,
    /// Largest payload within a message, in bytes; larger ones go as blobs.
    pub(crate) inline_bytes: usize,
    pub(crate) store: Arc<BlobStore>,
    pub(crate) link: Arc<Link>,
}

impl Reporter {
    /// Hands in a result, and which blobs the task left for later ones. One that cannot be stored or
    /// that the server refuses fails the task, so that the job's owner reads why.
    pub(crate) async fn complete(
        &self,
        held: &HeldLease,
        outcome: TaskOutput,
        left: BTreeSet<Digest>,
    ) {
        let message = held
            .lost()
            .run_until_cancelled(self.completion(held, outcome, left))
            .await;
        let message = match message {
            None => return,
            Some(Ok(message)) => message,
            Some(Err(error)) => {
                let error = TaskError::storing("the result", &error);
                return self.fail(held, error).await;
            }
        };
        let send = || {
            let (mut client, message) = (self.client.clone(), message.clone());
            async move { client.complete(traced(message)).await }
        };
        if let Err(status) = self.repeat(held, send).await {
            let error = TaskError {
                code: TaskError::RESULT_REFUSED.into(),
                message: format!("the server refused the result: {}", status.message()),
                permanent: false,
            };
            self.fail(held, error).await;
        }
    }

    /// Hands in an error. A message that is too long is cut, for a failure must get through.
    pub(crate) async fn fail(&self, held: &HeldLease, error: TaskError) {
        let TaskError {
            code,
            mut message,
            permanent,
        } = error;
        if message.len() > MESSAGE_BYTES {
            message.truncate(message.floor_char_boundary(MESSAGE_BYTES));
            message.push('…');
        }
        tracing::warn!(%code, permanent, error = %message, "task failed");
        let message = FailRequest {
            lease: Some(held.lease().clone()),
            worker: self.worker.clone(),
            code: code.into_owned(),
            message,
            permanent,
        };
        let send = || {
            let (mut client, message) = (self.client.clone(), message.clone());
            async move { client.fail(traced(message)).await }
        };
        if let Err(status) = self.repeat(held, send).await {
            // The lease runs out, which queues the task again.
            tracing::error!(code = ?status.code(), error = status.message(), "failure refused");
        }
    }

    /// Gives tasks back untouched, trying for `limit` at most. If it cannot, their leases run out.
    pub(crate) async fn release(&self, leases: Vec<LeaseRef>, limit: Duration) {
        let message = ReleaseRequest {
            worker: self.worker.clone(),
            leases,
        };
        let give_back = async {
            let mut backoff = Backoff::new();
            loop {
                match within(limit, self.client.clone().release(message.clone())).await {
                    Err(status) if transient(&status) => self.link.failed(&status),
                    done => return done.map(drop),
                }
                backoff.wait().await;
            }
        };
        match tokio::time::timeout(limit, give_back).await {
            Ok(Ok(())) => {}
            Ok(Err(status)) => {
                tracing::warn!(code = ?status.code(), error = status.message(), "release refused");
            }
            Err(_) => tracing::warn!("tasks not released in time; their leases will run out"),
        }
    }

    /// Repeats a call until it is answered. A lost lease is no error, and no answer: there is nothing
    /// left to do.
    async fn repeat<T, F>(
        &self,
        held: &HeldLease,
        mut call: impl FnMut() -> F,
    ) -> Result<Option<T>, Status>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let repeated = async {
            let mut backoff = Backoff::new();
            loop {
                let status = match within(CALL_TIMEOUT, call()).await {
                    Ok(answer) => {
                        self.link.answered();
                        return Ok(Some(answer));
                    }
                    Err(status) => status,
                };
                if lease_lost(&status) {
                    tracing::info!(reason = status.message(), "report came too late");
                    return Ok(None);
                }
                if !transient(&status) {
                    return Err(status);
                }
                self.link.failed(&status);
                backoff.wait().await;
            }
        };
        held.lost()
            .run_until_cancelled(repeated)
            .await
            .unwrap_or(Ok(None))
    }

    async fn completion(
        &self,
        held: &HeldLease,
        outcome: TaskOutput,
        left: BTreeSet<Digest>,
    ) -> io::Result<CompleteRequest> {
        let mut payloads = Payloads {
            store: &self.store,
            inline_bytes: self.inline_bytes,
            inline_left: INLINE_BYTES_OF_MESSAGE,
        };
        let next = match outcome.next {
            None => None,
            Some(Next::Finish(files)) => {
                let artifacts = files.into_iter().map(|file| Artifact {
                    name: file.name,
                    digest: file.digest,
                    size: file.size,
                });
                Some(complete_request::Next::Finish(Finish {
                    artifacts: artifacts.collect(),
                }))
            }
            Some(Next::Stage(stage)) => {
                let mut maps = Vec::with_capacity(stage.maps.len());
                for map in stage.maps {
                    maps.push(payloads.wrap(map).await?);
                }
                let reduce = Some(payloads.wrap(stage.reduce).await?);
                Some(complete_request::Next::Stage(Stage {
                    name: stage.name,
                    maps,
                    reduce,
                    expected_seconds: stage.seconds,
                }))
            }
        };
        Ok(CompleteRequest {
            lease: Some(held.lease().clone()),
            worker: self.worker.clone(),
            result: Some(payloads.wrap(outcome.result).await?),
            events: outcome.events,
            blobs: left.iter().map(Digest::to_string).collect(),
            next,
        })
    }
}

/// Decides for each payload of one message whether it travels inside or as a blob.
struct Payloads<'a> {
    store: &'a BlobStore,
    inline_bytes: usize,
    inline_left: usize,
}

impl Payloads<'_> {
    async fn wrap(&mut self, bytes: Vec<u8>) -> io::Result<Payload> {
        let kind = if bytes.len() <= self.inline_bytes.min(self.inline_left) {
            self.inline_left -= bytes.len();
            payload::Kind::Inline(bytes)
        } else {
            payload::Kind::Blob(self.store.put(bytes).await?.to_string())
        };
        Ok(Payload { kind: Some(kind) })
    }
}

/// Whether the task has another attempt by now, or its job is gone.
fn lease_lost(status: &Status) -> bool {
    match status.code() {
        Code::NotFound => true,
        Code::FailedPrecondition => status
            .get_details_error_info()
            .is_some_and(|info| info.reason == LEASE_LOST),
        _ => false,
    }
}

//! Tells the server how a task ended. A report is repeated until the server has answered it or has
//! taken the lease away: work that is done is not thrown away because the server was restarted.

use std::{collections::BTreeSet, io, sync::Arc, time::Duration};

use dual16_proto::v1::{
    Artifact, CompleteRequest, FailRequest, Finish, LeaseRef, Payload, ReleaseRequest, Stage,
    complete_request, payload,
};
use dual16_rpc::{CallError, Connection};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{
    blob_store::BlobStore,
    digest::Digest,
    leases::HeldLease,
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
    pub(crate) connection: Connection,
    pub(crate) worker: String,
    /// Largest payload within a message, in bytes; larger ones go as blobs.
    pub(crate) inline_bytes: usize,
    pub(crate) store: Arc<BlobStore>,
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
        let service = self.connection.worker();
        let call = self.connection.call("Complete", service, message, {
            |mut worker, message| async move { worker.complete(message).await }
        });
        if let Err(status) = answered(held, call).await {
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
        let service = self.connection.worker();
        let call = self.connection.call("Fail", service, message, {
            |mut worker, message| async move { worker.fail(message).await }
        });
        if let Err(status) = answered(held, call).await {
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
        let service = self.connection.worker();
        let give_back = self.connection.call("Release", service, message, {
            |mut worker, message| async move { worker.release(message).await }
        });
        match tokio::time::timeout(limit, give_back).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "release refused"),
            Err(_) => tracing::warn!("tasks not released in time; their leases will run out"),
        }
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

/// Waits for a call's end. A lost lease is no error, and no answer: there is nothing left to do.
async fn answered<T>(
    held: &HeldLease,
    call: impl Future<Output = Result<T, CallError>>,
) -> Result<(), Status> {
    match held.lost().run_until_cancelled(call).await {
        None | Some(Ok(_)) => Ok(()),
        Some(Err(CallError { status, .. })) if lease_lost(&status) => {
            tracing::info!(reason = status.message(), "report came too late");
            Ok(())
        }
        Some(Err(error)) => Err(error.status),
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

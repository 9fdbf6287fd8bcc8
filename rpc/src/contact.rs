//! The first call: waits for the server, makes sure that it is one, and learns its limits.

use std::time::{Duration, Instant};

use dual16_proto::v1::{GetInfoRequest, GetInfoResponse};
use tonic::{Code, Status};

use crate::{
    connection::{CALL_TIMEOUT, Connection, deadline},
    credentials::explain,
    retry::reason,
};

/// A server that answered.
#[derive(Debug, Clone)]
pub struct Contact {
    /// What it says of itself.
    pub info: GetInfoResponse,
    /// How long its answer took.
    pub round_trip: Duration,
}

/// Why there is no contact.
#[derive(Debug, thiserror::Error)]
pub enum ContactError {
    /// Nothing answered in time.
    #[error("no answer within {waited:?}: {last}")]
    Unreachable {
        /// How long it was tried.
        waited: Duration,
        /// Why the last try failed.
        last: String,
    },
    /// The two sides do not trust each other, or the server does not let this caller in.
    #[error("{}", reason(.0))]
    Refused(Status),
    /// Something answered that is no dual16 server.
    #[error("it does not know the service ({})", .0.message())]
    NotDual16(Status),
}

impl Connection {
    /// Waits for the first answer, for ever without a `limit`, and checks that it comes from a dual16
    /// server. From then on blobs go in pieces of the size that it takes.
    ///
    /// # Errors
    /// [`ContactError`].
    pub async fn first_contact(
        &mut self,
        limit: Option<Duration>,
    ) -> Result<Contact, ContactError> {
        let began = Instant::now();
        let mut last = "no answer yet".to_owned();
        let answer = async {
            let mut retry = self.retry("GetInfo");
            loop {
                let asked = Instant::now();
                let call = async { self.info().get_info(GetInfoRequest {}).await };
                let status = match deadline(CALL_TIMEOUT, call).await {
                    Ok(info) => {
                        self.policy.answered();
                        return Ok(Contact {
                            info: info.into_inner(),
                            round_trip: asked.elapsed(),
                        });
                    }
                    Err(status) => status,
                };
                // Wrong from the first call on: waiting does not make it right.
                if is_refusal(&status) {
                    return Err(status);
                }
                last = reason(&status);
                retry.pause(status).await.map_err(|error| error.status)?;
            }
        };
        let answer = match limit {
            None => Ok(answer.await),
            Some(limit) => tokio::time::timeout(limit, answer).await,
        };
        match answer {
            Ok(Ok(contact)) => {
                let named = contact.info.limits.get("chunk_bytes");
                if let Some(bytes) = named.and_then(|bytes| usize::try_from(*bytes).ok()) {
                    // A piece of nothing would never end; one of everything would not fit into memory.
                    self.chunk_bytes = bytes.clamp(1 << 10, 4 << 20);
                }
                Ok(contact)
            }
            Ok(Err(status)) => match status.code() {
                // A handshake that failed has the code of what cannot be told as well.
                Code::Unimplemented | Code::Unknown if !is_refusal(&status) => {
                    Err(ContactError::NotDual16(status))
                }
                _ => Err(ContactError::Refused(status)),
            },
            Err(_) => Err(ContactError::Unreachable {
                waited: began.elapsed(),
                last,
            }),
        }
    }
}

fn is_refusal(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unauthenticated | Code::PermissionDenied
    ) || explain(status).is_some()
}

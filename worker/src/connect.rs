//! The first contact: waits for the server, makes sure that it is one, and learns its limits.

use std::{
    io,
    path::PathBuf,
    time::{Duration, Instant},
};

use dual16_proto::{
    credentials::explain,
    v1::{GetInfoRequest, GetInfoResponse},
};
use thiserror::Error;
use tokio::time;
use tonic::{Code, Status};

use crate::{
    backoff::Backoff,
    connection::{CALL_TIMEOUT, Connection, reason, transient, within},
    link::Link,
};

/// Why a worker could not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The server's URL makes no sense.
    #[error("server '{server}': {reason}")]
    InvalidServer {
        /// As given.
        server: String,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// Nothing answered within [`WorkerOptions::connect_timeout`].
    #[error("server {server} did not answer within {limit:?}: {reason}")]
    Unreachable {
        /// As given.
        server: String,
        /// The limit.
        limit: Duration,
        /// The last try's error.
        reason: String,
    },
    /// The two sides do not trust each other, or the server does not let this worker in.
    #[error("server {server} and this worker do not get together: {reason}")]
    Refused {
        /// As given.
        server: String,
        /// Why, and what would help.
        reason: String,
    },
    /// Something answered that is no dual16 server.
    #[error("{server} is no dual16 server: {reason}")]
    NotAServer {
        /// As given.
        server: String,
        /// What it answered.
        reason: String,
    },
    /// The cache folder cannot be used.
    #[error("cache folder {}: {source}", .dir.display())]
    Cache {
        /// The folder.
        dir: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The system has no threads left.
    #[error("cannot start threads: {0}")]
    Threads(#[source] io::Error),
}

/// Least and most of [`Limits::parting`].
const PARTING: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));

/// What the server and the way to it mean for a worker. A server that does not name one has its default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Largest payload within a message, in bytes; larger ones go as blobs.
    pub(crate) inline_bytes: usize,
    /// Largest piece of an upload, in bytes.
    pub(crate) chunk_bytes: usize,
    /// How long an answer that the server has sent may be on its way.
    pub(crate) parting: Duration,
}

impl Limits {
    fn of(info: &GetInfoResponse, round_trip: Duration) -> Self {
        let named = |name: &str, default: usize| {
            let limit = info
                .limits
                .get(name)
                .and_then(|limit| usize::try_from(*limit).ok());
            limit.unwrap_or(default)
        };
        Self {
            inline_bytes: named("inline_bytes", 16 << 10),
            // A piece of nothing would never end; one of everything would not fit into memory.
            chunk_bytes: named("chunk_bytes", 1 << 20).clamp(1 << 10, 4 << 20),
            parting: (2 * round_trip).clamp(PARTING.0, PARTING.1),
        }
    }
}

/// Waits for the first answer, and checks that it comes from a dual16 server.
pub(crate) async fn connect(
    connection: &Connection,
    link: &Link,
    server: &str,
    limit: Option<Duration>,
) -> Result<Limits, StartError> {
    let mut last = String::from("no answer yet");
    let answered = async {
        let mut backoff = Backoff::new();
        loop {
            let asked = Instant::now();
            match within(CALL_TIMEOUT, connection.info().get_info(GetInfoRequest {})).await {
                Ok(info) => {
                    link.answered();
                    tracing::debug!(%server, version = %info.version, "connected");
                    return Ok(Limits::of(&info, asked.elapsed()));
                }
                // Wrong from the first call on: waiting does not make it right.
                Err(status) if is_refusal(&status) => return Err(status),
                Err(status) if transient(&status) => {
                    link.failed(&status);
                    last = reason(&status);
                }
                Err(status) => return Err(status),
            }
            backoff.wait().await;
        }
    };
    let answer = match limit {
        None => Ok(answered.await),
        Some(limit) => time::timeout(limit, answered).await.map_err(|_| limit),
    };
    match answer {
        Ok(Ok(limits)) => Ok(limits),
        Ok(Err(status)) => {
            let (server, reason) = (server.to_owned(), reason(&status));
            Err(match is_refusal(&status) {
                true => StartError::Refused { server, reason },
                false => StartError::NotAServer { server, reason },
            })
        }
        Err(limit) => Err(StartError::Unreachable {
            server: server.to_owned(),
            limit,
            reason: last,
        }),
    }
}

fn is_refusal(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unauthenticated | Code::PermissionDenied
    ) || explain(status).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_the_servers_and_sound() {
        let mut info = GetInfoResponse::default();
        let default = Limits {
            inline_bytes: 16_384,
            chunk_bytes: 1_048_576,
            parting: Duration::from_millis(60),
        };
        let round_trip = Duration::from_millis(30);
        assert_eq!(Limits::of(&info, round_trip), default);
        info.limits.insert("inline_bytes".to_owned(), 100);
        info.limits.insert("chunk_bytes".to_owned(), 0);
        let limits = Limits::of(&info, Duration::MAX / 4);
        assert_eq!(limits.parting, PARTING.1);
        assert_eq!((limits.inline_bytes, limits.chunk_bytes), (100, 1024));
    }
}

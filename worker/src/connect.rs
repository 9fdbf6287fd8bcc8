//! The first contact: waits for the server, makes sure that it is one, and learns its limits.

use std::{io, path::PathBuf, time::Duration};

use dual16_proto::v1::GetInfoResponse;
use dual16_rpc::{Connection, Contact, ContactError};
use thiserror::Error;

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
    /// How long an answer that the server has sent may be on its way.
    pub(crate) parting: Duration,
}

impl Limits {
    fn of(info: &GetInfoResponse, round_trip: Duration) -> Self {
        let inline = info.limits.get("inline_bytes");
        let inline = inline.and_then(|bytes| usize::try_from(*bytes).ok());
        Self {
            inline_bytes: inline.unwrap_or(16 << 10),
            parting: (2 * round_trip).clamp(PARTING.0, PARTING.1),
        }
    }
}

/// Waits for the first answer, and checks that it comes from a dual16 server.
pub(crate) async fn connect(
    connection: &mut Connection,
    server: &str,
    limit: Option<Duration>,
) -> Result<Limits, StartError> {
    let server = server.to_owned();
    match connection.first_contact(limit).await {
        Ok(Contact { info, round_trip }) => {
            tracing::debug!(%server, version = %info.version, "connected");
            Ok(Limits::of(&info, round_trip))
        }
        Err(ContactError::Unreachable { waited, last }) => Err(StartError::Unreachable {
            server,
            limit: limit.unwrap_or(waited),
            reason: last,
        }),
        Err(error @ ContactError::Refused(_)) => Err(StartError::Refused {
            server,
            reason: error.to_string(),
        }),
        Err(error @ ContactError::NotDual16(_)) => Err(StartError::NotAServer {
            server,
            reason: error.to_string(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_the_servers_and_sound() {
        let mut info = GetInfoResponse::default();
        let default = Limits {
            inline_bytes: 16_384,
            parting: Duration::from_millis(60),
        };
        let round_trip = Duration::from_millis(30);
        assert_eq!(Limits::of(&info, round_trip), default);
        info.limits.insert("inline_bytes".to_owned(), 100);
        let limits = Limits::of(&info, Duration::MAX / 4);
        assert_eq!(limits.parting, PARTING.1);
        assert_eq!(limits.inline_bytes, 100);
    }
}

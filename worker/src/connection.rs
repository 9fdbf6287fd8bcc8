//! How the server is reached: one place for transport settings, deadlines of calls, and the
//! question whether a failed call is worth another try.

use std::{error::Error as _, time::Duration};

use dual16_proto::{
    blob::{CONNECTION_WINDOW_BYTES, FRAME_BYTES, STREAM_WINDOW_BYTES},
    v1::{
        blob_service_client::BlobServiceClient, info_service_client::InfoServiceClient,
        worker_service_client::WorkerServiceClient,
    },
};
use tonic::{
    Code, Response, Status,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt as _;

/// Deadline of a call that only moves a small message.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// A reduce is leased with the inline results of all its maps, so a grant can be far above tonic's
/// default of 4 MiB.
const MAX_GRANT_BYTES: usize = 64 << 20;

/// One connection, with the services on it. Connects when first used, and again when broken.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    channel: Channel,
}

impl Connection {
    pub(crate) fn new(endpoint: &Endpoint) -> Self {
        Self {
            channel: endpoint.connect_lazy(),
        }
    }

    pub(crate) fn worker(&self) -> WorkerServiceClient<Channel> {
        WorkerServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_GRANT_BYTES)
    }

    pub(crate) fn blobs(&self) -> BlobServiceClient<Channel> {
        BlobServiceClient::new(self.channel.clone())
    }

    pub(crate) fn info(&self) -> InfoServiceClient<Channel> {
        InfoServiceClient::new(self.channel.clone())
    }
}

/// Transport settings for a server's URL; `http://` may be left out.
pub(crate) fn endpoint(server: &str) -> Result<Endpoint, String> {
    let url = match server.split_once("://") {
        None => format!("http://{server}"),
        Some(("http", _)) => server.to_owned(),
        Some((scheme, _)) => {
            return Err(format!(
                "scheme '{scheme}' is not supported; use http://HOST:PORT"
            ));
        }
    };
    let endpoint = Endpoint::from_shared(url)
        .map_err(|error| format!("{}; use http://HOST:PORT", innermost(&error)))?;
    if endpoint.uri().host().is_none_or(str::is_empty) {
        return Err("no host; use http://HOST:PORT".to_owned());
    }
    Ok(endpoint
        .connect_timeout(Duration::from_secs(5))
        .tcp_nodelay(true)
        // A server that vanished without closing (node lost, network cut) is noticed this soon.
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES))
}

/// Gives a call a deadline on this side, whatever the transport does.
pub(crate) async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Status> {
    match tokio::time::timeout(limit, call).await {
        Ok(reply) => reply.map(Response::into_inner),
        Err(_) => Err(Status::deadline_exceeded(format!(
            "no answer within {limit:?}"
        ))),
    }
}

/// Whether the same call may succeed later: the server is away or busy, rather than unwilling.
pub(crate) fn transient(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Aborted => true,
        // A status made by the transport of this side carries its cause; one sent by the server
        // does not. A connection that breaks in mid-call is UNKNOWN, INTERNAL or CANCELLED.
        _ if status.source().is_some() => true,
        // A full queue says when to come back; a message that is too large is so for ever.
        _ => status.get_details_retry_info().is_some(),
    }
}

/// The cause that a person can act upon: the last of an error's chain.
pub(crate) fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        assert_eq!(
            endpoint("127.0.0.1:7016").unwrap().uri().to_string(),
            "http://127.0.0.1:7016/"
        );
        assert_eq!(endpoint("http://h:1").unwrap().uri().host(), Some("h"));
        assert!(endpoint("https://h:1").unwrap_err().contains("'https'"));
        assert!(endpoint("http://").is_err());
        assert!(endpoint("not a host").is_err());
    }

    #[test]
    fn a_refusal_of_the_server_is_final_and_its_absence_is_not() {
        assert!(transient(&Status::unavailable("")));
        assert!(!transient(&Status::invalid_argument("")));
        assert!(!transient(&Status::internal("sent by the server")));
        let mut broken = Status::unknown("transport error");
        broken.set_source(std::sync::Arc::new(std::io::Error::other(
            "connection reset",
        )));
        assert!(transient(&broken));
    }
}

//! Where a server is, the services on a connection to it, and the shape of one call.

use std::{io, sync::Arc, time::Duration};

use dual16_proto::v1::{
    blob_service_client::BlobServiceClient, info_service_client::InfoServiceClient,
    job_service_client::JobServiceClient, worker_service_client::WorkerServiceClient,
};
use tonic::{
    Request, Response, Status,
    codegen::http::uri::InvalidUri,
    service::{Interceptor, interceptor::InterceptedService},
    transport::{self, Endpoint, Uri},
};

use crate::{
    blob::{CHUNK_BYTES, CONNECTION_WINDOW_BYTES, FRAME_BYTES, STREAM_WINDOW_BYTES},
    credentials::{Bearer, Credentials, CredentialsError},
    direct::Direct,
    retry::{CallError, Policy, Retry},
};

/// A call that only moves small messages and has not been answered by then is tried again.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// How long it may take to open a connection: less than a client waits for its first one, so that it can
/// say why there is none.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// A server that vanished without closing (node lost, network cut) is noticed within twice this.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// A page of jobs repeats the names of all their files, and a reduce is leased with the results of its
/// maps: either can outgrow tonic's 4 MiB.
const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// The `traceparent` of whatever is going on, where there is one.
type Traceparent = fn() -> Option<String>;

/// What every call goes through.
pub type Channel = InterceptedService<transport::Channel, Caller>;

/// Where a server is, and what it is told about who calls.
#[derive(Debug, Clone)]
pub struct Address {
    url: String,
    endpoint: Endpoint,
    caller: Caller,
}

/// A server that cannot be called.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// The URL cannot be one of a server.
    #[error("{0}; use http://HOST:PORT or https://HOST:PORT")]
    Url(String),
    /// The token or the certificates cannot be used.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
}

impl Address {
    /// The server at a URL, of which `http://` may be left out. Every call continues the trace that
    /// `traceparent` tells.
    ///
    /// # Errors
    /// [`AddressError`].
    pub fn new(
        server: &str,
        credentials: &Credentials,
        traceparent: Traceparent,
    ) -> Result<Self, AddressError> {
        let invalid = |reason: &str| AddressError::Url(reason.to_owned());
        let url = match server.contains("://") {
            true => server.to_owned(),
            false => format!("http://{server}"),
        };
        let uri: Uri = url
            .parse()
            .map_err(|error: InvalidUri| invalid(&error.to_string()))?;
        match uri.scheme_str() {
            Some("http" | "https") => {}
            _ => return Err(invalid("the scheme must be http or https")),
        }
        if uri.host().is_none_or(str::is_empty) {
            return Err(invalid("it names no host"));
        }
        if uri.port_u16().is_none() {
            return Err(invalid("it names no port"));
        }
        let endpoint = Endpoint::from(uri)
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES)
            .tcp_nodelay(true);
        let (endpoint, bearer) = credentials.apply(endpoint)?;
        Ok(Self {
            url,
            endpoint,
            caller: Caller {
                bearer,
                traceparent,
            },
        })
    }

    /// The URL, complete.
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// Puts into every call who makes it, and which trace it is a part of.
#[derive(Debug, Clone)]
pub struct Caller {
    bearer: Bearer,
    traceparent: Traceparent,
}

impl Interceptor for Caller {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let mut request = self.bearer.call(request)?;
        let parent = (self.traceparent)().and_then(|parent| parent.parse().ok());
        if let Some(parent) = parent {
            request.metadata_mut().insert("traceparent", parent);
        }
        Ok(request)
    }
}

/// A connection, with the services on it. Connects when first used, and again when broken. Cheap to
/// clone; clones share the connection.
#[derive(Debug, Clone)]
pub struct Connection {
    channel: Channel,
    pub(crate) policy: Arc<dyn Policy>,
    pub(crate) chunk_bytes: usize,
    pub(crate) direct: Arc<Direct>,
}

impl Connection {
    /// A connection of its own. Needs a tokio runtime.
    pub fn new(address: &Address, policy: Arc<dyn Policy>) -> Self {
        let channel = address.endpoint.connect_lazy();
        Self {
            channel: InterceptedService::new(channel, address.caller.clone()),
            policy,
            chunk_bytes: CHUNK_BYTES,
            direct: Arc::default(),
        }
    }

    /// The same connection, with another policy.
    pub fn with_policy(self, policy: Arc<dyn Policy>) -> Self {
        Self { policy, ..self }
    }

    /// What the server is.
    pub fn info(&self) -> InfoServiceClient<Channel> {
        InfoServiceClient::new(self.channel.clone())
    }

    /// Jobs, for those who have them done.
    pub fn jobs(&self) -> JobServiceClient<Channel> {
        JobServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// Tasks, for those who do them.
    pub fn worker(&self) -> WorkerServiceClient<Channel> {
        WorkerServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// Blobs, bare. [`Connection::upload`] and [`Connection::download`] see to the rest.
    pub fn blobs(&self) -> BlobServiceClient<Channel> {
        BlobServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// One request to a service, one answer; tried again for as long as the policy bears it.
    ///
    /// # Errors
    /// A final answer, or an outage that lasted too long.
    pub async fn call<S, Q, A, F>(
        &self,
        call: &'static str,
        service: S,
        message: Q,
        send: impl Fn(S, Q) -> F,
    ) -> Result<A, CallError>
    where
        S: Clone,
        Q: Clone,
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let mut retry = self.retry(call);
        loop {
            match deadline(CALL_TIMEOUT, send(service.clone(), message.clone())).await {
                Ok(answer) => {
                    self.policy.answered();
                    return Ok(answer.into_inner());
                }
                Err(status) => retry.pause(status).await?,
            }
        }
    }

    /// The pauses of a call that is not a mere request and answer.
    pub fn retry(&self, call: &'static str) -> Retry {
        Retry::new(Arc::clone(&self.policy), call)
    }
}

/// Gives a call a deadline on this side, whatever the transport does.
///
/// # Errors
/// The call's, or DEADLINE_EXCEEDED.
pub async fn deadline<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    let answer = tokio::time::timeout(limit, call).await;
    answer.unwrap_or_else(|_| {
        let silence = io::Error::new(
            io::ErrorKind::TimedOut,
            format!("no answer within {limit:?}"),
        );
        let mut status = Status::deadline_exceeded(silence.to_string());
        status.set_source(Arc::new(silence));
        Err(status)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::is_transient;

    fn address(server: &str) -> Result<String, String> {
        let address = Address::new(server, &Credentials::default(), || None);
        address
            .map(|address| address.url().to_owned())
            .map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn urls_are_completed_and_checked() {
        assert_eq!(address("host:7016").unwrap(), "http://host:7016");
        assert_eq!(address("http://[::1]:7016").unwrap(), "http://[::1]:7016");
        for bad in ["http://host", "ftp://host:1", "", "http://:7016", "a b:1"] {
            let error = address(bad).unwrap_err();
            assert!(error.contains("use http://HOST:PORT"), "{bad}: {error}");
        }
    }

    #[tokio::test]
    async fn a_deadline_that_passes_is_no_answer_of_the_server() {
        let never = std::future::pending::<Result<(), Status>>();
        let status = deadline(Duration::from_millis(1), never).await.unwrap_err();
        assert!(is_transient(&status));
        assert_eq!(crate::reason(&status), "no answer within 1ms");
    }
}

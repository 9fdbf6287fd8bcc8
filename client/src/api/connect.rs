//! Opening a connection and the shape of a unary call.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use dual16_proto::{
    blob::{CONNECTION_WINDOW_BYTES, FRAME_BYTES, STREAM_WINDOW_BYTES},
    credentials::{AuthorizedChannel, Credentials},
    v1::{
        GetInfoRequest, GetInfoResponse, blob_service_client::BlobServiceClient,
        info_service_client::InfoServiceClient, job_service_client::JobServiceClient,
    },
};
use dual16_telemetry::trace;
use tonic::{
    Code, Request, Response, Status,
    service::interceptor::InterceptedService,
    transport::{Endpoint, Uri},
};

use super::{
    ApiError, RetryPolicy, Retrying,
    retry::{Outage, may_have_arrived, root_message},
};

/// A unary call that has not answered by then is tried again.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// A dead connection (no FIN, no RST) is noticed within the sum of these two.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// A list of jobs repeats the names of all their files, so it can outgrow tonic's 4 MiB.
const MAX_MESSAGE_BYTES: usize = 64 << 20;

type OnRetry = Arc<dyn Fn(&Retrying<'_>) + Send + Sync>;

/// How to reach a server.
#[derive(Clone)]
pub struct ConnectOptions {
    /// "https://HOST:PORT" or "http://HOST:PORT"; "http://" may be left out.
    pub url: String,
    /// What proves who is calling, and who answers. Nothing by default.
    pub credentials: Credentials,
    /// How long the first connection may take.
    pub connect_within: Duration,
    /// What happens when the server goes away later.
    pub retry: RetryPolicy,
    /// Called before each pause.
    pub on_retry: OnRetry,
}

impl ConnectOptions {
    /// 5 s for the first connection, [`RetryPolicy::default`] after it, silent.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            credentials: Credentials::default(),
            connect_within: Duration::from_secs(5),
            retry: RetryPolicy::default(),
            on_retry: Arc::new(|_| {}),
        }
    }
}

impl fmt::Debug for ConnectOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectOptions")
            .field("url", &self.url)
            .field("credentials", &self.credentials)
            .field("connect_within", &self.connect_within)
            .field("retry", &self.retry)
            .finish_non_exhaustive()
    }
}

/// A connection to a server. Cheap to clone; clones share the connection.
#[derive(Clone)]
pub struct Client {
    channel: AuthorizedChannel,
    url: Arc<str>,
    pub(super) retry: RetryPolicy,
    pub(super) on_retry: OnRetry,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("url", &self.url)
            .field("retry", &self.retry)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Connects and asks the server who it is.
    ///
    /// # Errors
    /// [`ApiError::InvalidUrl`], [`ApiError::Credentials`] when they cannot be used,
    /// [`ApiError::Tls`] when the two sides do not trust each other, [`ApiError::Unreachable`] when nothing answered in time,
    /// [`ApiError::NotDual16`] when something else did.
    pub async fn connect(options: ConnectOptions) -> Result<Self, ApiError> {
        let (url, endpoint) = endpoint(&options.url)?;
        let (endpoint, bearer) = options.credentials.apply(endpoint)?;
        let client = Self {
            channel: InterceptedService::new(endpoint.connect_lazy(), bearer),
            url: url.into(),
            retry: RetryPolicy {
                give_up_after: options.connect_within,
                max_delay: Duration::from_millis(500),
                ..options.retry.clone()
            },
            // An outage while starting ends in an error soon enough; it needs no running commentary.
            on_retry: Arc::new(|_| {}),
        };
        let began = Instant::now();
        let info = tokio::time::timeout(options.connect_within, client.info()).await;
        match info {
            Ok(Ok(_)) => Ok(Self {
                retry: options.retry,
                on_retry: options.on_retry,
                ..client
            }),
            Ok(Err(ApiError::Refused {
                code: Code::Unimplemented | Code::Unknown,
                message,
                ..
            })) => Err(ApiError::NotDual16 {
                url: client.url.to_string(),
                message,
            }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(ApiError::Unreachable {
                url: client.url.to_string(),
                call: "GetInfo",
                waited: began.elapsed(),
                last: client.first_error().await,
            }),
        }
    }

    /// The server's URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What the server is and what it accepts.
    ///
    /// # Errors
    /// As every call: [`ApiError::Unreachable`] or [`ApiError::Refused`].
    pub async fn info(&self) -> Result<GetInfoResponse, ApiError> {
        self.unary("GetInfo", GetInfoRequest {}, |channel, request| async move {
            InfoServiceClient::new(channel).get_info(request).await
        })
        .await
    }

    pub(super) fn jobs(&self) -> JobServiceClient<AuthorizedChannel> {
        JobServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    pub(super) fn blobs(&self) -> BlobServiceClient<AuthorizedChannel> {
        BlobServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// One request, one answer; tried again while the server is away.
    pub(super) async fn unary<Q, A, F>(
        &self,
        call: &'static str,
        message: Q,
        send: impl Fn(AuthorizedChannel, Request<Q>) -> F,
    ) -> Result<A, ApiError>
    where
        Q: Clone,
        F: Future<Output = Result<Response<A>, Status>>,
    {
        self.unary_once(call, message, send)
            .await
            .map_err(|(error, _)| error)
    }

    /// As [`unary`](Self::unary), for a call that cannot be done twice. With an error comes whether
    /// an earlier try may have arrived: then a refusal can be that of work already done.
    pub(super) async fn unary_once<Q, A, F>(
        &self,
        call: &'static str,
        message: Q,
        send: impl Fn(AuthorizedChannel, Request<Q>) -> F,
    ) -> Result<A, (ApiError, bool)>
    where
        Q: Clone,
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let mut outage = Outage::new(self, call);
        let mut arrived = false;
        loop {
            let mut request = traced(message.clone());
            request.set_timeout(CALL_TIMEOUT);
            match send(self.channel.clone(), request).await {
                Ok(response) => return Ok(response.into_inner()),
                Err(status) => {
                    let paused = outage.pause(&status).await;
                    paused.map_err(|error| (error, arrived))?;
                    arrived |= may_have_arrived(&status);
                }
            }
        }
    }

    /// Why nothing can be reached, for a message; asks once more because a timeout tells nothing.
    async fn first_error(&self) -> String {
        let mut request = Request::new(GetInfoRequest {});
        let brief = Duration::from_millis(200);
        request.set_timeout(brief);
        let mut client = InfoServiceClient::new(self.channel.clone());
        match tokio::time::timeout(brief, client.get_info(request)).await {
            Ok(Err(status)) => root_message(&status),
            _ => "no answer".to_owned(),
        }
    }
}

/// A request that continues the trace of the current span.
pub(super) fn traced<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let parent = trace::traceparent().and_then(|parent| parent.parse().ok());
    if let Some(parent) = parent {
        request.metadata_mut().insert(trace::TRACEPARENT, parent);
    }
    request
}

fn endpoint(given: &str) -> Result<(String, Endpoint), ApiError> {
    let invalid = |reason: &str| ApiError::InvalidUrl {
        url: given.to_owned(),
        reason: reason.to_owned(),
    };
    let url = match given.contains("://") {
        true => given.to_owned(),
        false => format!("http://{given}"),
    };
    let uri: Uri = url
        .parse()
        .map_err(|error: tonic::codegen::http::uri::InvalidUri| invalid(&error.to_string()))?;
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
        .connect_timeout(Duration::from_secs(2))
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .tcp_nodelay(true);
    Ok((url, endpoint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_completed_and_checked() {
        assert_eq!(endpoint("host:7016").unwrap().0, "http://host:7016");
        assert_eq!(
            endpoint("http://[::1]:7016").unwrap().0,
            "http://[::1]:7016"
        );
        assert_eq!(endpoint("https://host:1").unwrap().0, "https://host:1");
        for bad in ["http://host", "ftp://host:1", "", "http://:7016", "a b:1"] {
            let error = endpoint(bad).unwrap_err();
            assert!(
                matches!(error, ApiError::InvalidUrl { .. }),
                "{bad}: {error}"
            );
        }
    }
}

//! Opening a connection, and the shape of a unary call.

use std::{fmt, sync::Arc, time::Duration};

use dual16_proto::v1::{GetInfoRequest, GetInfoResponse};
use dual16_rpc::{
    Address, AddressError, CallError, Connection, ContactError, Delays, Policy, Retrying,
    credentials::{Credentials, explain},
    is_transient, reason,
};
use dual16_telemetry::trace::traceparent;
use tonic::{Response, Status};

use super::ApiError;

type OnRetry = Arc<dyn Fn(&Retrying<'_>) + Send + Sync>;

/// Waiting times of one outage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Total time without an answer after which a call fails.
    pub give_up_after: Duration,
    /// First pause; each further one is twice as long.
    pub first_delay: Duration,
    /// Longest pause.
    pub max_delay: Duration,
}

impl Default for RetryPolicy {
    /// 60 s in all, pauses from 100 ms to 5 s.
    fn default() -> Self {
        Self {
            give_up_after: Duration::from_secs(60),
            first_delay: Duration::from_millis(100),
            max_delay: Duration::from_secs(5),
        }
    }
}

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

/// What a client does about a server that goes away: it gives up in the end.
struct Patience {
    retry: RetryPolicy,
    on_retry: OnRetry,
}

impl fmt::Debug for Patience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.retry.fmt(f)
    }
}

impl Policy for Patience {
    fn patience(&self, status: &Status) -> Option<Duration> {
        let borne = is_transient(status) && explain(status).is_none();
        borne.then_some(self.retry.give_up_after)
    }

    fn delays(&self) -> Delays {
        Delays {
            first: self.retry.first_delay,
            longest: self.retry.max_delay,
        }
    }

    fn retrying(&self, retrying: &Retrying<'_>) {
        (self.on_retry)(retrying);
    }
}

/// A connection to a server. Cheap to clone; clones share the connection.
#[derive(Clone, Debug)]
pub struct Client {
    pub(super) connection: Connection,
    url: Arc<str>,
}

impl Client {
    /// Connects and asks the server who it is.
    ///
    /// # Errors
    /// [`ApiError::InvalidUrl`], [`ApiError::Credentials`] when they cannot be used,
    /// [`ApiError::Tls`] when the two sides do not trust each other, [`ApiError::Unreachable`] when nothing answered in time,
    /// [`ApiError::NotDual16`] when something else did.
    pub async fn connect(options: ConnectOptions) -> Result<Self, ApiError> {
        let ConnectOptions {
            url,
            credentials,
            connect_within,
            retry,
            on_retry,
        } = options;
        let address = Address::new(&url, &credentials, traceparent);
        let address = address.map_err(|error| match error {
            AddressError::Url(reason) => ApiError::InvalidUrl { url, reason },
            AddressError::Credentials(error) => error.into(),
        })?;
        let url = address.url();
        // An outage while starting ends in an error soon enough; it needs no running commentary.
        let starting = Patience {
            retry: RetryPolicy {
                give_up_after: Duration::MAX,
                max_delay: Duration::from_millis(500),
                ..retry.clone()
            },
            on_retry: Arc::new(|_| {}),
        };
        let mut connection = Connection::new(&address, Arc::new(starting));
        let contact = connection.first_contact(Some(connect_within)).await;
        contact.map_err(|error| match error {
            ContactError::Unreachable { waited, last } => ApiError::Unreachable {
                url: url.to_owned(),
                call: "GetInfo",
                waited,
                last,
            },
            ContactError::NotDual16(status) => ApiError::NotDual16 {
                url: url.to_owned(),
                message: reason(&status),
            },
            ContactError::Refused(status) => ApiError::refused("GetInfo", url, &status),
        })?;
        Ok(Self {
            connection: connection.with_policy(Arc::new(Patience { retry, on_retry })),
            url: url.into(),
        })
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
        let service = self.connection.info();
        let call = self.call("GetInfo", service, GetInfoRequest {}, {
            |mut info, request| async move { info.get_info(request).await }
        });
        call.await
    }

    /// One request to a service, one answer; tried again while the server is away.
    pub(super) async fn call<S: Clone, Q: Clone, A, F>(
        &self,
        call: &'static str,
        service: S,
        message: Q,
        send: impl Fn(S, Q) -> F,
    ) -> Result<A, ApiError>
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let answer = self.connection.call(call, service, message, send);
        answer.await.map_err(|error| self.failed(error))
    }

    pub(super) fn failed(&self, error: CallError) -> ApiError {
        ApiError::of_call(&self.url, error)
    }
}

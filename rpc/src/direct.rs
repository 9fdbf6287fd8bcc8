//! The bytes of a blob from where they lie, past the server: a GET of a URL that the server gave, which is good
//! for a moment and carries its own permission. No credentials of ours go there.

use std::{
    io,
    sync::{Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use reqwest::{Client, StatusCode, header::RANGE, redirect};
use tokio::time::timeout;
use tokio_rustls::rustls::crypto::ring;

use crate::transfer::STALL_TIMEOUT;

/// A place that cannot be reached is given up soon: the server can be asked instead.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// No URL is asked for so soon after one that did not do: whoever cannot reach the place cannot in a moment.
const PAUSE: Duration = Duration::from_secs(60);

/// Shared by all downloads of a connection.
#[derive(Debug, Default)]
pub(crate) struct Direct {
    /// Made when it is first needed; `None` where that failed.
    client: OnceLock<Option<Client>>,
    failed: Mutex<Option<Instant>>,
}

/// The rest of a blob as it comes.
pub(crate) struct Body(reqwest::Response);

impl Direct {
    /// Whether a URL would be used now.
    pub(crate) fn wanted(&self) -> bool {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.is_none_or(|failed| failed.elapsed() >= PAUSE)
    }

    /// A URL did not do.
    pub(crate) fn failed(&self) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        *failed = Some(Instant::now());
    }

    /// Begins to read what is at `url`, from `offset` on.
    ///
    /// # Errors
    /// Why that cannot be, without the URL: it is a permission.
    pub(crate) async fn get(&self, url: &str, offset: u64) -> io::Result<Body> {
        let client = self.client.get_or_init(client).as_ref();
        let client = client.ok_or_else(|| io::Error::other("no HTTPS client can be made"))?;
        let mut request = client.get(url);
        if offset > 0 {
            request = request.header(RANGE, format!("bytes={offset}-"));
        }
        let answer = in_time(request.send()).await?;
        let expected = match offset {
            0 => StatusCode::OK,
            _ => StatusCode::PARTIAL_CONTENT,
        };
        match answer.status() {
            status if status == expected => Ok(Body(answer)),
            status => Err(io::Error::other(format!("it answers {status}"))),
        }
    }
}

impl Body {
    /// The next bytes; `None` at the end.
    pub(crate) async fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        in_time(self.0.chunk()).await
    }
}

fn client() -> Option<Client> {
    // One that was chosen before is as good.
    let _ = ring::default_provider().install_default();
    let client = Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        // What is signed is the request as it is.
        .redirect(redirect::Policy::none());
    client.build().ok()
}

async fn in_time<T>(work: impl Future<Output = reqwest::Result<T>>) -> io::Result<T> {
    let done = timeout(STALL_TIMEOUT, work).await?;
    done.map_err(|error| {
        let error = error.without_url();
        let mut reason = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(deeper) = source {
            reason = format!("{reason}: {deeper}");
            source = deeper.source();
        }
        io::Error::other(reason)
    })
}

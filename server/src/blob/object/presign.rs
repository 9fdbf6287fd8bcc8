//! URLs by which whoever has them reads one blob past the server, for a short time.

use std::{fmt, sync::Arc, time::Duration};

use object_store::{
    path::Path,
    signer::{Method, Signer},
};

/// How URLs are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presign {
    /// Where workers and clients find the store, if not where this server does: http:// or https://, host, port.
    pub endpoint: Option<String>,
    /// How long a URL is good: a download must have begun by then.
    pub valid_for: Duration,
}

/// Makes them.
pub(super) struct Presigner {
    signer: Arc<dyn Signer>,
    valid_for: Duration,
}

impl Presigner {
    /// One that has made a URL, of `probe`.
    ///
    /// # Errors
    /// What is missing for it.
    pub(super) async fn new(
        signer: Arc<dyn Signer>,
        valid_for: Duration,
        probe: &Path,
    ) -> Result<Self, object_store::Error> {
        let presigner = Self { signer, valid_for };
        presigner.url(probe).await?;
        Ok(presigner)
    }

    /// A URL for a GET of the object `key` and nothing else.
    pub(super) async fn url(&self, key: &Path) -> Result<String, object_store::Error> {
        let url = self.signer.signed_url(Method::GET, key, self.valid_for);
        Ok(url.await?.into())
    }
}

impl fmt::Debug for Presigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presigner")
            .field("valid_for", &self.valid_for)
            .finish_non_exhaustive()
    }
}

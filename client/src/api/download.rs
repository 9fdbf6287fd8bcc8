//! Getting one blob from the server: resumed by offset, checked against its digest.

use dual16_proto::{digest::Digest, v1::DownloadRequest};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tonic::Status;

use super::{ApiError, Client, Moved, retry::Outage};

/// What to download and what to call it in errors.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) name: &'a str,
    pub(super) digest: &'a str,
    pub(super) size: u64,
}

/// Why a download ended early: the two sides' errors have different causes and cures.
#[derive(Debug)]
pub(super) enum DownloadError {
    Api(ApiError),
    /// The sink refused bytes.
    Sink(std::io::Error),
}

impl From<ApiError> for DownloadError {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

impl Client {
    /// Writes the blob to `sink` and checks it. After an error the sink holds garbage.
    pub(super) async fn download(
        &self,
        wanted: Wanted<'_>,
        sink: &mut (dyn AsyncWrite + Unpin + Send),
        moved: Moved<'_>,
    ) -> Result<(), DownloadError> {
        let mut outage = Outage::new(self, "Download");
        let mut hasher = Sha256::new();
        let mut offset = 0;
        while let Err(status) = self
            .receive_from(wanted, &mut offset, &mut hasher, &mut outage, sink, moved)
            .await?
        {
            outage.pause(&status).await?;
        }
        sink.flush().await.map_err(DownloadError::Sink)?;
        let actual = Digest::finish(hasher).to_string();
        if actual != wanted.digest {
            return Err(DownloadError::Api(ApiError::Corrupt {
                name: wanted.name.to_owned(),
                expected: wanted.digest.to_owned(),
                actual,
            }));
        }
        Ok(())
    }

    /// All bytes of a small blob, checked; `name` is what errors call it.
    ///
    /// # Errors
    /// [`ApiError::Corrupt`], [`ApiError::Unreachable`], [`ApiError::Refused`].
    pub(crate) async fn read_blob(
        &self,
        name: &str,
        digest: &str,
        size: u64,
    ) -> Result<Vec<u8>, ApiError> {
        let wanted = Wanted { name, digest, size };
        let mut bytes = std::io::Cursor::new(Vec::new());
        match self.download(wanted, &mut bytes, &|_| {}).await {
            Ok(()) => Ok(bytes.into_inner()),
            Err(DownloadError::Api(error)) => Err(error),
            Err(DownloadError::Sink(error)) => Err(ApiError::Protocol {
                call: "Download",
                message: error.to_string(),
            }),
        }
    }

    /// One stream. The inner error is the server's; `offset` tells how far it got.
    async fn receive_from(
        &self,
        wanted: Wanted<'_>,
        offset: &mut u64,
        hasher: &mut Sha256,
        outage: &mut Outage,
        sink: &mut (dyn AsyncWrite + Unpin + Send),
        moved: Moved<'_>,
    ) -> Result<Result<(), Status>, DownloadError> {
        let request = DownloadRequest {
            digest: wanted.digest.to_owned(),
            offset: *offset,
        };
        let mut stream = match self.blobs().download(request).await {
            Ok(response) => response.into_inner(),
            Err(status) => return Ok(Err(status)),
        };
        loop {
            let data = match stream.message().await {
                Ok(Some(message)) => message.data,
                Ok(None) if *offset == wanted.size => return Ok(Ok(())),
                // A server that shuts down may end a stream politely: as good as a lost one.
                Ok(None) => return Ok(Err(Status::unavailable("the stream ended early"))),
                Err(status) => return Ok(Err(status)),
            };
            if data.len() as u64 > wanted.size - *offset {
                return Err(DownloadError::Api(ApiError::Protocol {
                    call: "Download",
                    message: format!("more than the {} bytes of {}", wanted.size, wanted.name),
                }));
            }
            sink.write_all(&data).await.map_err(DownloadError::Sink)?;
            hasher.update(&data);
            *offset += data.len() as u64;
            if !data.is_empty() {
                outage.over();
            }
            moved(data.len() as i64);
        }
    }

    /// The whole blob of an artifact in memory, for the small ones that a command prints.
    ///
    /// # Errors
    /// [`ApiError::Corrupt`], [`ApiError::Unreachable`], [`ApiError::Refused`].
    pub async fn read_artifact(
        &self,
        artifact: &dual16_proto::v1::Artifact,
    ) -> Result<Vec<u8>, ApiError> {
        let wanted = Wanted {
            name: &artifact.name,
            digest: &artifact.digest,
            size: artifact.size,
        };
        let mut bytes = Vec::new();
        match self.download(wanted, &mut bytes, &|_| {}).await {
            Ok(()) => Ok(bytes),
            Err(DownloadError::Api(error)) => Err(error),
            Err(DownloadError::Sink(source)) => Err(ApiError::Write {
                path: artifact.name.clone().into(),
                source,
            }),
        }
    }
}

//! Getting one blob from the server: resumed by offset, checked against its digest.

use std::io::{self, Write};

use dual16_proto::{
    blob::{Hashed, WriteBehind},
    v1::DownloadRequest,
};
use tonic::Status;

use super::{ApiError, Client, Moved, connect::traced, retry::Outage};

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
    Sink(io::Error),
}

impl From<ApiError> for DownloadError {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

impl Client {
    /// Writes the blob to `sink` on blocking threads, checks it, and gives the sink back. After an
    /// error what the sink stands for holds garbage.
    pub(super) async fn download<W: Write + Send + 'static>(
        &self,
        wanted: Wanted<'_>,
        sink: W,
        moved: Moved<'_>,
    ) -> Result<W, DownloadError> {
        let mut outage = Outage::new(self, "Download");
        let mut sink = WriteBehind::new(Hashed::new(sink));
        let mut offset = 0;
        while let Err(status) = self
            .receive_from(wanted, &mut offset, &mut outage, &mut sink, moved)
            .await?
        {
            outage.pause(&status).await?;
        }
        let (sink, actual) = sink.finish().await.map_err(DownloadError::Sink)?.finish();
        let actual = actual.to_string();
        if actual != wanted.digest {
            return Err(DownloadError::Api(ApiError::Corrupt {
                name: wanted.name.to_owned(),
                expected: wanted.digest.to_owned(),
                actual,
            }));
        }
        Ok(sink)
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
        match self
            .download(wanted, std::io::Cursor::new(Vec::new()), &|_| {})
            .await
        {
            Ok(bytes) => Ok(bytes.into_inner()),
            Err(DownloadError::Api(error)) => Err(error),
            Err(DownloadError::Sink(error)) => Err(ApiError::Protocol {
                call: "Download",
                message: error.to_string(),
            }),
        }
    }

    /// One stream. The inner error is the server's; `offset` tells how far it got.
    async fn receive_from<W: Write + Send + 'static>(
        &self,
        wanted: Wanted<'_>,
        offset: &mut u64,
        outage: &mut Outage,
        sink: &mut WriteBehind<Hashed<W>>,
        moved: Moved<'_>,
    ) -> Result<Result<(), Status>, DownloadError> {
        let request = DownloadRequest {
            digest: wanted.digest.to_owned(),
            offset: *offset,
        };
        let mut stream = match self.blobs().download(traced(request)).await {
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
            // The first message only tells the size.
            if data.is_empty() {
                continue;
            }
            let length = data.len();
            sink.write(data).await.map_err(DownloadError::Sink)?;
            *offset += length as u64;
            outage.over();
            moved(length as i64);
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
        match self.download(wanted, Vec::new(), &|_| {}).await {
            Ok(bytes) => Ok(bytes),
            Err(DownloadError::Api(error)) => Err(error),
            Err(DownloadError::Sink(source)) => Err(ApiError::Write {
                path: artifact.name.clone().into(),
                source,
            }),
        }
    }
}

//! BlobService: bytes in and out, in chunks, resumable.

use std::{collections::HashSet, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use dual16_proto::v1::{self, blob_service_server::BlobService};
use tokio_stream::StreamExt as _;
use tonic::{Request, Response, Status, Streaming};

use super::{
    ApiError, App,
    upload_messages::UploadMessages,
    validate::{self, Checker},
};
use crate::{
    access::Scope,
    blob::{BlobError, BlobUrl, Reservation},
    digest::Digest,
    permits::kept,
};

/// The service over the shared [`App`].
pub(crate) struct BlobApi(pub(crate) Arc<App>);

#[tonic::async_trait]
impl BlobService for BlobApi {
    type DownloadStream =
        Pin<Box<dyn tokio_stream::Stream<Item = Result<v1::DownloadResponse, Status>> + Send>>;

    async fn find_missing(
        &self,
        request: Request<v1::FindMissingRequest>,
    ) -> Result<Response<v1::FindMissingResponse>, Status> {
        let mut digests = validate::digests(&self.0.limits, &request.get_ref().digests)?;
        // Each once, however often it was named: looking costs a file's opening.
        let mut asked = HashSet::new();
        digests.retain(|digest| asked.insert(*digest));
        let sizes = self
            .0
            .blobs
            // Whoever is told that a blob is there does not send it.
            .renew(digests.clone())
            .await
            .map_err(ApiError::from)?;
        let missing = digests.iter().zip(sizes).filter(|(_, size)| size.is_none());
        let missing = missing.map(|(digest, _)| digest.to_string()).collect();
        Ok(Response::new(v1::FindMissingResponse { missing }))
    }

    async fn upload(
        &self,
        request: Request<Streaming<v1::UploadRequest>>,
    ) -> Result<Response<v1::UploadResponse>, Status> {
        let scope = Scope::of(&request).map_err(ApiError::from)?;
        let App {
            limits, shutdown, ..
        } = &*self.0;
        let mut messages = UploadMessages::new(request.into_inner(), limits, shutdown);
        let Some(first) = messages.first().await? else {
            return Err(Status::from(self.first_missing()));
        };
        let (digest, size, offset) = self.check_first(&first)?;
        scope.about(digest);
        let upload = self
            .0
            .blobs
            .begin_within(
                digest,
                size,
                offset,
                Duration::from_secs(limits.upload_idle_seconds),
            )
            .await
            .map_err(ApiError::from)?;
        let Some(mut upload) = upload else {
            // Stored already, perhaps by another a moment ago. The rest is read and dropped: to
            // cut off a client that is still sending would look like a failure to it.
            while messages.data().await?.is_some() {}
            return Ok(Response::new(v1::UploadResponse { size }));
        };
        let mut reserved = self.reserve(size, offset).await?;
        let mut written = offset;
        let mut next = Some(first.data);
        while let Some(data) = next {
            self.check_chunk(&data)?;
            if !data.is_empty() {
                written = written.saturating_add(data.len() as u64);
                // Counted first: what is taken is still written when this call ends in the middle.
                reserved.written(written);
                if let Err(error) = upload.write(data).await {
                    return Err(ended(&mut reserved, error).into());
                }
            }
            next = messages.data().await?;
        }
        match upload.finish().await {
            Ok(()) => reserved.keep(),
            Err(error) => return Err(ended(&mut reserved, error).into()),
        }
        Ok(Response::new(v1::UploadResponse { size }))
    }

    async fn query_upload(
        &self,
        request: Request<v1::QueryUploadRequest>,
    ) -> Result<Response<v1::QueryUploadResponse>, Status> {
        let digest = validate::digest(&self.0.limits, &request.get_ref().digest)?;
        // Whoever is told that it is complete does not send it.
        let found = self.0.blobs.renew(vec![digest]).await;
        let whole = found.map_err(ApiError::from)?.into_iter().next().flatten();
        let committed = match whole {
            Some(size) => size,
            None => self
                .0
                .blobs
                .committed(digest)
                .await
                .map_err(ApiError::from)?,
        };
        Ok(Response::new(v1::QueryUploadResponse {
            committed,
            complete: whole.is_some(),
        }))
    }

    async fn download(
        &self,
        request: Request<v1::DownloadRequest>,
    ) -> Result<Response<Self::DownloadStream>, Status> {
        let v1::DownloadRequest {
            digest,
            offset,
            accept_url,
        } = request.into_inner();
        let digest = validate::digest(&self.0.limits, &digest)?;
        if accept_url && let Some(head) = self.elsewhere(digest, offset).await? {
            return Ok(Response::new(Box::pin(tokio_stream::once(Ok(head)))));
        }
        let reader = self
            .0
            .blobs
            .read(digest, offset)
            .await
            .map_err(ApiError::from)?;
        let head = v1::DownloadResponse {
            size: reader.size,
            ..v1::DownloadResponse::default()
        };
        let body = reader.pieces.map(|piece| match piece {
            Ok(data) => Ok(v1::DownloadResponse {
                data,
                ..v1::DownloadResponse::default()
            }),
            Err(error) => Err(ApiError::from(error).into()),
        });
        Ok(Response::new(Box::pin(
            tokio_stream::once(Ok(head)).chain(body),
        )))
    }
}

/// An upload has failed. Of some failures nothing is kept that would count.
fn ended(reserved: &mut Reservation, error: BlobError) -> ApiError {
    let spoilt = matches!(
        error,
        BlobError::DigestMismatch { .. } | BlobError::Io(_) | BlobError::StorageFull
    );
    if spoilt {
        reserved.written(0);
    }
    error.into()
}

impl BlobApi {
    /// Where the bytes are to be had past this server; `None` where they come through it.
    async fn elsewhere(
        &self,
        digest: Digest,
        offset: u64,
    ) -> Result<Option<v1::DownloadResponse>, ApiError> {
        let Some(BlobUrl { size, url }) = self.0.blobs.url(digest).await? else {
            return Ok(None);
        };
        if offset > size {
            let end = size;
            return Err(ApiError::Blob(BlobError::OffsetOutOfRange {
                digest,
                offset,
                end,
            }));
        }
        Ok(Some(v1::DownloadResponse {
            size,
            url,
            ..v1::DownloadResponse::default()
        }))
    }

    /// Room for an upload that goes on at `offset`.
    async fn reserve(&self, size: u64, offset: u64) -> Result<Reservation, ApiError> {
        let room = self.0.room.clone();
        let reserving = tokio::task::spawn_blocking(kept(move || room.reserve(size, offset)));
        // The task fails only when the runtime stops.
        let reserved = reserving.await.map_err(|_| ApiError::ShuttingDown)?;
        Ok(reserved?)
    }

    fn first_missing(&self) -> ApiError {
        let mut checker = Checker::new(&self.0.limits);
        checker.reject(
            "digest",
            "REQUIRED",
            "is missing: the first message names the blob",
        );
        checker.finish().err().unwrap_or(ApiError::ShuttingDown)
    }

    fn check_first(&self, first: &v1::UploadRequest) -> Result<(Digest, u64, u64), ApiError> {
        let max = self.0.limits.blob_bytes;
        validate::check(&self.0.limits, |checker| {
            checker.bytes("size", "BLOB_TOO_LARGE", first.size, "blob_bytes", max);
            if first.offset > first.size {
                let description = format!("is beyond the size of {} bytes", first.size);
                checker.reject("offset", "OFFSET_OUT_OF_RANGE", description);
            }
            Some((
                checker.digest("digest", &first.digest)?,
                first.size,
                first.offset,
            ))
        })
    }

    fn check_chunk(&self, data: &Bytes) -> Result<(), ApiError> {
        let max = self.0.limits.chunk_bytes;
        let mut checker = Checker::new(&self.0.limits);
        let found = data.len() as u64;
        checker.bytes("data", "CHUNK_TOO_LARGE", found, "chunk_bytes", max);
        checker.finish()
    }
}

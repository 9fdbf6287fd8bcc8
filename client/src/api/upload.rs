//! Getting input files to the server: only what it lacks, in 1 MiB chunks, from where an
//! interrupted upload stopped.

use std::{
    collections::HashSet,
    io::{self, SeekFrom},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use bytes::Bytes;
use dual16_proto::{
    blob::{CHUNK_BYTES, read_ahead},
    v1::{FindMissingRequest, QueryUploadRequest, QueryUploadResponse, UploadRequest},
};
use tokio::{fs::File, io::AsyncSeekExt as _, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::{ApiError, Client, Moved, connect::traced, retry::Outage};

/// Digests in one FindMissing, so that the request stays far below message limits.
const DIGESTS_PER_CALL: usize = 10_000;

/// How often an upload begins anew because the bytes it went on from were wrong. They were kept from
/// another's upload, or damaged on the server's disk.
const MAX_RESTARTS: u32 = 3;

/// A local file whose bytes a job needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceBlob {
    /// Where it lies.
    pub path: PathBuf,
    /// "sha256:" and 64 hex digits.
    pub digest: String,
    /// Bytes.
    pub size: u64,
}

impl Client {
    /// Those of `blobs` that the server does not have, each once.
    ///
    /// # Errors
    /// [`ApiError::Unreachable`], [`ApiError::Refused`].
    pub async fn find_missing(&self, blobs: &[SourceBlob]) -> Result<Vec<SourceBlob>, ApiError> {
        let mut missing = HashSet::new();
        for group in blobs.chunks(DIGESTS_PER_CALL) {
            let request = FindMissingRequest {
                digests: group.iter().map(|blob| blob.digest.clone()).collect(),
            };
            let response = self
                .unary("FindMissing", request, |_, request| {
                    let mut blobs = self.blobs();
                    async move { blobs.find_missing(request).await }
                })
                .await?;
            missing.extend(response.missing);
        }
        // remove() also drops the second of two files with the same bytes.
        let absent = |blob: &&SourceBlob| missing.remove(&blob.digest);
        Ok(blobs.iter().filter(absent).cloned().collect())
    }

    /// Uploads one file, going on from what an earlier try left on the server.
    ///
    /// # Errors
    /// [`ApiError::Read`], [`ApiError::InputChanged`], [`ApiError::Unreachable`], [`ApiError::Refused`].
    pub async fn upload(&self, blob: &SourceBlob, moved: Moved<'_>) -> Result<(), ApiError> {
        let mut outage = Outage::new(self, "Upload");
        let mut reported = 0i64;
        let mut report = |position: i64| {
            moved(position - reported);
            reported = position;
        };
        let mut furthest = 0;
        let (mut anew, mut restarts) = (false, 0);
        loop {
            let kept = self.query_upload(blob).await?;
            if kept.complete {
                report(blob.size as i64);
                return Ok(());
            }
            // More than the whole blob cannot be a part of it.
            anew |= kept.committed > blob.size;
            let offset = if anew { 0 } else { kept.committed };
            anew = false;
            if offset > furthest {
                furthest = offset;
                outage.over();
            }
            report(offset as i64);
            match self.send_from(blob, offset, &mut report).await? {
                Ok(()) => return Ok(()),
                // Perhaps not this side's bytes were wrong, but those that were kept.
                Err(status)
                    if status.code() == Code::DataLoss && offset > 0 && restarts < MAX_RESTARTS =>
                {
                    restarts += 1;
                    anew = true;
                }
                Err(status) if status.code() == Code::DataLoss => {
                    return Err(ApiError::InputChanged {
                        path: blob.path.clone(),
                        message: status.message().to_owned(),
                    });
                }
                // What was kept is gone since it was asked for.
                Err(status) if status.code() == Code::OutOfRange => outage
                    .wait(&status)
                    .await
                    .map_err(|error| naming(error, blob))?,
                Err(status) => outage
                    .pause(&status)
                    .await
                    .map_err(|error| naming(error, blob))?,
            }
        }
    }

    async fn query_upload(&self, blob: &SourceBlob) -> Result<QueryUploadResponse, ApiError> {
        let request = QueryUploadRequest {
            digest: blob.digest.clone(),
        };
        self.unary("QueryUpload", request, |_, request| {
            let mut blobs = self.blobs();
            async move { blobs.query_upload(request).await }
        })
        .await
    }

    /// One stream. The outer error is this side's (the file), the inner one the server's.
    async fn send_from(
        &self,
        blob: &SourceBlob,
        offset: u64,
        report: &mut (dyn FnMut(i64) + Send),
    ) -> Result<Result<(), Status>, ApiError> {
        let sent = Arc::new(AtomicI64::new(offset as i64));
        let (chunks, stream) = mpsc::channel(1);
        let reader = tokio::spawn(read_chunks(blob.clone(), offset, chunks, Arc::clone(&sent)));
        let mut client = self.blobs();
        let call = client.upload(traced(ReceiverStream::new(stream)));
        tokio::pin!(call);
        let mut tick = tokio::time::interval(std::time::Duration::from_millis(100));
        let response = loop {
            tokio::select! {
                response = &mut call => break response,
                _ = tick.tick() => report(sent.load(Ordering::Relaxed)),
            }
        };
        report(sent.load(Ordering::Relaxed));
        if response.is_err() && !reader.is_finished() {
            reader.abort();
        }
        if let Ok(Err(error)) = reader.await {
            return Err(error);
        }
        Ok(response.map(|_| ()))
    }
}

/// Sends `blob` from `offset` to its end; stops quietly when the stream is gone.
async fn read_chunks(
    blob: SourceBlob,
    offset: u64,
    messages: mpsc::Sender<UploadRequest>,
    sent: Arc<AtomicI64>,
) -> Result<(), ApiError> {
    let failed = |source| ApiError::Read {
        path: blob.path.clone(),
        source,
    };
    let mut file = File::open(&blob.path).await.map_err(failed)?;
    file.seek(SeekFrom::Start(offset)).await.map_err(failed)?;
    let mut left = blob.size - offset;
    let mut chunks = read_ahead::<io::Error>(file.into_std().await, left, CHUNK_BYTES);
    let mut header = Some(UploadRequest {
        digest: blob.digest.clone(),
        size: blob.size,
        offset,
        ..UploadRequest::default()
    });
    // The first message goes out even when there is nothing left to send: it completes the blob.
    while left > 0 || header.is_some() {
        let data = match chunks.recv().await {
            Some(chunk) => chunk.map_err(failed)?,
            None => Bytes::new(),
        };
        if data.is_empty() && left > 0 {
            return Err(ApiError::InputChanged {
                path: blob.path.clone(),
                message: format!("it had {} bytes and now has fewer", blob.size),
            });
        }
        let length = data.len() as u64;
        let message = UploadRequest {
            data,
            ..header.take().unwrap_or_default()
        };
        if messages.send(message).await.is_err() {
            return Ok(());
        }
        left -= length;
        sent.fetch_add(length as i64, Ordering::Relaxed);
    }
    Ok(())
}

/// A refused upload must say which file it was.
fn naming(error: ApiError, blob: &SourceBlob) -> ApiError {
    match error {
        ApiError::Refused {
            call,
            code,
            message,
            reason,
            violations,
        } => ApiError::Refused {
            call,
            code,
            message: format!("{}: {message}", blob.path.display()),
            reason,
            violations,
        },
        other => other,
    }
}

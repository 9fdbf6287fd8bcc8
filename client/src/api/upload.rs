//! Getting input files to the server: only what it lacks.

use std::{
    collections::HashSet,
    fs::File,
    io::{Cursor, Read, Seek},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use dual16_proto::{
    digest::Digest,
    v1::{FindMissingRequest, InputFile},
};
use dual16_rpc::{Blob, TransferError};

use super::{ApiError, Client, Moved};

/// Digests in one FindMissing, so that the request stays far below message limits.
const DIGESTS_PER_CALL: usize = 10_000;

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
            let service = self.connection.blobs();
            let call = self.call("FindMissing", service, request, {
                |mut blobs, request| async move { blobs.find_missing(request).await }
            });
            missing.extend(call.await?.missing);
        }
        // remove() also drops the second of two files with the same bytes.
        let absent = |blob: &&SourceBlob| missing.remove(&blob.digest);
        Ok(blobs.iter().filter(absent).cloned().collect())
    }

    /// Uploads one file, going on from what an earlier try left on the server.
    ///
    /// # Errors
    /// [`ApiError::Read`], [`ApiError::InputChanged`], [`ApiError::Unreachable`], [`ApiError::Refused`].
    pub async fn upload(&self, source: &SourceBlob, moved: Moved<'_>) -> Result<(), ApiError> {
        let SourceBlob { path, digest, size } = source;
        let blob = Blob {
            digest,
            size: *size,
        };
        let file = path.clone();
        self.send(path, blob, move || File::open(&file), moved)
            .await
    }

    /// Uploads bytes, to be named so.
    ///
    /// # Errors
    /// [`ApiError::Unreachable`], [`ApiError::Refused`].
    pub(crate) async fn upload_bytes(
        &self,
        name: &str,
        bytes: Vec<u8>,
    ) -> Result<InputFile, ApiError> {
        let digest = Digest::of(&bytes).to_string();
        let size = bytes.len() as u64;
        let blob = Blob {
            digest: &digest,
            size,
        };
        let bytes = Bytes::from(bytes);
        let open = move || Ok(Cursor::new(bytes.clone()));
        self.send(Path::new(name), blob, open, &|_| {}).await?;
        Ok(InputFile {
            name: name.to_owned(),
            digest,
            size,
        })
    }

    async fn send<R: Read + Seek + Send + 'static>(
        &self,
        path: &Path,
        blob: Blob<'_>,
        open: impl Fn() -> std::io::Result<R> + Clone + Send + 'static,
        moved: Moved<'_>,
    ) -> Result<(), ApiError> {
        let sent = self.connection.upload(blob, open, moved).await;
        sent.map_err(|error| match error {
            TransferError::Local(source) => ApiError::Read {
                path: path.to_owned(),
                source,
            },
            TransferError::Call(error) => match self.failed(error) {
                // A refused upload must say which file it was.
                ApiError::Refused {
                    call,
                    code,
                    message,
                    reason,
                    violations,
                } => ApiError::Refused {
                    call,
                    code,
                    message: format!("{}: {message}", path.display()),
                    reason,
                    violations,
                },
                other => other,
            },
            error => ApiError::InputChanged {
                path: path.to_owned(),
                message: error.to_string(),
            },
        })
    }
}

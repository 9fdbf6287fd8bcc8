//! Getting one blob from the server.

use std::{io::Write, path::Path};

use dual16_proto::v1::Artifact;
use dual16_rpc::TransferError;

use super::{ApiError, Client, Moved};

impl Client {
    /// Writes the artifact's blob to `sink` on blocking threads, checks it, and gives the sink back;
    /// `path` is what errors of the sink call it. After an error what the sink stands for holds garbage.
    pub(super) async fn download<W: Write + Send + 'static>(
        &self,
        artifact: &Artifact,
        path: &Path,
        sink: W,
        moved: Moved<'_>,
    ) -> Result<W, ApiError> {
        let Artifact { name, digest, size } = artifact;
        let done = self
            .connection
            .download(digest, Some(*size), sink, moved)
            .await;
        match done {
            Ok((sink, _)) => Ok(sink),
            Err(TransferError::Local(source)) => Err(ApiError::Write {
                path: path.to_owned(),
                source,
            }),
            Err(TransferError::Call(error)) => Err(self.failed(error)),
            Err(TransferError::Damaged { found }) => Err(ApiError::Corrupt {
                name: name.clone(),
                expected: digest.clone(),
                actual: found.to_string(),
            }),
            Err(error) => Err(ApiError::Protocol {
                call: "Download",
                message: format!("{name}: {error}"),
            }),
        }
    }

    /// The whole blob of an artifact in memory, for the small ones that a command prints.
    ///
    /// # Errors
    /// [`ApiError::Corrupt`], [`ApiError::Unreachable`], [`ApiError::Refused`].
    pub async fn read_artifact(&self, artifact: &Artifact) -> Result<Vec<u8>, ApiError> {
        let path = Path::new(&artifact.name);
        self.download(artifact, path, Vec::new(), &|_| {}).await
    }
}

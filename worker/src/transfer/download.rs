//! From the server into a file.

use std::{fs::File, path::Path};

use dual16_proto::{
    blob::{Hashed, WriteBehind},
    v1::DownloadRequest,
};
use tonic::Status;

use super::{Broken, STALL_TIMEOUT, Transfer, TransferError};
use crate::{
    backoff::Backoff,
    connection::{CALL_TIMEOUT, traced, transient, within},
    digest::Digest,
};

/// A download under way, kept over broken streams.
struct Partial {
    file: WriteBehind<Hashed<File>>,
    received: u64,
    size: u64,
}

impl Transfer {
    /// Writes a blob to the file at `path` and returns its size in bytes. Tries for as long as the
    /// server is away; drop the future to give up.
    pub(crate) async fn download(
        &self,
        digest: &Digest,
        path: &Path,
    ) -> Result<u64, TransferError> {
        let on_file = |error| Broken::File(error).give_up(digest);
        let file = tokio::fs::File::create(path).await.map_err(on_file)?;
        let mut partial = Partial {
            file: WriteBehind::new(Hashed::new(file.into_std().await)),
            received: 0,
            size: 0,
        };
        let mut backoff = Backoff::new();
        loop {
            let before = partial.received;
            let ended = self.receive(digest, &mut partial).await;
            let progress = partial.received > before;
            match ended {
                Ok(()) if partial.received == partial.size => break,
                // Cut off, but it brought something: the rest may come too.
                Ok(()) if progress => {}
                Ok(()) => {
                    return Err(TransferError::Truncated {
                        digest: *digest,
                        received: partial.received,
                        size: partial.size,
                    });
                }
                Err(Broken::Status(status)) if transient(&status) => self.link.failed(&status),
                Err(broken) => return Err(broken.give_up(digest)),
            }
            if progress {
                backoff.reset();
            }
            backoff.wait().await;
        }
        let (_, found) = partial.file.finish().await.map_err(on_file)?.finish();
        if found != *digest {
            return Err(TransferError::Damaged {
                digest: *digest,
                found,
            });
        }
        Ok(partial.size)
    }

    /// One stream, from where the last one broke off to wherever this one ends.
    async fn receive(&self, digest: &Digest, partial: &mut Partial) -> Result<(), Broken> {
        let request = DownloadRequest {
            digest: digest.to_string(),
            offset: partial.received,
        };
        let mut client = self.client.clone();
        let mut stream = within(CALL_TIMEOUT, client.download(traced(request))).await?;
        self.link.answered();
        loop {
            let message = tokio::time::timeout(STALL_TIMEOUT, stream.message())
                .await
                .map_err(|_| Status::deadline_exceeded("the download stalled"))??;
            let Some(message) = message else {
                return Ok(());
            };
            if message.size != 0 {
                partial.size = message.size;
            }
            let length = message.data.len() as u64;
            partial.file.write(message.data).await?;
            partial.received += length;
        }
    }
}

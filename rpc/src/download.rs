//! From the server into whatever can be written: resumed by offset, checked against the digest.

use std::io::Write;

use dual16_proto::v1::DownloadRequest;
use tonic::Status;

use crate::{
    blob::{Hashed, WriteBehind},
    connection::{CALL_TIMEOUT, Connection, deadline},
    transfer::{MAX_RESTARTS, Moved, STALL_TIMEOUT, TransferError},
};

/// A download under way, kept over broken streams.
struct Partial<W: Write + Send + 'static> {
    sink: WriteBehind<Hashed<W>>,
    received: u64,
    /// Known beforehand, or from the first message.
    size: Option<u64>,
}

impl Connection {
    /// Writes a blob to `sink` on threads that may block, checks it, and gives the sink back with the
    /// blob's size in bytes. After an error what the sink stands for holds garbage.
    ///
    /// # Errors
    /// [`TransferError::Call`], [`TransferError::Local`] of what is written,
    /// [`TransferError::Damaged`], [`TransferError::WrongSize`].
    pub async fn download<W: Write + Send + 'static>(
        &self,
        digest: &str,
        size: Option<u64>,
        sink: W,
        moved: Moved<'_>,
    ) -> Result<(W, u64), TransferError> {
        let mut retry = self.retry("Download");
        let mut partial = Partial {
            sink: WriteBehind::new(Hashed::new(sink)),
            received: 0,
            size,
        };
        let mut barren = 0;
        loop {
            let before = partial.received;
            let ended = self.receive(digest, &mut partial, moved).await?;
            let (received, size) = (partial.received, partial.size.unwrap_or_default());
            if received > before {
                retry.over();
                barren = 0;
            }
            match ended {
                Ok(()) if received == size => break,
                // A server that shuts down may end a stream politely: as good as a lost one. But not
                // one that brings nothing again and again.
                Ok(()) if barren < MAX_RESTARTS => {
                    barren += 1;
                    let early = Status::unavailable("the stream ended early");
                    retry.pause(early).await?;
                }
                Ok(()) => return Err(TransferError::WrongSize { received, size }),
                Err(status) => retry.pause(status).await?,
            }
        }
        let (sink, found) = partial.sink.finish().await?.finish();
        match found.to_string() == digest {
            true => Ok((sink, partial.received)),
            false => Err(TransferError::Damaged { found }),
        }
    }

    /// One stream, from where the last one broke off to wherever this one ends. The inner error is
    /// the server's.
    async fn receive<W: Write + Send + 'static>(
        &self,
        digest: &str,
        partial: &mut Partial<W>,
        moved: Moved<'_>,
    ) -> Result<Result<(), Status>, TransferError> {
        let request = DownloadRequest {
            digest: digest.to_owned(),
            offset: partial.received,
        };
        let mut blobs = self.blobs();
        let mut stream = match deadline(CALL_TIMEOUT, blobs.download(request)).await {
            Ok(response) => response.into_inner(),
            Err(status) => return Ok(Err(status)),
        };
        self.policy.answered();
        loop {
            let message = match deadline(STALL_TIMEOUT, stream.message()).await {
                Ok(Some(message)) => message,
                Ok(None) => return Ok(Ok(())),
                Err(status) => return Ok(Err(status)),
            };
            // The first message only tells the size.
            let size = *partial.size.get_or_insert(message.size);
            let length = message.data.len() as u64;
            if length == 0 {
                continue;
            }
            let received = partial.received + length;
            if received > size {
                return Err(TransferError::WrongSize { received, size });
            }
            partial.sink.write(message.data).await?;
            partial.received = received;
            moved(length as i64);
        }
    }
}

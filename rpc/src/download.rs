//! From the server, or from where it says that the bytes are, into whatever can be written: resumed by offset,
//! checked against the digest.

use std::{io, io::Write, time::Duration};

use dual16_proto::v1::DownloadRequest;
use tonic::Status;

use crate::{
    blob::{Hashed, WriteBehind},
    connection::{CALL_TIMEOUT, Connection, deadline},
    retry::{CallError, is_transient},
    transfer::{MAX_RESTARTS, Moved, STALL_TIMEOUT, TransferError},
};

/// How long the server may take to look at a blob that came wrong from elsewhere.
const EXAMINATION: Duration = Duration::from_secs(600);

/// A download under way, kept over broken streams.
struct Partial<W: Write + Send + 'static> {
    sink: WriteBehind<Hashed<W>>,
    received: u64,
    /// Known beforehand, or from the first message.
    size: Option<u64>,
    /// A URL was of no use, and none is asked for again.
    through_server: bool,
    /// Bytes came from a URL, which the server has not looked at.
    unseen: bool,
}

/// How one stream ended, where nothing on this side failed.
enum Ended {
    /// As if that were all.
    Whole,
    /// The server broke it off, or refused it.
    Failed(Status),
    /// The rest cannot be had from where the server said it is.
    Elsewhere(io::Error),
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
            through_server: false,
            unseen: false,
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
                Ended::Whole if received == size => break,
                // A server that shuts down may end a stream politely: as good as a lost one. But not
                // one that brings nothing again and again.
                Ended::Whole if barren < MAX_RESTARTS => {
                    barren += 1;
                    let early = Status::unavailable("the stream ended early");
                    retry.pause(early).await?;
                }
                Ended::Whole => return Err(TransferError::WrongSize { received, size }),
                Ended::Failed(status) => retry.pause(status).await?,
                Ended::Elsewhere(error) => {
                    tracing::warn!(digest, received, %error, "a blob cannot be had from its store: the rest comes through the server");
                    self.direct.failed();
                    partial.through_server = true;
                }
            }
        }
        let (sink, found) = partial.sink.finish().await?.finish();
        if found.to_string() == digest {
            return Ok((sink, partial.received));
        }
        if partial.unseen {
            self.examine(digest, partial.received).await?;
        }
        Err(TransferError::Damaged { found })
    }

    /// One stream, from where the last one broke off to wherever this one ends.
    async fn receive<W: Write + Send + 'static>(
        &self,
        digest: &str,
        partial: &mut Partial<W>,
        moved: Moved<'_>,
    ) -> Result<Ended, TransferError> {
        let request = DownloadRequest {
            digest: digest.to_owned(),
            offset: partial.received,
            accept_url: !partial.through_server && self.direct.wanted(),
        };
        let mut blobs = self.blobs();
        let mut stream = match deadline(CALL_TIMEOUT, blobs.download(request)).await {
            Ok(response) => response.into_inner(),
            Err(status) => return Ok(Ended::Failed(status)),
        };
        self.policy.answered();
        loop {
            let message = match deadline(STALL_TIMEOUT, stream.message()).await {
                Ok(Some(message)) => message,
                Ok(None) => return Ok(Ended::Whole),
                Err(status) => return Ok(Ended::Failed(status)),
            };
            // The first message only tells the size.
            let size = *partial.size.get_or_insert(message.size);
            if !message.url.is_empty() {
                return self.receive_from(&message.url, size, partial, moved).await;
            }
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

    /// The rest of a blob of `size` bytes from where it is.
    async fn receive_from<W: Write + Send + 'static>(
        &self,
        url: &str,
        size: u64,
        partial: &mut Partial<W>,
        moved: Moved<'_>,
    ) -> Result<Ended, TransferError> {
        if partial.received == size {
            return Ok(Ended::Whole);
        }
        let mut body = match self.direct.get(url, partial.received).await {
            Ok(body) => body,
            Err(error) => return Ok(Ended::Elsewhere(error)),
        };
        loop {
            let chunk = match body.chunk().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) if partial.received == size => return Ok(Ended::Whole),
                Ok(None) => {
                    let early = io::ErrorKind::UnexpectedEof;
                    return Ok(Ended::Elsewhere(early.into()));
                }
                Err(error) => return Ok(Ended::Elsewhere(error)),
            };
            let length = chunk.len() as u64;
            if partial.received + length > size {
                let error = io::Error::other("it has more bytes than the blob");
                return Ok(Ended::Elsewhere(error));
            }
            partial.sink.write(chunk).await?;
            partial.unseen = true;
            partial.received += length;
            moved(length as i64);
        }
    }

    /// Has the server look at a blob that came wrong from elsewhere, so that it is not given out any more.
    ///
    /// # Errors
    /// What the server says, which is DATA_LOSS if the blob is damaged where it is kept.
    async fn examine(&self, digest: &str, size: u64) -> Result<(), TransferError> {
        let request = DownloadRequest {
            digest: digest.to_owned(),
            offset: size,
            accept_url: false,
        };
        let mut blobs = self.blobs();
        let looked = deadline(EXAMINATION, async {
            let mut stream = blobs.download(request).await?.into_inner();
            while stream.message().await?.is_some() {}
            Ok(())
        });
        match looked.await {
            Err(status) if !is_transient(&status) => Err(TransferError::Call(CallError {
                call: "Download",
                status,
                waited: None,
                repeated: false,
            })),
            // The bytes were damaged on their way.
            _ => Ok(()),
        }
    }
}

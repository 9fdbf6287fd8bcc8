//! From whatever can be read to the server: from where an interrupted upload stopped.

use std::{
    io::{self, Read, Seek, SeekFrom},
    time::Duration,
};

use bytes::Bytes;
use dual16_proto::v1::{QueryUploadRequest, UploadRequest};
use tokio::{sync::mpsc, task::spawn_blocking};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use crate::{
    blob::read_ahead,
    connection::{Connection, deadline},
    transfer::{Blob, MAX_RESTARTS, Moved, STALL_TIMEOUT, TransferError},
};

/// An upload slower than this, in bytes a second, is given up and resumed.
const SLOWEST: u64 = 64 << 10;

impl Connection {
    /// Brings the server a blob, unless it has it. `open` is called for each try, on a thread that may
    /// block, and gives the blob's bytes from the first on.
    ///
    /// # Errors
    /// [`TransferError::Call`], [`TransferError::Local`] of what is read, [`TransferError::Changed`].
    pub async fn upload<R: Read + Seek + Send + 'static>(
        &self,
        blob: Blob<'_>,
        open: impl Fn() -> io::Result<R> + Clone + Send + 'static,
        moved: Moved<'_>,
    ) -> Result<(), TransferError> {
        let mut retry = self.retry("Upload");
        let mut progress = Progress { moved, position: 0 };
        let (mut anew, mut restarts, mut furthest) = (false, 0, 0);
        loop {
            let request = QueryUploadRequest {
                digest: blob.digest.to_owned(),
            };
            let query = self.call(
                "QueryUpload",
                self.blobs(),
                request,
                |mut blobs, request| async move { blobs.query_upload(request).await },
            );
            let kept = query.await?;
            if kept.complete {
                progress.at(blob.size);
                return Ok(());
            }
            // More than the whole blob cannot be a part of it.
            let offset = match anew || kept.committed > blob.size {
                true => 0,
                false => kept.committed,
            };
            if offset > furthest {
                furthest = offset;
                retry.over();
            }
            progress.at(offset);
            let Err(status) = self.send(blob, offset, open.clone(), &mut progress).await? else {
                self.policy.answered();
                return Ok(());
            };
            anew = false;
            match status.code() {
                // Perhaps not this side's bytes were wrong, but those that were kept: they can be of
                // another's upload, or damaged on the server's disk. Or they are gone since.
                Code::DataLoss | Code::OutOfRange if offset > 0 && restarts < MAX_RESTARTS => {
                    restarts += 1;
                    anew = status.code() == Code::DataLoss;
                }
                Code::DataLoss => return Err(TransferError::Changed(status.message().to_owned())),
                _ => retry.pause(status).await?,
            }
        }
    }

    /// One stream. The inner error is the server's.
    async fn send<R: Read + Seek + Send + 'static>(
        &self,
        blob: Blob<'_>,
        offset: u64,
        open: impl Fn() -> io::Result<R> + Send + 'static,
        progress: &mut Progress<'_>,
    ) -> Result<Result<(), Status>, TransferError> {
        let opening = spawn_blocking(move || {
            let mut source = open()?;
            source.seek(SeekFrom::Start(offset))?;
            io::Result::Ok(source)
        });
        let source = opening.await.map_err(io::Error::other)??;
        let chunks = read_ahead(source, blob.size - offset, self.chunk_bytes);
        let (messages, stream) = mpsc::channel(1);
        let first = UploadRequest {
            digest: blob.digest.to_owned(),
            size: blob.size,
            offset,
            data: Bytes::new(),
        };
        // The server may have to hash what it kept before it takes more.
        let limit = STALL_TIMEOUT + Duration::from_secs(blob.size / SLOWEST);
        let mut blobs = self.blobs();
        let (read, answer) = tokio::join!(
            feed(chunks, first, messages, progress),
            deadline(limit, blobs.upload(ReceiverStream::new(stream))),
        );
        // A stream cut short for what was read makes the server complain; that is the cause.
        read?;
        Ok(answer.map(drop))
    }
}

/// Sends the chunks, the first with the upload's header: it goes out even when there is nothing left
/// to send, for it completes the blob. Ends early when the server has stopped listening: its answer
/// says why.
async fn feed(
    mut chunks: mpsc::Receiver<io::Result<Bytes>>,
    header: UploadRequest,
    messages: mpsc::Sender<UploadRequest>,
    progress: &mut Progress<'_>,
) -> Result<(), TransferError> {
    let (size, mut position) = (header.size, header.offset);
    let mut message = header;
    loop {
        if position < size {
            let chunk = chunks.recv().await.transpose()?;
            message.data = chunk.ok_or_else(|| {
                TransferError::Changed(format!("it had {size} bytes and now has {position}"))
            })?;
            position += message.data.len() as u64;
        }
        if messages.send(message).await.is_err() {
            return Ok(());
        }
        progress.at(position);
        if position == size {
            return Ok(());
        }
        message = UploadRequest::default();
    }
}

/// How far an upload is, and who hears of it.
struct Progress<'a> {
    moved: Moved<'a>,
    position: u64,
}

impl Progress<'_> {
    fn at(&mut self, position: u64) {
        (self.moved)(position as i64 - self.position as i64);
        self.position = position;
    }
}

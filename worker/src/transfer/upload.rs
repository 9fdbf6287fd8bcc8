//! From a file to the server.

use std::{
    io::{self, SeekFrom},
    path::Path,
    time::{Duration, Instant},
};

use bytes::Bytes;
use dual16_proto::{
    blob::read_ahead,
    v1::{FindMissingRequest, QueryUploadRequest, UploadRequest},
};
use tokio::{fs::File, io::AsyncSeekExt as _, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::{Broken, STALL_TIMEOUT, Transfer, TransferError, is_full};
use crate::{
    backoff::Backoff,
    connection::{CALL_TIMEOUT, traced, transient, within},
    digest::Digest,
};

/// An upload slower than this, in bytes a second, is given up and resumed.
const SLOWEST: u64 = 64 << 10;

/// How often an upload begins anew because the bytes it went on from were wrong. They were kept from
/// another's upload, or damaged on the server's disk.
const MAX_RESTARTS: u32 = 3;

impl Transfer {
    /// Brings the server the blob in the file at `path`, of `size` bytes, unless it has it. Tries
    /// for as long as the server is away; drop the future to give up.
    pub(crate) async fn upload(
        &self,
        digest: &Digest,
        path: &Path,
        size: u64,
    ) -> Result<(), TransferError> {
        let mut backoff = Backoff::new();
        let (mut anew, mut restarts) = (false, 0);
        let mut full_since = None;
        loop {
            let mut offset = 0;
            match self.send(digest, path, size, anew, &mut offset).await {
                Ok(()) => {
                    self.link.answered();
                    return Ok(());
                }
                Err(Broken::Status(status)) if is_full(&status) => {
                    self.link.answered();
                    let since = *full_since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= self.full_patience {
                        return Err(Broken::Status(status).give_up(digest));
                    }
                    tracing::warn!(%digest, error = status.message(), "the server has no room; trying on");
                }
                Err(Broken::Status(status)) if resumable(&status) => {
                    self.link.failed(&status);
                    full_since = None;
                }
                // Perhaps not this side's bytes were wrong, but those that were kept.
                Err(Broken::Status(status))
                    if status.code() == Code::DataLoss && offset > 0 && restarts < MAX_RESTARTS =>
                {
                    restarts += 1;
                    anew = true;
                    continue;
                }
                Err(broken) => return Err(broken.give_up(digest)),
            }
            anew = false;
            backoff.wait().await;
        }
    }

    /// One try, from what is kept of an earlier one or `anew` from the beginning; notes where it
    /// began.
    async fn send(
        &self,
        digest: &Digest,
        path: &Path,
        size: u64,
        anew: bool,
        begun_at: &mut u64,
    ) -> Result<(), Broken> {
        let mut client = self.client.clone();
        let name = digest.to_string();
        let request = FindMissingRequest {
            digests: vec![name.clone()],
        };
        let missing = within(CALL_TIMEOUT, client.find_missing(traced(request))).await?;
        if missing.missing.is_empty() {
            return Ok(());
        }
        let request = QueryUploadRequest {
            digest: name.clone(),
        };
        let kept = within(CALL_TIMEOUT, client.query_upload(traced(request))).await?;
        if kept.complete {
            return Ok(());
        }
        // More than the whole blob cannot be a part of it: begin anew.
        let anew = anew || kept.committed > size;
        let offset = if anew { 0 } else { kept.committed };
        let rest = size - offset;
        *begun_at = offset;
        let mut file = File::open(path).await?;
        file.seek(SeekFrom::Start(offset)).await?;

        let chunks = read_ahead(file.into_std().await, rest, self.chunk_bytes);
        let (messages, stream) = mpsc::channel(1);
        let first = UploadRequest {
            digest: name,
            size,
            offset,
            ..UploadRequest::default()
        };
        let limit = STALL_TIMEOUT + Duration::from_secs(rest / SLOWEST);
        let (read, reply) = tokio::join!(
            send_chunks(chunks, first, messages),
            within(limit, client.upload(traced(ReceiverStream::new(stream)))),
        );
        // A stream cut short by a failed read makes the server complain; the read is the cause.
        read?;
        reply?;
        Ok(())
    }
}

/// Sends the rest of a file, the first message with the upload's header: an empty blob is that alone.
/// Ends early when the server has stopped listening: its answer says why.
async fn send_chunks(
    mut chunks: mpsc::Receiver<io::Result<Bytes>>,
    header: UploadRequest,
    messages: mpsc::Sender<UploadRequest>,
) -> io::Result<()> {
    let mut message = header;
    if let Some(chunk) = chunks.recv().await {
        message.data = chunk?;
    }
    while messages.send(message).await.is_ok() {
        let Some(chunk) = chunks.recv().await else {
            break;
        };
        message = UploadRequest {
            data: chunk?,
            ..UploadRequest::default()
        };
    }
    Ok(())
}

/// Besides an outage: what was kept of the upload is gone, so the next try asks where to go on.
fn resumable(status: &Status) -> bool {
    transient(status) || status.code() == Code::OutOfRange
}

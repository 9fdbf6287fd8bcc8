//! An upload into an object store: bytes are gathered to parts, and a part is sent while the next one comes.
//! Small blobs are one PUT at the end.

use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use tokio::{runtime::Handle, sync::OwnedSemaphorePermit, task::JoinHandle};
use tonic::async_trait;

use super::{
    super::{BlobError, Upload, turns::Turn},
    Shared,
    session::{Chunks, Session, abort_behind},
};
use crate::{
    digest::Digest,
    permits::{self, Permits},
};

pub(super) struct ObjectUpload {
    shared: Arc<Shared>,
    digest: Digest,
    size: u64,
    /// Bytes that the caller has sent, those before its offset included.
    written: u64,
    /// Of what comes next, bytes that were sent already.
    skip: u64,
    /// What waits for the part to fill.
    rest: Chunks,
    part_bytes: u64,
    state: State,
    held: Option<Held>,
}

/// The right to write it, and memory for its parts.
pub(super) type Admitted = (Turn, OwnedSemaphorePermit);
/// Until nobody works for the upload any more.
type Held = (Admitted, Option<Permits>);

enum State {
    Idle(Session),
    /// A part is under way. Beside the caller, who may hang up: a part that ends can be kept.
    Sending(JoinHandle<Result<Session, BlobError>>),
    Spoilt,
}

impl ObjectUpload {
    pub(super) fn begin(
        shared: &Arc<Shared>,
        digest: Digest,
        size: u64,
        offset: u64,
        admitted: Admitted,
    ) -> Result<Self, BlobError> {
        let end = shared.kept.bytes(digest);
        if offset > end {
            return Err(BlobError::OffsetOutOfRange {
                digest,
                offset,
                end,
            });
        }
        if offset > size {
            return Err(BlobError::TooLong { digest, size });
        }
        let mut session = match shared.kept.take(digest) {
            Some(kept) if offset > 0 => kept,
            kept => {
                if let Some(kept) = kept {
                    abort_behind(kept);
                }
                Session::new(shared, digest, size)
            }
        };
        let mut rest = std::mem::take(&mut session.rest);
        rest.truncate(offset.saturating_sub(session.sent));
        Ok(Self {
            shared: Arc::clone(shared),
            digest,
            size,
            written: offset,
            skip: session.sent.saturating_sub(offset),
            rest,
            part_bytes: session.part_bytes,
            state: State::Idle(session),
            held: Some((admitted, permits::current())),
        })
    }

    /// Waits for the part under way. Until then its outcome stays where it is: the caller may hang up.
    async fn sent(&mut self) -> Result<Session, BlobError> {
        if let State::Sending(sending) = &mut self.state {
            let sent = sending.await.map_err(std::io::Error::other);
            self.state = State::Spoilt;
            return sent?;
        }
        match std::mem::replace(&mut self.state, State::Spoilt) {
            State::Idle(session) => Ok(session),
            _ => Err(BlobError::Io(std::io::Error::other(
                "the upload has failed before",
            ))),
        }
    }
}

#[async_trait]
impl Upload for ObjectUpload {
    async fn write(&mut self, mut data: Bytes) -> Result<(), BlobError> {
        let written = self.written.saturating_add(data.len() as u64);
        if written > self.size {
            let (digest, size) = (self.digest, self.size);
            return Err(BlobError::TooLong { digest, size });
        }
        self.written = written;
        let skip = self.skip.min(data.len() as u64);
        self.skip -= skip;
        data.advance(usize::try_from(skip).unwrap_or(usize::MAX));
        while !data.is_empty() {
            let room = self.part_bytes - self.rest.bytes;
            let most = usize::try_from(room).unwrap_or(usize::MAX);
            self.rest.push(data.split_to(most.min(data.len())));
            // The last part is sent with the end: a blob of one is not worth a multipart upload.
            if self.rest.bytes == self.part_bytes && (written < self.size || !data.is_empty()) {
                let mut session = self.sent().await?;
                session.rest = std::mem::take(&mut self.rest);
                self.state = State::Sending(tokio::spawn(session.send()));
            }
        }
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<(), BlobError> {
        let mut session = self.sent().await?;
        if self.written < self.size {
            let (digest, written, size) = (self.digest, self.written, self.size);
            self.state = State::Idle(session);
            return Err(BlobError::Incomplete {
                digest,
                written,
                size,
            });
        }
        session.rest = std::mem::take(&mut self.rest);
        let (shared, digest, size) = (Arc::clone(&self.shared), self.digest, self.size);
        let held = self.held.take();
        let finishing = tokio::spawn(async move {
            let _held = held;
            session.finish().await?;
            shared.confirm(digest, size).await
        });
        finishing.await.map_err(std::io::Error::other)?
    }
}

impl Shared {
    /// Whether an object that was made is there once its use is noted: it may have been in the way of one
    /// who removes what is old.
    async fn confirm(&self, digest: Digest, size: u64) -> Result<(), BlobError> {
        self.uses.note(&[digest]).await?;
        let found = self.find(digest).await?.map(|found| found.size);
        if found != Some(size) {
            let error = format!("{digest} is not there although the object store took it");
            return Err(BlobError::Io(std::io::Error::other(error)));
        }
        let published = &self.published;
        published.fetch_add(size, std::sync::atomic::Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for ObjectUpload {
    fn drop(&mut self) {
        let (rest, held) = (std::mem::take(&mut self.rest), self.held.take());
        match std::mem::replace(&mut self.state, State::Spoilt) {
            State::Idle(mut session) => {
                session.rest = rest;
                self.shared.kept.keep(session);
            }
            State::Sending(sending) => {
                let shared = Arc::clone(&self.shared);
                let keep = async move {
                    let _held = held;
                    if let Ok(Ok(mut session)) = sending.await {
                        session.rest = rest;
                        shared.kept.keep(session);
                    }
                };
                if let Ok(runtime) = Handle::try_current() {
                    runtime.spawn(keep);
                }
            }
            State::Spoilt => {}
        }
    }
}

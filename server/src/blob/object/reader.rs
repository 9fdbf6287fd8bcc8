//! A download from an object store: ranges, each read when it is asked for and hashed before anything of it
//! goes out, so that the last bytes of a damaged blob never do. The first ranges are small, for whoever
//! takes nothing; those of one who plainly reads are large, since each is a request.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use object_store::{ObjectMeta, ObjectStoreExt as _};
use sha2::{Digest as _, Sha256};
use tokio_stream::Stream;

use super::{super::BlobError, Shared};
use crate::{digest::Digest, permits::Permits};

/// Bytes of the first range, and the most of one: each is twice the one before.
const FIRST_RANGE: u64 = 256 << 10;
const MAX_RANGE: u64 = 4 << 20;
/// Bytes of what is given out at a time.
const PIECE_BYTES: usize = 128 << 10;

/// A blob's bytes from an offset on.
pub(super) struct Pieces {
    shared: Arc<Shared>,
    digest: Digest,
    found: ObjectMeta,
    hasher: Sha256,
    at: u64,
    range_bytes: u64,
    /// The permits of the call that reads it: as long.
    _permits: Option<Permits>,
}

impl Pieces {
    /// Opens a blob; also its size in bytes. What lies before `offset` is read here.
    pub(super) async fn open(
        shared: &Arc<Shared>,
        digest: Digest,
        offset: u64,
        permits: Option<Permits>,
    ) -> Result<(Self, u64), BlobError> {
        let found = shared.find(digest).await?;
        let found = found.ok_or(BlobError::NotFound(digest))?;
        let size = found.size;
        if offset > size {
            return Err(BlobError::OffsetOutOfRange {
                digest,
                offset,
                end: size,
            });
        }
        let mut pieces = Self {
            shared: Arc::clone(shared),
            digest,
            found,
            hasher: Sha256::new(),
            at: 0,
            range_bytes: FIRST_RANGE.min(offset.max(FIRST_RANGE)),
            _permits: permits,
        };
        while pieces.at < offset {
            pieces.read_to(offset).await?;
        }
        pieces.range_bytes = FIRST_RANGE;
        if size == 0 {
            pieces.check().await?;
        }
        Ok((pieces, size))
    }

    /// The next range; empty at the end.
    pub(super) async fn next(&mut self) -> Result<Bytes, BlobError> {
        match self.at < self.found.size {
            true => self.read_to(self.found.size).await,
            false => Ok(Bytes::new()),
        }
    }

    /// Reads and hashes a range that ends at `end` at most.
    async fn read_to(&mut self, end: u64) -> Result<Bytes, BlobError> {
        let range = self.at..end.min(self.at + self.range_bytes);
        self.range_bytes = (self.range_bytes * 2).min(MAX_RANGE);
        let expected = range.end - range.start;
        let key = self.shared.key(self.digest);
        let bytes = match self.shared.objects.get_range(&key, range).await {
            Ok(bytes) => bytes,
            Err(object_store::Error::NotFound { .. }) => {
                return Err(BlobError::NotFound(self.digest));
            }
            Err(error) => return Err(error.into()),
        };
        if bytes.len() as u64 != expected {
            let error = "the object store sent another number of bytes than it was asked for";
            return Err(BlobError::Io(std::io::Error::other(error)));
        }
        let (mut hasher, hashed) = (self.hasher.clone(), bytes.clone());
        let hashing = tokio::task::spawn_blocking(move || {
            hasher.update(&hashed);
            hasher
        });
        self.hasher = hashing.await.map_err(std::io::Error::other)?;
        self.at += expected;
        if self.at == self.found.size {
            self.check().await?;
        }
        Ok(bytes)
    }

    /// Everything has been read: whether it is what it is named.
    async fn check(&self) -> Result<(), BlobError> {
        if Digest::finish(self.hasher.clone()) == self.digest {
            return Ok(());
        }
        self.shared
            .set_aside(self.digest, self.found.clone())
            .await?;
        Err(BlobError::Damaged(self.digest))
    }

    pub(super) fn into_stream(self) -> PieceStream {
        PieceStream {
            source: Source::Idle(Box::new(self)),
            range: Bytes::new(),
            pause: false,
        }
    }
}

type Reading = Pin<Box<dyn Future<Output = (Box<Pieces>, Result<Bytes, BlobError>)> + Send>>;

enum Source {
    Idle(Box<Pieces>),
    Reading(Reading),
    Ended,
}

/// The bytes of a blob, until the end or an error.
pub(super) struct PieceStream {
    source: Source,
    /// What is read and not given out.
    range: Bytes,
    /// As of the local ones: whoever encodes messages would gather several before it sends the first.
    pause: bool,
}

impl Stream for PieceStream {
    type Item = Result<Bytes, BlobError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if std::mem::take(&mut self.pause) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        loop {
            if !self.range.is_empty() {
                let most = self.range.len().min(PIECE_BYTES);
                self.pause = true;
                return Poll::Ready(Some(Ok(self.range.split_to(most))));
            }
            match std::mem::replace(&mut self.source, Source::Ended) {
                Source::Idle(mut pieces) => {
                    self.source = Source::Reading(Box::pin(async move {
                        let read = pieces.next().await;
                        (pieces, read)
                    }));
                }
                Source::Reading(mut reading) => {
                    let Poll::Ready((pieces, read)) = reading.as_mut().poll(context) else {
                        self.source = Source::Reading(reading);
                        return Poll::Pending;
                    };
                    match read {
                        Ok(bytes) if bytes.is_empty() => return Poll::Ready(None),
                        Ok(bytes) => {
                            self.range = bytes;
                            self.source = Source::Idle(pieces);
                        }
                        Err(error) => return Poll::Ready(Some(Err(error))),
                    }
                }
                Source::Ended => return Poll::Ready(None),
            }
        }
    }
}

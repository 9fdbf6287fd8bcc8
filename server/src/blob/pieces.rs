//! The pieces of a download: each is read when it is asked for, and none ahead. The transport asks for
//! the next one while it sends the last, so disk and network work at the same time. They are small until
//! the reader has taken a megabyte, so that one who takes nothing costs little, and large from then on:
//! small ones halve the speed.

use std::{
    io::{self, Read as _},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio_stream::Stream;

use super::{BlobError, checked::Checked};

/// Bytes of a piece. The transport may hold two for each reader that takes none.
const PIECE_BYTES: usize = 16 << 10;
/// The same for a reader that has taken so many that it plainly reads.
const READS: u64 = 1 << 20;
const READERS_PIECE_BYTES: usize = 128 << 10;

/// The bytes of a blob, until the end or an error.
pub(super) struct Pieces {
    source: Source,
    given: u64,
    /// The last piece was just given. The next poll is told to come again: whoever encodes messages
    /// would gather several before it sends the first.
    pause: bool,
}

enum Source {
    Idle(Checked),
    Reading(JoinHandle<(Checked, io::Result<Bytes>)>),
    Ended,
}

impl Pieces {
    pub(super) fn new(file: Checked) -> Self {
        let source = Source::Idle(file);
        Self {
            source,
            given: 0,
            pause: false,
        }
    }

    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        loop {
            match std::mem::replace(&mut self.source, Source::Ended) {
                Source::Idle(mut file) => {
                    // A thread would take longer than what the system has in memory anyway.
                    let size = if self.given < READS {
                        PIECE_BYTES
                    } else {
                        READERS_PIECE_BYTES
                    };
                    let mut piece = vec![0; size];
                    if let Some(read) = file.read_cached(&mut piece)? {
                        piece.truncate(read);
                        self.source = Source::Idle(file);
                        return Poll::Ready(Ok(piece.into()));
                    }
                    self.source = Source::Reading(spawn_blocking(move || read(file, piece)));
                }
                Source::Reading(mut reading) => {
                    let Poll::Ready(read) = Pin::new(&mut reading).poll(context) else {
                        self.source = Source::Reading(reading);
                        return Poll::Pending;
                    };
                    // The task fails only when the runtime stops.
                    let (file, piece) = read.map_err(io::Error::other)?;
                    self.source = Source::Idle(file);
                    return Poll::Ready(piece);
                }
                Source::Ended => return Poll::Ready(Ok(Bytes::new())),
            }
        }
    }
}

impl Stream for Pieces {
    type Item = Result<Bytes, BlobError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if std::mem::take(&mut self.pause) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.poll_piece(context).map(|piece| match piece {
            Ok(piece) if piece.is_empty() => None,
            Ok(piece) => {
                self.given += piece.len() as u64;
                self.pause = true;
                Some(Ok(piece))
            }
            Err(error) => {
                self.source = Source::Ended;
                Some(Err(error.into()))
            }
        })
    }
}

fn read(mut file: Checked, mut piece: Vec<u8>) -> (Checked, io::Result<Bytes>) {
    let read = file.read(&mut piece);
    let read = read.map(|read| {
        piece.truncate(read);
        piece.into()
    });
    (file, read)
}

//! The answer on its way out: handed to HTTP/2 in small pieces, so that a reader who takes nothing
//! costs little and is noticed; it holds its call's permits and its metrics until it ends.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body as _, Frame};
use tonic::{Status, body::Body};

use crate::{listener::Unread, metrics::MeasuredCall, permits::Permits};

/// Bytes that are handed to HTTP/2 at a time: a message of a download and what is around it. HTTP/2 holds
/// about as many beside them, for each answer.
const PIECE_BYTES: usize = 17 << 10;
/// The same for a reader that has taken so many that it plainly reads.
const READS: u64 = 1 << 20;
const READERS_PIECE_BYTES: usize = 129 << 10;

/// The body of an answer.
pub(super) struct Answer {
    pub(super) body: Body,
    /// What is left of the last data.
    pub(super) left: Bytes,
    /// Bytes that went out.
    pub(super) given: u64,
    pub(super) call: MeasuredCall,
    /// `None` where the reader may take its time.
    pub(super) unread: Option<Unread>,
    pub(super) _permits: Option<Permits>,
}

impl Answer {
    fn poll_piece(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.left.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.left = data,
                    Err(trailers) => {
                        if let Some(headers) = trailers.trailers_ref() {
                            self.call.ends(headers);
                        }
                        return Poll::Ready(Some(Ok(trailers)));
                    }
                },
                end => return Poll::Ready(end),
            }
        }
        let size = if self.given < READS {
            PIECE_BYTES
        } else {
            READERS_PIECE_BYTES
        };
        let piece = self.left.split_to(self.left.len().min(size));
        self.given += piece.len() as u64;
        self.call.sent.inc_by(piece.len() as u64);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let piece = self.poll_piece(context);
        if let Some(unread) = &self.unread {
            match &piece {
                Poll::Ready(Some(Ok(_))) => unread.begins(),
                _ => unread.ends(),
            }
        }
        piece
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty() && self.body.is_end_stream()
    }
}

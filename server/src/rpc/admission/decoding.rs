//! The memory of requests that are worked on. A list of small messages takes many times its bytes once
//! it is decoded, so how many bytes are decoded at a time is bounded; further requests wait, whole
//! and undecoded, for those before them. Whole means to the end of the stream: a caller that keeps it
//! open keeps nobody waiting but itself.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tonic::{Status, body::Body, codegen::http::Request};

use super::super::ApiError;
use crate::limits::Limits;

/// Bytes that may be decoded at a time; clones count together.
#[derive(Clone, Debug)]
pub(super) struct Decoding {
    room: Arc<Semaphore>,
    total: u32,
}

/// The room of one request, until it is released or the last copy of this is gone.
#[derive(Clone, Debug, Default)]
pub(super) struct Held(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

impl Held {
    fn fill(&self, room: OwnedSemaphorePermit) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(room);
    }

    /// Nobody works on the request any more.
    pub(super) fn release(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Decoding {
    pub(super) fn new(limits: &Limits) -> Self {
        let total = Limits::count(limits.decoded_bytes);
        Self {
            room: Arc::new(Semaphore::new(total as usize)),
            total,
        }
    }

    /// Has a request of one message wait for room before anything of it is handed on.
    pub(super) fn bind(&self, request: Request<Body>) -> (Request<Body>, Held) {
        let held = Held::default();
        let request = request.map(|body| {
            if body.is_end_stream() {
                return body;
            }
            Body::new(Waiting {
                body,
                decoding: self.clone(),
                held: held.clone(),
                frames: VecDeque::new(),
                room: Room::Unknown,
            })
        });
        (request, held)
    }

    /// Room for so many bytes. A message that is larger than all of it has it to itself.
    fn room(&self, bytes: u32) -> Acquire {
        Box::pin(Arc::clone(&self.room).acquire_many_owned(bytes.min(self.total)))
    }
}

type Acquire = Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send>>;

/// The body of a request.
struct Waiting {
    body: Body,
    decoding: Decoding,
    held: Held,
    /// What has come of it.
    frames: VecDeque<Frame<Bytes>>,
    room: Room,
}

enum Room {
    /// The request has not come to its end.
    Unknown,
    Awaited(Acquire),
    Given,
}

impl http_body::Body for Waiting {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        loop {
            match &mut this.room {
                Room::Unknown => match ready!(Pin::new(&mut this.body).poll_frame(context)) {
                    Some(Ok(frame)) => this.frames.push_back(frame),
                    Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                    None => {
                        let data = this.frames.iter().filter_map(Frame::data_ref);
                        let bytes = data.map(|data| data.len() as u64).sum();
                        this.room = Room::Awaited(this.decoding.room(Limits::count(bytes)));
                    }
                },
                Room::Awaited(room) => match ready!(room.as_mut().poll(context)) {
                    Ok(room) => {
                        this.held.fill(room);
                        this.room = Room::Given;
                    }
                    // Nobody closes it.
                    Err(_) => return Poll::Ready(Some(Err(ApiError::Overloaded.into()))),
                },
                Room::Given => return Poll::Ready(this.frames.pop_front().map(Ok)),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.room, Room::Given) && self.frames.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, StreamBody};
    use tokio_stream::StreamExt as _;

    use super::*;

    fn decoding(bytes: u64) -> Decoding {
        Decoding::new(&Limits {
            decoded_bytes: bytes,
            ..Limits::default()
        })
    }

    fn pieces(length: usize, cut: usize) -> impl tokio_stream::Stream<Item = Piece> {
        let bytes = Bytes::from(vec![7; length]);
        let piece = move |at: usize| bytes.slice(at..length.min(at + cut));
        tokio_stream::iter(
            (0..length)
                .step_by(cut)
                .map(move |at| Ok(Frame::data(piece(at)))),
        )
    }

    type Piece = Result<Frame<Bytes>, Status>;

    /// A request of `length` bytes, in pieces of `cut` bytes.
    fn request(length: usize, cut: usize) -> Request<Body> {
        Request::new(Body::new(StreamBody::new(pieces(length, cut))))
    }

    /// Bytes that come of a request; `None` if it has to wait, and then nothing has come.
    fn read(body: &mut Body) -> Option<usize> {
        let mut whole = std::pin::pin!(body.collect());
        let mut context = Context::from_waker(std::task::Waker::noop());
        match whole.as_mut().poll(&mut context) {
            Poll::Ready(collected) => Some(collected.unwrap().to_bytes().len()),
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_request_waits_for_room_and_holds_it_until_it_is_released() {
        // Few enough pieces for a stream that gives way to others now and then.
        for cut in [7, 50, 1000] {
            let decoding = decoding(100);
            let (first, held) = decoding.bind(request(70, cut));
            assert_eq!(read(&mut first.into_body()), Some(70), "cut into {cut}");

            let (second, second_held) = decoding.bind(request(31, cut));
            let mut second = second.into_body();
            assert_eq!(read(&mut second), None, "cut into {cut}");
            held.release();
            assert_eq!(read(&mut second), Some(31), "cut into {cut}");
            drop((second, second_held));

            let (third, _held) = decoding.bind(request(100, cut));
            assert_eq!(read(&mut third.into_body()), Some(100), "cut into {cut}");
        }
    }

    #[test]
    fn a_request_that_does_not_end_takes_no_room() {
        let decoding = decoding(10);
        let endless = pieces(10, 4).chain(tokio_stream::pending());
        let endless = Request::new(Body::new(StreamBody::new(endless)));
        let (endless, _held) = decoding.bind(endless);
        assert_eq!(read(&mut endless.into_body()), None);
        let (other, _held) = decoding.bind(request(10, 4));
        assert_eq!(read(&mut other.into_body()), Some(10));
    }

    #[test]
    fn what_is_larger_than_all_room_waits_for_all_of_it_and_passes() {
        let decoding = decoding(10);
        let (small, held) = decoding.bind(request(1, 100));
        let (large, _held) = decoding.bind(request(1000, 100));
        assert_eq!(read(&mut small.into_body()), Some(1));
        let mut large = large.into_body();
        assert_eq!(read(&mut large), None);
        held.release();
        assert_eq!(read(&mut large), Some(1000));
    }

    #[test]
    fn a_body_without_anything_needs_no_room() {
        let decoding = decoding(1);
        let (one, _held) = decoding.bind(request(1, 100));
        assert_eq!(read(&mut one.into_body()), Some(1));
        let (none, _held) = decoding.bind(Request::new(Body::empty()));
        assert_eq!(read(&mut none.into_body()), Some(0));
    }
}

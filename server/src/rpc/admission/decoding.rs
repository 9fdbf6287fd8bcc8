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

/// What gRPC puts before a message: a flag, and its length in four bytes.
const PREFIX_BYTES: usize = 5;

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

    /// Has a request of one message wait for room before the end of that message is handed on.
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
                prefix: Vec::with_capacity(PREFIX_BYTES),
                passed: 0,
                end: None,
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
    /// The first bytes, until the length of the message is known.
    prefix: Vec<u8>,
    /// Bytes that have come so far.
    passed: u64,
    end: Option<End>,
}

/// The end of a request: the piece that its message ends in, and what comes after.
struct End {
    frames: VecDeque<Frame<Bytes>>,
    /// Nothing more comes.
    whole: bool,
    room: Room,
}

enum Room {
    Needed(u32),
    Awaited(Acquire),
    Given,
}

impl Waiting {
    /// Goes past the next piece of the body; the length of the message, if it ends there.
    fn pass(&mut self, data: &[u8]) -> Option<u32> {
        let missing = PREFIX_BYTES - self.prefix.len();
        self.prefix.extend(data.iter().take(missing));
        let before = self.passed;
        self.passed += data.len() as u64;
        let [_, length @ ..] = *self.prefix.first_chunk::<PREFIX_BYTES>()?;
        let length = u32::from_be_bytes(length);
        let end = PREFIX_BYTES as u64 + u64::from(length);
        (length > 0 && before < end && self.passed >= end).then_some(length)
    }
}

impl http_body::Body for Waiting {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        while this.end.as_ref().is_none_or(|end| !end.whole) {
            let frame = match ready!(Pin::new(&mut this.body).poll_frame(context)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => match &mut this.end {
                    Some(end) => {
                        end.whole = true;
                        break;
                    }
                    None => return Poll::Ready(None),
                },
            };
            if let Some(end) = &mut this.end {
                end.frames.push_back(frame);
                continue;
            }
            let length = frame.data_ref().cloned().and_then(|data| this.pass(&data));
            let Some(length) = length else {
                return Poll::Ready(Some(Ok(frame)));
            };
            this.end = Some(End {
                frames: VecDeque::from([frame]),
                whole: this.body.is_end_stream(),
                room: Room::Needed(length),
            });
        }
        let Some(end) = &mut this.end else {
            return Poll::Ready(None);
        };
        loop {
            match &mut end.room {
                Room::Needed(bytes) => end.room = Room::Awaited(this.decoding.room(*bytes)),
                Room::Awaited(room) => match ready!(room.as_mut().poll(context)) {
                    Ok(room) => {
                        this.held.fill(room);
                        end.room = Room::Given;
                    }
                    // Nobody closes it.
                    Err(_) => return Poll::Ready(Some(Err(ApiError::Overloaded.into()))),
                },
                Room::Given => return Poll::Ready(end.frames.pop_front().map(Ok)),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.end {
            Some(end) => end.whole && end.frames.is_empty(),
            None => self.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoding(bytes: u64) -> Decoding {
        Decoding::new(&Limits {
            decoded_bytes: bytes,
            ..Limits::default()
        })
    }

    /// A request of one message, cut into pieces of `cut` bytes.
    fn request(length: usize, cut: usize) -> Request<Body> {
        cut_request(length, cut, true)
    }

    fn cut_request(length: usize, cut: usize, ends: bool) -> Request<Body> {
        let prefix = [&[0][..], &(length as u32).to_be_bytes()].concat();
        let all = [prefix, vec![7; length]].concat();
        let pieces: Vec<_> = all.chunks(cut).map(Bytes::copy_from_slice).collect();
        let frames = pieces
            .into_iter()
            .map(|piece| Ok::<_, Status>(Frame::data(piece)));
        Request::new(Body::new(Pieces(frames.collect(), ends)))
    }

    /// The pieces of a body, and whether anything comes after them.
    struct Pieces(VecDeque<Result<Frame<Bytes>, Status>>, bool);

    impl http_body::Body for Pieces {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            match self.0.pop_front() {
                None if !self.1 => Poll::Pending,
                piece => Poll::Ready(piece),
            }
        }
    }

    /// Bytes that come of a request before it has to wait, or before its end.
    async fn read(body: &mut Body) -> usize {
        std::future::poll_fn(|context| {
            let mut bytes = 0;
            while let Poll::Ready(Some(frame)) = Pin::new(&mut *body).poll_frame(context) {
                bytes += frame.unwrap().into_data().unwrap().len();
            }
            Poll::Ready(bytes)
        })
        .await
    }

    #[tokio::test]
    async fn a_message_is_not_whole_before_there_is_room_for_it() {
        for cut in [1, 3, 5, 6, 50, 1000] {
            let decoding = decoding(100);
            let (first, held) = decoding.bind(request(70, cut));
            let mut first = first.into_body();
            assert_eq!(read(&mut first).await, 75, "cut into {cut}");
            drop(first);

            let (second, _held) = decoding.bind(request(31, cut));
            let mut second = second.into_body();
            let before = read(&mut second).await;
            assert!(before < 36, "cut into {cut}: {before}");
            drop(held);
            assert_eq!(before + read(&mut second).await, 36, "cut into {cut}");
        }
    }

    #[tokio::test]
    async fn a_request_that_does_not_end_takes_no_room() {
        let decoding = decoding(10);
        let (endless, _held) = decoding.bind(cut_request(10, 4, false));
        let mut endless = endless.into_body();
        assert!(read(&mut endless).await < 15);
        let (other, _other) = decoding.bind(request(10, 4));
        assert_eq!(read(&mut other.into_body()).await, 15);
    }

    #[tokio::test]
    async fn what_is_larger_than_all_room_waits_for_all_of_it_and_passes() {
        let decoding = decoding(10);
        let (small, held) = decoding.bind(request(1, 100));
        let (large, _held) = decoding.bind(request(1000, 100));
        assert_eq!(read(&mut small.into_body()).await, 6);
        let mut large = large.into_body();
        let before = read(&mut large).await;
        assert!(before < 1005);
        drop(held);
        assert_eq!(before + read(&mut large).await, 1005);
    }

    #[tokio::test]
    async fn an_empty_message_and_a_body_without_one_need_no_room() {
        let decoding = decoding(1);
        let (one, _held) = decoding.bind(request(1, 100));
        assert_eq!(read(&mut one.into_body()).await, 6);
        let (empty, _held) = decoding.bind(request(0, 2));
        assert_eq!(read(&mut empty.into_body()).await, 5);
        let (none, _held) = decoding.bind(Request::new(Body::empty()));
        assert_eq!(read(&mut none.into_body()).await, 0);
    }
}

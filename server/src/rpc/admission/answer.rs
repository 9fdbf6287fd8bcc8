//! The answer on its way: it keeps its call's places until it ends, and its reader to its word. A
//! caller that takes nothing would keep what is made for it, and the places, for ever.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::{
    task::AbortHandle,
    time::{Instant, sleep_until},
};
use tonic::{Status, body::Body};

use crate::{accept::Line, places::Places};

/// Bytes that a connection must have carried meanwhile for a wait to count as that of a slow
/// network. A single piece may take long to pass through one that others share; pings and
/// acknowledgements alone are fewer.
const FLOWING_BYTES: u64 = 4096;

/// The body of an answer.
pub(super) struct Answer {
    pub(super) body: Body,
    /// The places of its call.
    pub(super) _places: Places,
    /// `None` where a reader may take its time.
    pub(super) reader: Option<Reader>,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if let Some(reader) = &self.reader {
            // What was handed out is asked for again once it has left for the network.
            reader.owes(matches!(frame, Poll::Ready(Some(Ok(_)))));
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Looks after the reader of one answer: closes its connection when it takes nothing for too long.
/// The connection, because nothing less frees what HTTP/2 keeps of the answer.
pub(super) struct Reader {
    state: Arc<State>,
    watch: AbortHandle,
}

struct State {
    line: Line,
    /// Since when the reader has something to take, and the bytes on the line at that time.
    owing: Mutex<Option<(Instant, u64)>>,
}

impl Reader {
    pub(super) fn new(line: Line, idle: Duration) -> Self {
        let state = Arc::new(State {
            owing: Mutex::new(Some((Instant::now(), line.written()))),
            line,
        });
        let watch = tokio::spawn(watch(Arc::clone(&state), idle)).abort_handle();
        Self { state, watch }
    }

    /// From now on the reader is the one to move, or the server is.
    fn owes(&self, owes: bool) {
        let since = owes.then(|| (Instant::now(), self.state.line.written()));
        *self
            .state
            .owing
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = since;
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

async fn watch(state: Arc<State>, idle: Duration) {
    loop {
        let now = Instant::now();
        let next = {
            let mut owing = state.owing.lock().unwrap_or_else(PoisonError::into_inner);
            match &mut *owing {
                // What it owes next it owes later than now.
                None => now + idle,
                Some((since, _)) if *since + idle > now => *since + idle,
                Some((since, written)) => {
                    let carried = state.line.written();
                    if carried - *written < FLOWING_BYTES {
                        break;
                    }
                    (*since, *written) = (now, carried);
                    now + idle
                }
            }
        };
        sleep_until(next).await;
    }
    tracing::info!(
        seconds = idle.as_secs(),
        "a connection is closed: an answer waits on it and nothing was taken"
    );
    state.line.cut();
}

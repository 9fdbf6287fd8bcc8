//! A connection's place among a limited number, and what it must do to keep it.
//!
//! Strangers can take every place, so a place is for those who use it: the first words of HTTP/2 must
//! come in time, and a connection on which nobody has called who may gives way once all places are
//! taken. hyper has no timer of its own before those words, and pings every connection after them.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep, sleep_until},
};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::line::Line;

/// What a client says first: `PRI * HTTP/2.0`, some line ends, and `SM`.
const PREFACE_BYTES: usize = 24;
/// How often a connection that nobody known uses looks whether others wait.
const LOOK: Duration = Duration::from_secs(1);

/// The places of all connections.
#[derive(Clone, Debug)]
pub(super) struct Seats {
    free: Arc<Semaphore>,
    /// None is free, and the next connection waits for one.
    awaited: Arc<AtomicBool>,
    /// From the connection to the end of the preface.
    patience: Duration,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) deadline: Instant,
    awaited: Arc<AtomicBool>,
    _place: OwnedSemaphorePermit,
}

impl Seats {
    pub(super) fn new(seats: usize, patience: Duration) -> Self {
        Self {
            free: Arc::new(Semaphore::new(seats.clamp(1, Semaphore::MAX_PERMITS))),
            awaited: Arc::default(),
            patience,
        }
    }

    /// A place if one is free.
    pub(super) fn free(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.free).try_acquire_owned().ok()
    }

    /// Waits for a place, for which others give way.
    pub(super) async fn freed(&self) -> Option<OwnedSemaphorePermit> {
        self.awaited.store(true, Ordering::Relaxed);
        let place = Arc::clone(&self.free).acquire_owned().await.ok();
        self.awaited.store(false, Ordering::Relaxed);
        place
    }

    /// That of a connection which is there now.
    pub(super) fn seat(&self, place: OwnedSemaphorePermit) -> Seat {
        Seat {
            deadline: Instant::now() + self.patience,
            awaited: Arc::clone(&self.awaited),
            _place: place,
        }
    }
}

/// Ends a connection that must not stay.
pub(super) struct Watch {
    pub(super) line: Line,
    seat: Seat,
    /// Bytes of the preface that have not come.
    preface: usize,
    /// `None` = somebody known calls here: nothing is to be looked at any more.
    timer: Option<Pin<Box<Sleep>>>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Watch {
    pub(super) fn new(seat: Seat) -> Self {
        let line = Line::default();
        Self {
            timer: Some(Box::pin(sleep_until(seat.deadline))),
            cut: Box::pin(line.is_cut()),
            preface: PREFACE_BYTES,
            seat,
            line,
        }
    }

    pub(super) fn has_read(&mut self, bytes: usize) {
        self.preface = self.preface.saturating_sub(bytes);
    }

    /// Whether the connection may go on; asked before whatever is done on it.
    pub(super) fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if self.cut.as_mut().poll(context).is_ready() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        while let Some(timer) = &mut self.timer {
            if timer.as_mut().poll(context) == Poll::Pending {
                break;
            }
            if self.preface > 0 {
                return Err(io::ErrorKind::TimedOut.into());
            }
            if self.line.is_known() {
                self.timer = None;
            } else if self.seat.awaited.load(Ordering::Relaxed) {
                tracing::debug!("a connection that nobody known uses gives way");
                return Err(io::ErrorKind::ConnectionAborted.into());
            } else {
                timer.as_mut().reset(Instant::now() + LOOK);
            }
        }
        Ok(())
    }
}

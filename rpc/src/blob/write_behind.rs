//! From chunks into whatever takes them, off the threads that drive the network.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::{sync::Semaphore, task::spawn_blocking};

use super::CHUNKS_IN_FLIGHT;

/// Takes the chunks of a blob in order. May block: it is called on blocking threads.
pub trait Consume: Send + 'static {
    /// Why a chunk was not taken.
    type Error: From<io::Error> + Send;

    /// Takes the next chunk. After an error it is dropped.
    ///
    /// # Errors
    /// The consumer's own.
    fn consume(&mut self, chunk: Bytes) -> Result<(), Self::Error>;
}

/// A consumer that works behind the network, [`CHUNKS_IN_FLIGHT`] at most.
///
/// It holds a thread only while it has a chunk to work on: any number of transfers whose peers are
/// slow or silent may be open at once. Dropped, it still consumes what it was given, and only then
/// drops the consumer.
pub struct WriteBehind<C: Consume> {
    shared: Arc<Shared<C>>,
}

struct Shared<C: Consume> {
    state: Mutex<State<C>>,
    /// A permit for each chunk that may still be given; closed once the consumer is gone.
    room: Semaphore,
}

struct State<C: Consume> {
    waiting: VecDeque<Bytes>,
    consumer: Consumer<C>,
}

enum Consumer<C: Consume> {
    /// Here, with nothing to do.
    Idle(C),
    /// On a blocking thread.
    Busy,
    Failed(C::Error),
    /// Its error was told, or it panicked.
    Gone,
}

const PERMITS: u32 = CHUNKS_IN_FLIGHT as u32;

impl<C: Consume> WriteBehind<C> {
    /// Puts `consumer` behind a queue.
    pub fn new(consumer: C) -> Self {
        let state = State {
            waiting: VecDeque::with_capacity(CHUNKS_IN_FLIGHT),
            consumer: Consumer::Idle(consumer),
        };
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                room: Semaphore::new(CHUNKS_IN_FLIGHT),
            }),
        }
    }

    /// Gives the consumer a chunk; waits while there is no room for it.
    ///
    /// # Errors
    /// What the consumer said to this or an earlier chunk.
    pub async fn write(&mut self, chunk: Bytes) -> Result<(), C::Error> {
        match self.shared.room.acquire().await {
            // Given back once the chunk is consumed.
            Ok(permit) => permit.forget(),
            Err(_) => return Err(self.shared.lock().error()),
        }
        let mut state = self.shared.lock();
        match std::mem::replace(&mut state.consumer, Consumer::Busy) {
            Consumer::Idle(consumer) => {
                drop(state);
                let run = Run {
                    shared: Arc::clone(&self.shared),
                    back: false,
                };
                spawn_blocking(move || run.through(consumer, chunk));
            }
            Consumer::Busy => state.waiting.push_back(chunk),
            failed => {
                state.consumer = failed;
                return Err(state.error());
            }
        }
        Ok(())
    }

    /// The consumer, when it has taken everything.
    ///
    /// # Errors
    /// What the consumer said to a chunk.
    pub async fn finish(self) -> Result<C, C::Error> {
        let all = self.shared.room.acquire_many(PERMITS).await;
        let mut state = self.shared.lock();
        match std::mem::replace(&mut state.consumer, Consumer::Gone) {
            Consumer::Idle(consumer) if all.is_ok() => Ok(consumer),
            other => {
                state.consumer = other;
                Err(state.error())
            }
        }
    }
}

impl<C: Consume> Shared<C> {
    /// What is changed under the lock is changed by moves that cannot panic.
    fn lock(&self) -> MutexGuard<'_, State<C>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C: Consume> State<C> {
    fn error(&mut self) -> C::Error {
        match std::mem::replace(&mut self.consumer, Consumer::Gone) {
            Consumer::Failed(error) => error,
            _ => io::Error::other("writing has stopped already").into(),
        }
    }
}

/// The consumer's stay on a blocking thread.
struct Run<C: Consume> {
    shared: Arc<Shared<C>>,
    /// The consumer is back. If it is not when this is dropped (an error, a panic, or a runtime that
    /// stopped before the thread began), it never will be.
    back: bool,
}

impl<C: Consume> Run<C> {
    fn through(mut self, mut consumer: C, first: Bytes) {
        let mut chunk = first;
        loop {
            let taken = consumer.consume(chunk);
            let mut state = self.shared.lock();
            if let Err(error) = taken {
                state.consumer = Consumer::Failed(error);
                return;
            }
            let Some(next) = state.waiting.pop_front() else {
                state.consumer = Consumer::Idle(consumer);
                self.back = true;
                drop(state);
                // Last: who has all permits finds the consumer at rest.
                self.shared.room.add_permits(1);
                return;
            };
            drop(state);
            self.shared.room.add_permits(1);
            chunk = next;
        }
    }
}

impl<C: Consume> Drop for Run<C> {
    fn drop(&mut self) {
        if !self.back {
            self.shared.lock().waiting.clear();
            self.shared.room.close();
        }
    }
}

#[cfg(test)]
mod tests;

//! Load shedding before collapse: how many calls the server has open and works on at a time, and how
//! many bytes of requests it decodes.
//!
//! Calls beyond what is worked on wait in a bounded queue for a bounded time; beyond that they are
//! refused at once with the time to come back, which costs next to nothing. By hand: tower's limit of
//! concurrency lets go of a call when its answer begins, so that slow readers would be without
//! bound, and has one queue without end.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::{
    limits::Limits,
    permits::Permits,
    rpc::{ApiError, policy::Queue},
};

/// The permits of all calls.
#[derive(Debug)]
pub(super) struct Admission {
    checks: Arc<Semaphore>,
    heartbeats: Arc<Semaphore>,
    open: Arc<Semaphore>,
    transfers: Arc<Semaphore>,
    working: Arc<Semaphore>,
    queue: Semaphore,
    decoding: Arc<Semaphore>,
    limits: Limits,
}

impl Admission {
    pub(super) fn new(limits: &Limits) -> Self {
        let permits = |limit| Limits::len(limit).min(Semaphore::MAX_PERMITS);
        let semaphore = |limit| Arc::new(Semaphore::new(permits(limit)));
        Self {
            checks: semaphore(limits.vital_calls),
            heartbeats: semaphore(limits.vital_calls),
            open: semaphore(limits.open_calls),
            transfers: semaphore(limits.transfers),
            working: semaphore(limits.working_calls),
            queue: Semaphore::new(permits(limits.queued_calls)),
            decoding: semaphore(decoded(limits).into()),
            limits: limits.clone(),
        }
    }

    /// The permits of a call, or why there are none.
    pub(super) async fn admit(&self, queue: Queue) -> Result<Permits, ApiError> {
        let vital = |of| permit(of).ok_or(ApiError::Overloaded);
        match queue {
            Queue::Checks => return Ok(Arc::new(vital(&self.checks)?)),
            Queue::Heartbeats => return Ok(Arc::new(vital(&self.heartbeats)?)),
            Queue::Idle | Queue::Transfers | Queue::Work => {}
        }
        let full = ApiError::TooManyCalls(self.limits.open_calls);
        let open = permit(&self.open).ok_or(full)?;
        let other = match queue {
            Queue::Transfers => {
                let full = ApiError::TooManyTransfers(self.limits.transfers);
                Some(permit(&self.transfers).ok_or(full)?)
            }
            Queue::Work => Some(self.work().await?),
            _ => None,
        };
        Ok(Arc::new((open, other)))
    }

    /// A permit to be worked on; waits for one if the queue has room.
    async fn work(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        if let Some(permit) = permit(&self.working) {
            return Ok(permit);
        }
        let _queued = self.queue.try_acquire().map_err(|_| ApiError::Overloaded)?;
        let patience = Duration::from_secs(self.limits.queued_call_seconds);
        match timeout(patience, Arc::clone(&self.working).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(ApiError::Overloaded),
        }
    }

    /// Waits for room to decode so many bytes in: a list of small messages takes many times its bytes
    /// once it is decoded. A request that is larger than all of the room has it to itself.
    pub(super) async fn decode(&self, bytes: usize) -> Result<OwnedSemaphorePermit, ApiError> {
        let room = Limits::count(bytes as u64).min(decoded(&self.limits));
        let room = Arc::clone(&self.decoding).acquire_many_owned(room).await;
        // Nobody closes it.
        room.map_err(|_| ApiError::Overloaded)
    }
}

/// Bytes that are decoded at a time, as a number of permits.
fn decoded(limits: &Limits) -> u32 {
    Limits::count(limits.decoded_bytes)
}

fn permit(of: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    Arc::clone(of).try_acquire_owned().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn requests_wait_for_room_and_one_larger_than_all_of_it_has_it_to_itself() {
        let admission = Admission::new(&Limits {
            decoded_bytes: 100,
            ..Limits::default()
        });
        let waits = async |bytes| {
            let room = timeout(Duration::from_millis(20), admission.decode(bytes));
            room.await.is_err()
        };
        let room = admission.decode(70).await.unwrap();
        assert!(waits(31).await);
        assert!(!waits(30).await);
        drop(room);
        let room = admission.decode(1000).await.unwrap();
        assert!(waits(1).await);
        assert!(!waits(0).await);
        drop(room);
        assert!(!waits(100).await);
    }
}

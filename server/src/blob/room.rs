//! How many bytes of blobs there are, and may be. An upload reserves its bytes before the first one
//! comes, so that many at once cannot exceed the limit together.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// The bytes of all blobs.
#[derive(Clone, Debug)]
pub struct Room {
    used: Arc<AtomicU64>,
    max: u64,
}

/// There is no room for an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{used} bytes of blobs are stored, {asked} more would exceed the limit of {max}: delete jobs, and wait for their files to go"
)]
pub struct NoRoom {
    /// Bytes of the upload.
    pub asked: u64,
    /// Bytes there are, those of uploads under way included.
    pub used: u64,
    /// The limit.
    pub max: u64,
}

/// Room for one upload, free again when dropped.
#[derive(Debug)]
#[must_use = "dropped at once, it reserves nothing"]
pub struct Reservation {
    used: Arc<AtomicU64>,
    bytes: u64,
}

impl Room {
    /// Room for `max` bytes. What is stored already is unknown until [`Room::counted`].
    pub fn new(max: u64) -> Self {
        Self {
            used: Arc::default(),
            max,
        }
    }

    /// Bytes of blobs that are stored or coming in.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Notes what a look at all files has found. Uploads under way count again once they end.
    pub fn counted(&self, bytes: u64) {
        self.used.store(bytes, Ordering::Relaxed);
    }

    /// Reserves room for an upload.
    pub fn reserve(&self, bytes: u64) -> Result<Reservation, NoRoom> {
        let add = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.max);
        let reserved = self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        match reserved {
            Ok(_) => Ok(Reservation {
                used: Arc::clone(&self.used),
                bytes,
            }),
            Err(used) => Err(NoRoom {
                asked: bytes,
                used,
                max: self.max,
            }),
        }
    }
}

impl Reservation {
    /// The bytes are stored.
    pub fn keep(mut self) {
        self.bytes = 0;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let subtract = |used: u64| Some(used.saturating_sub(self.bytes));
        let _ = self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, subtract);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uploads_together_do_not_exceed_the_limit() {
        let room = Room::new(100);
        room.counted(10);
        let first = room.reserve(60).unwrap();
        let refused = room.reserve(31).unwrap_err();
        assert_eq!((refused.asked, refused.used, refused.max), (31, 70, 100));
        let second = room.reserve(30).unwrap();
        drop(first);
        second.keep();
        assert_eq!(room.used(), 40);
        assert!(room.reserve(u64::MAX).is_err());
    }
}

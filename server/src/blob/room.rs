//! How many bytes of blobs there are, and may be. An upload reserves its bytes before the first one
//! comes, so that many at once cannot exceed the limit together.
//!
//! What is stored and what is reserved are counted apart: a look at the files sets the one anew and
//! leaves the other. Where the two overlap, a byte counts twice until the next look: that refuses too
//! early, never too late.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The bytes of all blobs.
#[derive(Clone, Debug)]
pub struct Room {
    usage: Arc<Mutex<Usage>>,
    max: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Usage {
    /// Bytes of files: blobs, and what is kept of uploads that broke off.
    stored: u64,
    /// Declared bytes of the uploads under way.
    reserved: u64,
}

impl Usage {
    fn total(self) -> u64 {
        self.stored.saturating_add(self.reserved)
    }
}

/// There is no room for an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{used} bytes of blobs are stored, {asked} more would exceed the limit of {max}: delete jobs, and wait for their files to go"
)]
pub struct NoRoom {
    /// Bytes that the upload would add.
    pub asked: u64,
    /// Bytes there are, those of uploads under way included.
    pub used: u64,
    /// The limit.
    pub max: u64,
}

/// Room for one upload. Dropped, it leaves what was [`written`](Reservation::written) as stored.
#[derive(Debug)]
#[must_use = "dropped at once, it reserves nothing"]
pub struct Reservation {
    usage: Arc<Mutex<Usage>>,
    bytes: u64,
    written: u64,
}

impl Room {
    /// Room for `max` bytes. What is stored already is unknown until [`Room::counted`].
    pub fn new(max: u64) -> Self {
        Self {
            usage: Arc::default(),
            max,
        }
    }

    /// Bytes of blobs that are stored or coming in.
    pub fn used(&self) -> u64 {
        locked(&self.usage).total()
    }

    /// Notes what a look at all files has found. What is reserved stays so.
    pub fn counted(&self, bytes: u64) {
        locked(&self.usage).stored = bytes;
    }

    /// Reserves room for an upload of `bytes`, which goes on from the `kept` ones that are stored.
    pub fn reserve(&self, bytes: u64, kept: u64) -> Result<Reservation, NoRoom> {
        let mut usage = locked(&self.usage);
        // Before the first look at the files nothing is known to be stored.
        let kept = kept.min(bytes).min(usage.stored);
        let (asked, used) = (bytes - kept, usage.total());
        if used.checked_add(asked).is_none_or(|sum| sum > self.max) {
            return Err(NoRoom {
                asked,
                used,
                max: self.max,
            });
        }
        usage.stored -= kept;
        usage.reserved += bytes;
        Ok(Reservation {
            usage: Arc::clone(&self.usage),
            bytes,
            written: kept,
        })
    }
}

impl Reservation {
    /// So many bytes of the upload are on the disk by now, and stay there should it break off.
    pub fn written(&mut self, bytes: u64) {
        self.written = bytes.min(self.bytes);
    }

    /// The bytes are stored.
    pub fn keep(mut self) {
        self.written = self.bytes;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut usage = locked(&self.usage);
        usage.reserved = usage.reserved.saturating_sub(self.bytes);
        usage.stored = usage.stored.saturating_add(self.written);
    }
}

/// Nothing done under the lock can panic half-way, so a poisoned one guards sound figures.
fn locked(usage: &Mutex<Usage>) -> MutexGuard<'_, Usage> {
    usage.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uploads_together_do_not_exceed_the_limit() {
        let room = Room::new(100);
        room.counted(10);
        let first = room.reserve(60, 0).unwrap();
        let refused = room.reserve(31, 0).unwrap_err();
        assert_eq!((refused.asked, refused.used, refused.max), (31, 70, 100));
        let second = room.reserve(30, 0).unwrap();
        drop(first);
        second.keep();
        assert_eq!(room.used(), 40);
        assert!(room.reserve(u64::MAX, 0).is_err());
    }

    #[test]
    fn a_look_at_the_files_forgets_no_upload_under_way() {
        let room = Room::new(100);
        let upload = room.reserve(60, 0).unwrap();
        room.counted(10);
        assert_eq!(room.used(), 70);
        assert!(room.reserve(40, 0).is_err());
        upload.keep();
        assert_eq!(room.used(), 70);
    }

    #[test]
    fn what_a_broken_upload_leaves_stays_counted_and_is_counted_once_when_it_goes_on() {
        let room = Room::new(100);
        let mut upload = room.reserve(60, 0).unwrap();
        upload.written(40);
        drop(upload);
        assert_eq!(room.used(), 40);
        let again = room.reserve(60, 40).unwrap();
        assert_eq!(room.used(), 60);
        again.keep();
        assert_eq!(room.used(), 60);
        // As after a start: what is kept of it was not counted yet.
        let unknown = Room::new(100);
        unknown.reserve(60, 40).unwrap().keep();
        assert_eq!(unknown.used(), 60);
    }
}

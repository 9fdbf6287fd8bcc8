//! How many bytes of blobs there are, and may be. An upload reserves its bytes before the first one
//! comes, so that many at once can exceed neither the limit together nor what is free on the disk.
//!
//! What is stored and what is still to come are counted apart: a look at the files sets the one anew and
//! leaves the other. Where the two overlap, a byte counts twice until the next look: that refuses too
//! early, never too late.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::BlobError;
use crate::disk::Disk;

/// The bytes of all blobs.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    usage: Arc<Mutex<Usage>>,
    max: u64,
    /// Where the blobs are on one; an object store has room.
    disk: Option<Disk>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Usage {
    /// Bytes of files: blobs, and what is kept of uploads that broke off or are under way.
    stored: u64,
    /// Declared bytes of the uploads under way that have not come.
    coming: u64,
}

/// Room for one upload.
#[derive(Debug)]
#[must_use = "dropped at once, it reserves nothing"]
pub(crate) struct Reservation {
    usage: Arc<Mutex<Usage>>,
    size: u64,
    written: u64,
}

impl Room {
    /// Room for `max` bytes, as far as the disk has it. What is stored already is unknown until
    /// [`Room::counted`].
    pub(crate) fn new(max: u64, disk: Option<Disk>) -> Self {
        let usage = Arc::default();
        Self { usage, max, disk }
    }

    /// Bytes of blobs that are stored or coming in.
    pub(crate) fn used(&self) -> u64 {
        let usage = locked(&self.usage);
        usage.stored.saturating_add(usage.coming)
    }

    /// Notes what a look at all files has found. What is coming stays so.
    pub(crate) fn counted(&self, bytes: u64) {
        locked(&self.usage).stored = bytes;
    }

    /// Reserves room for an upload of `size` bytes, which goes on from the `kept` ones that are stored.
    /// Blocks as long as the system takes to say how full the disk is.
    pub(crate) fn reserve(&self, size: u64, kept: u64) -> Result<Reservation, BlobError> {
        let free = self.disk.as_ref().map_or(u64::MAX, Disk::free_for_blobs);
        let mut usage = locked(&self.usage);
        // Before the first look at the files nothing is known to be stored.
        let kept = kept.min(size).min(usage.stored);
        let asked = size - kept;
        let used = usage.stored.saturating_add(usage.coming);
        let max = self.max;
        if used.checked_add(asked).is_none_or(|sum| sum > max) {
            return Err(BlobError::NoRoom { asked, used, max });
        }
        if usage.coming.saturating_add(asked) > free {
            return Err(BlobError::StorageFull);
        }
        usage.coming += asked;
        Ok(Reservation {
            usage: Arc::clone(&self.usage),
            size,
            written: kept,
        })
    }
}

impl Reservation {
    /// So many bytes of the upload are on the disk by now, and stay there should it break off.
    pub(crate) fn written(&mut self, bytes: u64) {
        let bytes = bytes.min(self.size);
        let mut usage = locked(&self.usage);
        usage.stored = usage.stored.saturating_sub(self.written) + bytes;
        usage.coming = (usage.coming + self.written).saturating_sub(bytes);
        self.written = bytes;
    }

    /// The bytes are stored.
    pub(crate) fn keep(mut self) {
        self.written(self.size);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut usage = locked(&self.usage);
        usage.coming = usage.coming.saturating_sub(self.size - self.written);
    }
}

/// Nothing done under the lock can panic half-way, so a poisoned one guards sound figures.
fn locked(usage: &Mutex<Usage>) -> MutexGuard<'_, Usage> {
    usage.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(max: u64) -> Room {
        Room::new(max, Some(Disk::new(&std::env::temp_dir())))
    }

    #[test]
    fn uploads_together_do_not_exceed_the_disk() {
        let room = room(u64::MAX);
        let free = room.disk.as_ref().unwrap().free_for_blobs();
        let half = free / 2 + free / 8;
        let mut first = room.reserve(half, 0).unwrap();
        let full = |room: &Room| matches!(room.reserve(half, 0), Err(BlobError::StorageFull));
        assert!(full(&room));
        // As if it were on the disk, which tells so itself.
        first.written(half);
        assert!(!full(&room));
    }

    #[test]
    fn uploads_together_do_not_exceed_the_limit() {
        let room = room(100);
        room.counted(10);
        let first = room.reserve(60, 0).unwrap();
        let refused = room.reserve(31, 0).unwrap_err();
        let expected = "70 bytes of blobs are stored, 31 more would exceed the limit of 100";
        assert!(refused.to_string().starts_with(expected), "{refused}");
        let second = room.reserve(30, 0).unwrap();
        drop(first);
        second.keep();
        assert_eq!(room.used(), 40);
        assert!(room.reserve(u64::MAX, 0).is_err());
    }

    #[test]
    fn a_look_at_the_files_forgets_no_upload_under_way() {
        let room = room(100);
        let upload = room.reserve(60, 0).unwrap();
        room.counted(10);
        assert_eq!(room.used(), 70);
        assert!(room.reserve(40, 0).is_err());
        upload.keep();
        assert_eq!(room.used(), 70);
    }

    #[test]
    fn what_a_broken_upload_leaves_stays_counted_and_is_counted_once_when_it_goes_on() {
        let room = room(100);
        let mut upload = room.reserve(60, 0).unwrap();
        upload.written(40);
        drop(upload);
        assert_eq!(room.used(), 40);
        let again = room.reserve(60, 40).unwrap();
        assert_eq!(room.used(), 60);
        again.keep();
        assert_eq!(room.used(), 60);
        // As after a start: what is kept of it was not counted yet.
        let unknown = self::room(100);
        unknown.reserve(60, 40).unwrap().keep();
        assert_eq!(unknown.used(), 60);
    }
}

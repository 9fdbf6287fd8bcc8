//! Where each task of a process is: the name of the node, in memory that both ends share and that is
//! left when the process dies. Each task has a slot of its own.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    sync::{Mutex, PoisonError},
};

/// Bytes of a slot: the length of a name, and the name, which is cut there.
const SLOT: usize = 256;

/// The slots, in a file in memory.
#[derive(Debug)]
pub(super) struct Places {
    file: File,
}

impl Places {
    /// No task is anywhere.
    ///
    /// # Errors
    /// The system has no file left.
    pub(super) fn new() -> io::Result<Self> {
        let file = rustix::fs::memfd_create("places", rustix::fs::MemfdFlags::CLOEXEC)?;
        Ok(Self { file: file.into() })
    }

    /// The file, as the process gets it.
    ///
    /// # Errors
    /// The system has no file left.
    pub(super) fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// What the task of a slot is at, if it has said.
    pub(super) fn read(&self, slot: u64) -> Option<String> {
        let mut bytes = [0; SLOT];
        let read = self.file.read_at(&mut bytes, slot * SLOT as u64).ok()?;
        let (&length, name) = bytes[..read].split_first()?;
        let name = name.get(..usize::from(length))?;
        (!name.is_empty()).then(|| String::from_utf8_lossy(name).into_owned())
    }

    /// Forgets what an earlier task of the slot was at.
    pub(super) fn clear(&self, slot: u64) {
        // Where it fails an old name is told, at worst.
        let _ = self.file.write_at(&[0], slot * SLOT as u64);
    }
}

/// What an error says of where a task was: nothing, or " at 'NODE'". What names several has quotes already.
pub(super) fn at(place: Option<&str>) -> String {
    match place {
        None => String::new(),
        Some(place) if place.contains('\'') => format!(" at {place}"),
        Some(place) => format!(" at '{place}'"),
    }
}

/// The slot of one task, as its process writes it.
#[derive(Debug)]
pub(super) struct Slot {
    file: File,
    offset: u64,
    last: Mutex<Vec<u8>>,
}

impl Slot {
    pub(super) fn new(file: File, slot: u64) -> Self {
        Self {
            file,
            offset: slot * SLOT as u64,
            last: Mutex::default(),
        }
    }

    /// The task comes to a node.
    pub(super) fn at(&self, name: &str) {
        let name = &name[..name.floor_char_boundary(SLOT - 1)];
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.get(1..) == Some(name.as_bytes()) {
            return;
        }
        last.clear();
        last.push(name.len() as u8);
        last.extend_from_slice(name.as_bytes());
        // Nothing depends on it but what an error says.
        let _ = self.file.write_at(&last, self.offset);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_task_says_where_it_is_and_long_names_are_cut() {
        let places = Places::new().unwrap();
        let slots = [0, 3].map(|slot| Slot::new(places.file().unwrap(), slot));
        assert_eq!((places.read(0), places.read(3)), (None, None));
        slots[1].at("b");
        slots[0].at(&"ä".repeat(200));
        assert_eq!(places.read(0), Some("ä".repeat(127)));
        assert_eq!(places.read(3).as_deref(), Some("b"));
        slots[0].at("a");
        assert_eq!(places.read(0).as_deref(), Some("a"));
        places.clear(0);
        assert_eq!((places.read(0), places.read(1)), (None, None));
    }
}

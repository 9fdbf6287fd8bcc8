//! A file with the input in it, for what reads files: one a thread, written anew each time.

use std::{cell::RefCell, fs, path::Path};

use tempfile::TempDir;

thread_local! {
    static FOLDER: RefCell<Option<TempDir>> = const { RefCell::new(None) };
}

/// Calls `read` with the path of a file called `name` that holds `data`.
pub(super) fn with_file<R>(name: &str, data: &[u8], read: impl FnOnce(&Path) -> R) -> R {
    FOLDER.with_borrow_mut(|folder| {
        let folder = folder.get_or_insert_with(|| tempfile::tempdir().unwrap());
        let path = folder.path().join(name);
        fs::write(&path, data).unwrap();
        read(&path)
    })
}

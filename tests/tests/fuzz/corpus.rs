//! The committed inputs.

use std::{fs, path::PathBuf};

use dual16_tests::{data::repository, results::names_in};

/// An input and the name of its file.
pub(crate) type Input = (String, Vec<u8>);

/// Every input of an entry point, in the order of their names.
pub(crate) fn corpus(target: &str) -> Vec<Input> {
    let folder: PathBuf = repository().join("fuzz/corpus").join(target);
    let read = |name: String| {
        let bytes = fs::read(folder.join(&name)).unwrap();
        (name, bytes)
    };
    names_in(&folder).into_iter().map(read).collect()
}

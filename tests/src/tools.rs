//! Programs that tests need and that are not the project's: `./test` lays them into `tools` in the target folder.

use std::{
    env,
    path::{Path, PathBuf},
};

/// The folder.
///
/// # Panics
/// When this is no test that cargo has built.
pub fn folder() -> PathBuf {
    let test = env::current_exe().expect("a test knows its own executable");
    let target = test.ancestors().nth(3);
    target
        .expect("a test lies in TARGET/PROFILE/deps")
        .join("tools")
}

/// The program of this name: the one laid there, else the system's.
pub fn find(name: &str) -> Option<PathBuf> {
    let laid = folder().join("usr/bin");
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders = [laid].into_iter().chain(env::split_paths(&path));
    folders.find_map(|folder| Some(folder.join(name)).filter(|path| Path::is_file(path)))
}

/// As [`find`].
///
/// # Panics
/// When there is none, saying how to get one.
pub fn tool(name: &str) -> PathBuf {
    find(name).unwrap_or_else(|| panic!("{name} is missing: run ./test, which installs it"))
}

//! Where the built programs are: cargo puts them two folders above a test's own executable.
//!
//! Cargo tells a test only the programs of its own package, so those of the others are looked for
//! in the same profile; `./test` builds them first.

use std::{env, path::PathBuf};

/// The built program `name`.
///
/// # Panics
/// When it has not been built, saying how to.
pub fn program(name: &str) -> PathBuf {
    let test = env::current_exe().expect("a test knows its own executable");
    let profile = test
        .ancestors()
        .nth(2)
        .expect("a test lies in PROFILE/deps");
    let path = profile.join(format!("{name}{}", env::consts::EXE_SUFFIX));
    assert!(
        path.is_file(),
        "{} is missing: run ./test, or `cargo test --workspace --no-run` before this test",
        path.display()
    );
    path
}

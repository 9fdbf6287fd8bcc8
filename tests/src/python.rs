//! The Python interpreter of the independent clients and of the collector: DUAL16_TEST_PYTHON, or the
//! one that `./test` has set up.

use std::{env, path::PathBuf, process::Command, time::Duration};

use crate::{
    data::repository,
    process::{Finished, Process},
};

const LIMIT: Duration = Duration::from_secs(240);

/// Runs `tests/python/SCRIPT` to its end.
///
/// # Panics
/// When there is no interpreter with grpcio, saying how to get one.
pub fn run(script: &str, arguments: &[&str]) -> Finished {
    start(script, arguments).wait(LIMIT)
}

/// Starts `tests/python/SCRIPT`.
///
/// # Panics
/// As [`run`].
pub fn start(script: &str, arguments: &[&str]) -> Process {
    let mut command = Command::new(interpreter());
    command
        .arg(repository().join("tests/python").join(script))
        .args(arguments);
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    Process::spawn(script, command)
}

/// The interpreter.
///
/// # Panics
/// As [`run`].
pub fn interpreter() -> PathBuf {
    if let Some(given) = env::var_os("DUAL16_TEST_PYTHON") {
        return given.into();
    }
    let test = env::current_exe().expect("a test knows its own executable");
    let target = test
        .ancestors()
        .nth(3)
        .expect("a test lies in TARGET/PROFILE/deps");
    let path = target.join("test-venv/bin/python");
    assert!(
        path.exists(),
        "{} is missing: run ./test, or name a Python with what tests/python/requirements.txt lists in \
         DUAL16_TEST_PYTHON",
        path.display()
    );
    path
}

//! Starts the Python package that writes the cases: `tests/python/reference_models`.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

const SAMPLE: &str = "400";
const SEED: &str = "16";

/// The folder of cases, which goes when this does unless it is to be kept.
pub enum Folder {
    Passing(TempDir),
    Kept(PathBuf),
}

impl Folder {
    pub fn path(&self) -> &Path {
        match self {
            Folder::Passing(folder) => folder.path(),
            Folder::Kept(path) => path,
        }
    }
}

/// Writes the cases that the environment asks for.
pub fn generate() -> Folder {
    let folder = match env::var_os("DUAL16_REFERENCE_KEEP") {
        Some(kept) => Folder::Kept(kept.into()),
        None => Folder::Passing(tempfile::tempdir().unwrap()),
    };
    let given = |name: &str, otherwise: &str| env::var(name).unwrap_or(otherwise.to_owned());
    let mut command = python("reference_models");
    command
        .arg(folder.path())
        .args(["--sample", &given("DUAL16_REFERENCE_SAMPLE", SAMPLE)])
        .args(["--seed", &given("PROPTEST_RNG_SEED", SEED)]);
    if let Ok(name) = env::var("DUAL16_REFERENCE_ONLY") {
        command.args(["--only", &name]);
    }
    let status = command.status().unwrap();
    assert!(status.success(), "the generator of cases: {status}");
    folder
}

/// A module of `tests/python`, to be run.
pub fn python(module: &str) -> Command {
    let mut command = Command::new(interpreter());
    command
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/python"))
        .args(["-m", module]);
    command
}

/// The interpreter that `./test` has set up, or the one that is named.
fn interpreter() -> PathBuf {
    if let Some(given) = env::var_os("DUAL16_TEST_PYTHON") {
        return given.into();
    }
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../test-venv/bin/python");
    assert!(
        path.exists(),
        "{} is missing: run ./test, or name a Python with what tests/python/requirements.txt lists in \
         DUAL16_TEST_PYTHON",
        path.display()
    );
    path
}

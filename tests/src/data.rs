//! The models of the repository, and edited copies of them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use crate::{
    results::names_in,
    tensors::{self, Tensors},
};

/// The repository.
pub fn repository() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests
        .parent()
        .expect("the package lies in the repository")
        .to_owned()
}

/// The article's model: three Linears, of which int8 hurts the second.
pub fn smallmodel() -> PathBuf {
    repository().join("tests/data/smallmodel")
}

/// A small transformer that reads digits.
pub fn digits() -> PathBuf {
    repository().join("tests/data/digits")
}

/// The batch files of a folder, in their order.
pub fn batches(folder: &Path) -> Vec<PathBuf> {
    names_in(folder)
        .iter()
        .map(|name| folder.join(name))
        .collect()
}

/// A copy of a model's folder, to be damaged.
pub struct Copy {
    folder: TempDir,
}

impl Copy {
    /// Copies `model.onnx`, `float.safetensors` and the first `batches` calibration batches.
    pub fn of(model: &Path, batches: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let calib = folder.path().join("calib");
        fs::create_dir(&calib).unwrap();
        for name in ["model.onnx", "float.safetensors"] {
            fs::copy(model.join(name), folder.path().join(name)).unwrap();
        }
        for name in names_in(&model.join("calib")).iter().take(batches) {
            fs::copy(model.join("calib").join(name), calib.join(name)).unwrap();
        }
        Self { folder }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Changes the bytes of a file.
    pub fn edit(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let path = self.file(name);
        let mut bytes = fs::read(&path).unwrap();
        change(&mut bytes);
        fs::write(&path, bytes).unwrap();
    }

    /// Changes the tensors of a safetensors file.
    pub fn edit_tensors(&self, name: &str, change: impl FnOnce(&mut Tensors)) {
        let path = self.file(name);
        let mut tensors = tensors::read(&path);
        change(&mut tensors);
        tensors::write(&path, &tensors);
    }
}

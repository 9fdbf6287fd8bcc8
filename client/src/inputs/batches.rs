//! The batches of a calibration, activation or evaluation set, in their order: files that hold a
//! batch each, or folders of lone arrays.

use std::path::{Path, PathBuf};

use super::{
    ArrayBatch, Holdings, InputError, NamedFile, arrays,
    arrays::{entries, is_array},
    foreign::Wanted,
    regular, safetensors, seen,
};

/// The batches of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batches {
    /// The order in which order-dependent observers see them.
    pub batches: Vec<BatchSource>,
    /// Names in the folder that are no batches; whoever reports to a person must say so.
    pub ignored: Vec<String>,
}

/// One batch, or a stack of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BatchSource {
    /// A file, as it is.
    File(NamedFile),
    /// An array for each input, to be put into one file.
    Arrays(ArrayBatch),
}

/// Which set it is.
#[derive(Debug, Clone, Copy)]
pub struct BatchSet<'a> {
    /// In errors: "the calibration folder".
    pub what: &'static str,
    /// Folder of its files in the job: "calib".
    pub prefix: &'a str,
    /// What its arrays are named after: "input of the graph".
    pub keys: &'static str,
    /// Names of the model's inputs; None where the batches alone know them.
    pub inputs: Option<&'a [String]>,
}

/// Collects the `.safetensors` and `.npz` files of the folder `path`, not recursively, or where it
/// has none its `.npy` files, `NAME/NNN.npy` and `NNN.npy`. A single such file is a set of one.
///
/// What the files hold is noted in `holdings`, as far as they are looked into.
///
/// # Errors
/// [`InputError::Missing`], [`InputError::NoBatches`], [`InputError::NotSafetensors`] and the like.
pub fn collect_batches(
    path: &Path,
    set: BatchSet<'_>,
    holdings: &mut Holdings,
) -> Result<Batches, InputError> {
    let BatchSet {
        what,
        prefix,
        inputs,
        ..
    } = set;
    if !path.exists() && !path.is_symlink() {
        return Err(InputError::Missing {
            what,
            path: path.to_owned(),
        });
    }
    regular::check(path)?;
    if path.is_file() {
        let batch = if is_batch(path) {
            named(path, prefix, holdings).map(BatchSource::File)
        } else if is_array(path) {
            arrays::single(path, prefix, inputs, holdings).map(BatchSource::Arrays)
        } else {
            let expected = "a .safetensors, .npz or .npy file, or a folder of them";
            Err(InputError::WrongKind {
                what,
                path: path.to_owned(),
                expected: expected.to_owned(),
            })
        };
        return Ok(Batches {
            batches: vec![batch?],
            ignored: Vec::new(),
        });
    }
    let mut entries = entries(path)?;
    entries.sort();
    let is_whole = |entry: &PathBuf| is_batch(entry) && entry.is_file();
    let (whole, others): (Vec<_>, Vec<_>) = entries.into_iter().partition(is_whole);
    if whole.is_empty() {
        let batches = arrays::collect(path, prefix, inputs, holdings)?;
        if batches.is_empty() {
            return Err(seen::no_batches(path, set));
        }
        let unused = |entry: &PathBuf| entry.is_file() && !is_array(entry);
        return Ok(Batches {
            batches: batches.into_iter().map(BatchSource::Arrays).collect(),
            ignored: names(others.into_iter().filter(unused))?,
        });
    }
    let mut files = whole
        .iter()
        .map(|file| named(file, prefix, holdings))
        .collect::<Result<Vec<_>, _>>()?;
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Batches {
        batches: files.into_iter().map(BatchSource::File).collect(),
        ignored: names(others.into_iter().filter(|entry| entry.is_file()))?,
    })
}

pub(super) fn is_batch(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "safetensors" || extension == "npz")
}

fn named(path: &Path, prefix: &str, holdings: &mut Holdings) -> Result<NamedFile, InputError> {
    if path.extension().is_some_and(|found| found == "safetensors") {
        let bytes = safetensors::check_length(path, Wanted::Batch, holdings)?;
        holdings.unpacked(path, bytes);
    }
    Ok(NamedFile {
        name: format!("{prefix}/{}", file_name(path)?),
        path: path.to_owned(),
    })
}

fn names(paths: impl Iterator<Item = PathBuf>) -> Result<Vec<String>, InputError> {
    paths.map(|path| file_name(&path)).collect()
}

/// The last component of `path`, as the API needs it.
pub(super) fn file_name(path: &Path) -> Result<String, InputError> {
    path.file_name()
        .and_then(|name| name.to_str())
        .map(str::to_owned)
        .ok_or_else(|| InputError::NotUtf8(path.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn collect(path: &Path) -> Result<Batches, InputError> {
        let set = BatchSet {
            what: "the calibration folder",
            prefix: "calib",
            keys: "graph input",
            inputs: None,
        };
        collect_batches(path, set, &mut Holdings::default())
    }

    #[test]
    fn batches_come_in_the_order_of_their_names() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "b.npz",
            "a.npz",
            "10.npz",
            "9.npz",
            "notes.txt",
            "label.npy",
            ".hidden.npz",
        ] {
            fs::write(folder.path().join(name), b"x").unwrap();
        }
        fs::create_dir(folder.path().join("sub.npz")).unwrap();

        let batches = collect(folder.path()).unwrap();

        let names: Vec<_> = batches
            .batches
            .iter()
            .map(|batch| match batch {
                BatchSource::File(file) => file.name.as_str(),
                BatchSource::Arrays(batch) => panic!("{batch:?}"),
            })
            .collect();
        assert_eq!(
            names,
            ["calib/10.npz", "calib/9.npz", "calib/a.npz", "calib/b.npz"]
        );
        assert_eq!(batches.ignored, ["label.npy", "notes.txt"]);
    }

    #[test]
    fn an_empty_folder_says_what_belongs_into_it() {
        let folder = tempfile::tempdir().unwrap();
        let error = collect(folder.path()).unwrap_err().to_string();
        assert!(
            error.contains(&folder.path().display().to_string()),
            "{error}"
        );
        assert!(error.contains(".safetensors or .npz"), "{error}");
    }

    #[test]
    fn missing_paths_and_wrong_files_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let missing = collect(&folder.path().join("nowhere")).unwrap_err();
        assert!(matches!(missing, InputError::Missing { .. }), "{missing}");
        let text = folder.path().join("notes.txt");
        fs::write(&text, b"x").unwrap();
        let wrong = collect(&text).unwrap_err();
        assert!(matches!(wrong, InputError::WrongKind { .. }), "{wrong}");
    }

    #[test]
    fn a_truncated_batch_is_found_before_anything_is_uploaded() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("000.safetensors"), b"\x10\0\0").unwrap();
        let error = collect(folder.path()).unwrap_err();
        assert!(
            matches!(error, InputError::NotSafetensors { .. }),
            "{error}"
        );
    }
}

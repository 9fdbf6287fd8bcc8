//! The batches of a calibration, activation or evaluation set: one file each, in the order of
//! their names.

use std::path::Path;

use super::{Holdings, InputError, NamedFile, safetensors};

/// The batches of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batches {
    /// Sorted by name: the order in which order-dependent observers see them.
    pub files: Vec<NamedFile>,
    /// Names of files in the folder that are no batches; whoever reports to a person must say so.
    pub ignored: Vec<String>,
}

/// Collects the `.safetensors` and `.npz` files of the folder `path`, not recursively; a single
/// such file is a set of one. In the job they are called `prefix/FILE`.
///
/// `what` names the set in errors ("the calibration folder"), `keys` what its arrays are named after.
/// What the files hold is noted in `holdings`, as far as they are looked into.
///
/// # Errors
/// [`InputError::Missing`], [`InputError::NoBatches`], [`InputError::NotSafetensors`] and the like.
pub fn collect_batches(
    path: &Path,
    prefix: &str,
    what: &'static str,
    keys: &'static str,
    holdings: &mut Holdings,
) -> Result<Batches, InputError> {
    let read = |source| InputError::Read {
        path: path.to_owned(),
        source,
    };
    if !path.exists() {
        return Err(InputError::Missing {
            what,
            path: path.to_owned(),
        });
    }
    let mut batches = Batches {
        files: Vec::new(),
        ignored: Vec::new(),
    };
    if path.is_file() {
        if !is_batch(path) {
            let expected = "a .safetensors or .npz file, or a folder of them";
            return Err(InputError::WrongKind {
                what,
                path: path.to_owned(),
                expected,
            });
        }
        batches.files.push(named(path, prefix)?);
    } else {
        for entry in std::fs::read_dir(path).map_err(read)? {
            let entry = entry.map_err(read)?.path();
            let hidden = entry
                .file_name()
                .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            if hidden || !entry.is_file() {
                continue;
            }
            match is_batch(&entry) {
                true => batches.files.push(named(&entry, prefix)?),
                false => batches.ignored.push(file_name(&entry)?),
            }
        }
    }
    if batches.files.is_empty() {
        return Err(InputError::NoBatches {
            what,
            path: path.to_owned(),
            keys,
        });
    }
    batches.files.sort_by(|a, b| a.name.cmp(&b.name));
    batches.ignored.sort();
    for file in &batches.files {
        if file
            .path
            .extension()
            .is_some_and(|extension| extension == "safetensors")
        {
            let bytes = safetensors::check_length(&file.path, holdings)?;
            holdings.unpacked(&file.path, bytes);
        }
    }
    Ok(batches)
}

fn is_batch(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "safetensors" || extension == "npz")
}

fn named(path: &Path, prefix: &str) -> Result<NamedFile, InputError> {
    Ok(NamedFile {
        name: format!("{prefix}/{}", file_name(path)?),
        path: path.to_owned(),
    })
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
        let holdings = &mut Holdings::default();
        collect_batches(
            path,
            "calib",
            "the calibration folder",
            "graph input",
            holdings,
        )
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
            ".hidden.npz",
        ] {
            fs::write(folder.path().join(name), b"x").unwrap();
        }
        fs::create_dir(folder.path().join("sub.npz")).unwrap();

        let batches = collect(folder.path()).unwrap();

        let names: Vec<_> = batches
            .files
            .iter()
            .map(|file| file.name.as_str())
            .collect();
        assert_eq!(
            names,
            ["calib/10.npz", "calib/9.npz", "calib/a.npz", "calib/b.npz"]
        );
        assert_eq!(batches.ignored, ["notes.txt"]);
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

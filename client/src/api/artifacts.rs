//! Bringing a job's artifacts into a folder: all of them or none, and never half a file.
//!
//! Each is written to a temporary name beside its place, checked against its digest and synced;
//! only when all are there are they renamed. A temporary file removes itself when dropped, also
//! when the whole fetch is.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Component, Path, PathBuf},
};

use dual16_proto::v1::Artifact;
use dual16_rpc::blob::DurableFile;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tempfile::NamedTempFile;

use super::{ApiError, Client, Moved};

/// Downloads at the same time: hides the round trips of small files, and what each waits for its disk.
const DOWNLOADS: usize = 4;

/// A file that a fetch has written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Where it is.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
}

impl Client {
    /// Downloads `artifacts` into the folder `out`, which is created where it is missing.
    ///
    /// # Errors
    /// [`ApiError::Write`] names the file that the disk refused, [`ApiError::Corrupt`] the one that
    /// arrived broken; then nothing has been replaced in `out`. Only a disk that fails between two
    /// renames can leave some files new and the others old, each of them whole.
    pub async fn fetch(
        &self,
        artifacts: &[Artifact],
        out: &Path,
        moved: Moved<'_>,
    ) -> Result<Vec<Fetched>, ApiError> {
        let failed = |path: &Path, source| ApiError::Write {
            path: path.to_owned(),
            source,
        };
        fs::create_dir_all(out).map_err(|source| failed(out, source))?;
        let staged: Vec<(NamedTempFile, PathBuf, u64)> = stream::iter(artifacts)
            .map(|artifact| self.stage(artifact, out, moved))
            .buffered(DOWNLOADS)
            .try_collect()
            .await?;
        // What a rename would fail at is found before the first one.
        for (_, path, _) in &staged {
            make_folders(out, path).map_err(|(folder, source)| failed(&folder, source))?;
            if fs::symlink_metadata(path).is_ok_and(|there| there.is_dir()) {
                return Err(failed(path, io::ErrorKind::IsADirectory.into()));
            }
        }
        let mut fetched = Vec::with_capacity(staged.len());
        for (file, path, size) in staged {
            file.persist(&path)
                .map_err(|error| failed(&path, error.error))?;
            fetched.push(Fetched { path, size });
        }
        let folders: BTreeSet<&Path> = fetched
            .iter()
            .filter_map(|file| file.path.parent())
            .chain([out])
            .collect();
        for folder in folders {
            sync_folder(folder).map_err(|source| failed(folder, source))?;
        }
        Ok(fetched)
    }

    /// One file under a temporary name, the name that it is for, and its bytes.
    async fn stage(
        &self,
        artifact: &Artifact,
        out: &Path,
        moved: Moved<'_>,
    ) -> Result<(NamedTempFile, PathBuf, u64), ApiError> {
        let path = out.join(name_within(&artifact.name)?);
        let failed = |source| ApiError::Write {
            path: path.clone(),
            source,
        };
        let temporary = temporary_in(out).map_err(failed)?;
        let sink = DurableFile::new(temporary.reopen().map_err(failed)?);
        let sink = self.download(artifact, &path, sink, moved).await?;
        tokio::task::spawn_blocking(move || sink.sync())
            .await
            .unwrap_or_else(|stopped| Err(io::Error::other(stopped)))
            .map_err(failed)?;
        Ok((temporary, path, artifact.size))
    }
}

/// Makes the names in a folder durable, where the system can.
fn sync_folder(folder: &Path) -> io::Result<()> {
    #[cfg(unix)]
    fs::File::open(folder)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}

/// A temporary file with the permissions that an ordinary new file has.
fn temporary_in(out: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".dual16-").suffix(".part");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(out)
}

/// Makes the folders between `out` and a file in it. One that is a link leads elsewhere and is none.
fn make_folders(out: &Path, path: &Path) -> Result<(), (PathBuf, io::Error)> {
    let Some(inner) = path
        .parent()
        .and_then(|folder| folder.strip_prefix(out).ok())
    else {
        return Ok(());
    };
    let mut folder = out.to_owned();
    for part in inner.components() {
        folder.push(part);
        match fs::symlink_metadata(&folder) {
            Ok(there) if there.is_dir() => {}
            Ok(_) => return Err((folder, io::ErrorKind::NotADirectory.into())),
            Err(_) => fs::create_dir(&folder).map_err(|error| (folder.clone(), error))?,
        }
    }
    Ok(())
}

/// A server must not choose where on this disk a file goes: it stays in the folder that was named, and out
/// of what is hidden there, as the state of local jobs is.
fn name_within(name: &str) -> Result<&str, ApiError> {
    let plain = |part: &str| {
        let mut components = Path::new(part).components();
        let one = matches!(
            (components.next(), components.next()),
            (Some(Component::Normal(only)), None) if only == part
        );
        one && !part.starts_with('.') && !part.contains(['\\', ':'])
    };
    match name.split('/').all(plain) {
        true => Ok(name),
        false => Err(ApiError::Protocol {
            call: "GetJob",
            message: format!("the artifact name {name:?} is not the name of a file in a folder"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_within_the_folder_are_written() {
        for good in ["plan.json", "handoff/mended.onnx"] {
            assert_eq!(name_within(good).unwrap(), good);
        }
        for bad in [
            "",
            ".",
            "..",
            "../x",
            "/etc/x",
            "a/",
            "a//b",
            "a/../b",
            "a\\b",
            "c:x",
            ".dual16/jobs",
        ] {
            assert!(name_within(bad).is_err(), "{bad:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_no_folder_of_the_results() {
        let (out, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = out.path().join("handoff/x");
        std::os::unix::fs::symlink(elsewhere.path(), out.path().join("handoff")).unwrap();
        assert!(make_folders(out.path(), &path).is_err());
        fs::remove_file(out.path().join("handoff")).unwrap();
        make_folders(out.path(), &path).unwrap();
        make_folders(out.path(), &path).unwrap();
        assert!(out.path().join("handoff").is_dir());
    }
}

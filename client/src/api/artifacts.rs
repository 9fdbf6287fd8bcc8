//! Bringing a job's artifacts into a folder: all of them or none, and never half a file.
//!
//! Each is written to a temporary name beside its place, checked against its digest and synced;
//! only when all are there are they renamed. A temporary file removes itself when dropped, also
//! when the whole fetch is.

use std::{
    fs, io,
    path::{Component, Path, PathBuf},
};

use dual16_proto::v1::Artifact;
use dual16_rpc::blob::DurableFile;
use tempfile::NamedTempFile;

use super::{ApiError, Client, Moved};

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
        let mut staged = Vec::with_capacity(artifacts.len());
        for artifact in artifacts {
            let path = out.join(plain_name(&artifact.name)?);
            staged.push((
                self.stage(artifact, &path, out, moved).await?,
                path,
                artifact.size,
            ));
        }
        // What a rename would fail at is found before the first one.
        for (_, path, _) in &staged {
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
        sync_folder(out).map_err(|source| failed(out, source))?;
        Ok(fetched)
    }

    async fn stage(
        &self,
        artifact: &Artifact,
        path: &Path,
        out: &Path,
        moved: Moved<'_>,
    ) -> Result<NamedTempFile, ApiError> {
        let failed = |source| ApiError::Write {
            path: path.to_owned(),
            source,
        };
        let temporary = temporary_in(out).map_err(failed)?;
        let sink = DurableFile::new(temporary.reopen().map_err(failed)?);
        let sink = self.download(artifact, path, sink, moved).await?;
        tokio::task::spawn_blocking(move || sink.sync())
            .await
            .unwrap_or_else(|stopped| Err(io::Error::other(stopped)))
            .map_err(failed)?;
        Ok(temporary)
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

/// A server must not choose where on this disk a file goes.
fn plain_name(name: &str) -> Result<&str, ApiError> {
    let mut components = Path::new(name).components();
    match (components.next(), components.next()) {
        (Some(Component::Normal(only)), None) if only == name && !name.contains('\\') => Ok(name),
        _ => Err(ApiError::Protocol {
            call: "GetJob",
            message: format!("the artifact name {name:?} is not a plain file name"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_are_written() {
        assert_eq!(plain_name("plan.json").unwrap(), "plan.json");
        for bad in ["", ".", "..", "../x", "/etc/x", "a/b", "a/", "a\\b"] {
            assert!(plain_name(bad).is_err(), "{bad:?}");
        }
    }
}

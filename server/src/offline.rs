//! Commands on a data directory that no server uses: check, repair, export, import. Each takes the
//! server's own lock first.
//!
//! sled repairs a damaged log by cutting it when it is opened, so nothing here opens the database
//! itself: it is copied, and the copy is read.

mod archive;
mod check;
mod migrate;
mod repair;

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

pub use self::{
    archive::{export, import},
    check::check,
    migrate::{Place, migrate},
    repair::repair,
};
use crate::{
    blob::LocalBlobs,
    digest::Digest,
    server::{StartError, data_dir::DataDir},
    store::{SledEngine, StoreError, salvage},
};

/// Why an offline command failed.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// The data directory is not there, or in use.
    #[error(transparent)]
    Data(#[from] StartError),
    /// The database.
    #[error("job store: {0}")]
    Store(#[from] StoreError),
    /// A file.
    #[error("{path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What is to be written to has something in it.
    #[error("{0} is not empty: empty it first, or give a directory that does not exist")]
    NotEmpty(PathBuf),
    /// The archive is not whole.
    #[error("archive {path}: {what}")]
    Archive {
        /// Which archive.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// Jobs go from a data directory to a database, or back.
    #[error("from one place to the other of its kind, {0}")]
    Places(&'static str),
    /// Jobs of two places would mix.
    #[error("the target has jobs: give a database without any")]
    HasJobs,
    /// What is moved must be a sound store.
    #[error("the data directory is damaged: run `dual16-server repair` first")]
    Damaged,
    /// The output was closed.
    #[error("cannot write the report: {0}")]
    Report(io::Error),
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> OfflineError {
    let path = path.to_owned();
    move |source| OfflineError::File { path, source }
}

fn say(report: &mut dyn Write, line: impl std::fmt::Display) -> Result<(), OfflineError> {
    writeln!(report, "{line}").map_err(OfflineError::Report)
}

/// A data directory under its lock, and the copy of its database.
struct Opened {
    data: DataDir,
    blobs: LocalBlobs,
    copy: PathBuf,
    engine: Option<SledEngine>,
}

impl Opened {
    fn new(data: &Path) -> Result<Self, OfflineError> {
        let data = DataDir::existing(data.to_owned())?;
        let blobs = data.open_blobs()?;
        let copy = data.path().join("store.copy");
        if copy.exists() {
            fs::remove_dir_all(&copy).map_err(at(&copy))?;
        }
        // Before the first byte is copied: on a disk that is full by then, nothing of it may stay.
        let opened = Self {
            data,
            blobs,
            copy,
            engine: None,
        };
        copy_dir(&opened.data.path().join("store"), &opened.copy)?;
        Ok(opened)
    }

    /// The database, whatever is left of it.
    fn engine(&mut self) -> Result<&SledEngine, StoreError> {
        let engine = match self.engine.take() {
            Some(engine) => engine,
            None => SledEngine::open_damaged(&self.copy)?,
        };
        salvage::require_format(&engine)?;
        Ok(self.engine.insert(engine))
    }

    /// The database, of which no commit may be lost.
    fn whole_engine(&mut self) -> Result<&SledEngine, OfflineError> {
        let engine = self.engine()?;
        match engine.lost_commits().is_some() || engine.unknown_commits().is_some() {
            true => Err(OfflineError::Damaged),
            false => Ok(engine),
        }
    }
}

/// Makes the database in `fresh`, which is complete, the store of the data directory.
fn install(engine: SledEngine, fresh: &Path, data: &Path) -> Result<(), OfflineError> {
    drop(engine);
    SledEngine::wait_for_release(fresh);
    // The name says that it is whole: a store appears last.
    let store = data.join("store");
    fs::rename(fresh, &store).map_err(at(&store))?;
    File::open(data)
        .and_then(|data| data.sync_all())
        .map_err(at(data))
}

impl Drop for Opened {
    fn drop(&mut self) {
        drop(self.engine.take());
        SledEngine::wait_for_release(&self.copy);
        // What is left of a copy is removed by the next command.
        let _ = fs::remove_dir_all(&self.copy);
    }
}

fn copy_dir(from: &Path, to: &Path) -> Result<(), OfflineError> {
    fs::create_dir_all(to).map_err(at(to))?;
    for entry in fs::read_dir(from).map_err(at(from))? {
        let entry = entry.map_err(at(from))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().map_err(at(&source))?.is_dir() {
            copy_dir(&source, &target)?;
        } else {
            fs::copy(&source, &target).map_err(at(&source))?;
        }
    }
    Ok(())
}

/// What is wrong with a blob that a job keeps; reads all of it.
fn blob_finding(
    blobs: &LocalBlobs,
    digest: Digest,
    size: u64,
) -> Result<Option<String>, OfflineError> {
    let path = blobs.path_of(digest);
    match Digest::of_file(&path) {
        Ok(found) if found == (digest, size) => Ok(None),
        Ok((found, found_size)) => Ok(Some(format!(
            "blob {digest} has {found_size} bytes and the digest {found}"
        ))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Ok(Some(format!("blob {digest} is missing")))
        }
        Err(source) => Err(OfflineError::File { path, source }),
    }
}

/// Everything that is wrong with one job, its blobs included. `known` remembers blobs that were read.
fn job_findings(
    engine: &SledEngine,
    blobs: &LocalBlobs,
    job: crate::job::JobId,
    known: &mut std::collections::HashMap<(Digest, u64), Option<String>>,
) -> Result<Vec<String>, OfflineError> {
    let mut found = match salvage::findings(engine, job) {
        Ok(found) => found,
        Err(error) => return Ok(vec![error.to_string()]),
    };
    let Ok(kept) = salvage::blobs(engine, job) else {
        found.push("its list of blobs cannot be read".into());
        return Ok(found);
    };
    for blob in kept {
        let finding = match known.get(&blob) {
            Some(finding) => finding.clone(),
            None => {
                let finding = blob_finding(blobs, blob.0, blob.1)?;
                known.insert(blob, finding.clone());
                finding
            }
        };
        found.extend(finding);
    }
    Ok(found)
}

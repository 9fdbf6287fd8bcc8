//! `export` and `import`: everything of a data directory as plain files, to move it to another
//! machine or engine, or to keep it.
//!
//! ```text
//! manifest.json      written last: what the archive holds, and the digest of records.jsonl
//! records.jsonl      a record a line: its key, and its value, both as hex digits
//! blobs/…            the blobs that jobs keep, as in a data directory
//! ```

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, BufRead as _, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{OfflineError, Opened, at, blob_finding, install, job_findings, say};
use crate::{
    blob::LocalBlobs,
    digest::Digest,
    server::data_dir::DataDir,
    store::{
        SledEngine,
        salvage::{self, Filler},
    },
};

/// The only version there is.
const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    dual16_archive: u32,
    records: u64,
    records_digest: Digest,
    blobs: u64,
}

#[derive(Serialize, Deserialize)]
struct Line {
    key: String,
    value: String,
}

/// Writes an archive of `data` into the directory `archive`, which must be empty or not exist.
///
/// # Errors
/// The data directory is in use or damaged, or the archive cannot be written.
pub fn export(data: &Path, archive: &Path, report: &mut dyn Write) -> Result<(), OfflineError> {
    require_empty(archive)?;
    let mut opened = Opened::new(data)?;
    let blobs = opened.blobs.clone();
    let engine = opened.whole_engine()?;
    fs::create_dir_all(archive).map_err(at(archive))?;
    let target = LocalBlobs::open(&archive.join("blobs")).map_err(at(archive))?;
    let path = archive.join("records.jsonl");
    let mut file = BufWriter::new(File::create_new(&path).map_err(at(&path))?);
    let (mut records, mut damaged, mut failed) = (0, false, None);
    salvage::records(
        engine,
        |_| damaged = true,
        |(key, value)| {
            let (key, value) = (hex::encode(key), hex::encode(value));
            let written = serde_json::to_writer(&mut file, &Line { key, value });
            let written = written
                .map_err(io::Error::from)
                .and_then(|()| file.write_all(b"\n"));
            failed = failed.take().or(written.err());
            records += 1;
            Ok(())
        },
    )?;
    if damaged {
        return Err(OfflineError::Damaged);
    }
    if let Some(source) = failed {
        return Err(OfflineError::File { path, source });
    }
    let file = file.into_inner().map_err(io::IntoInnerError::into_error);
    file.and_then(|file| file.sync_all()).map_err(at(&path))?;

    let mut kept = BTreeSet::new();
    for job in salvage::jobs(engine)? {
        if !salvage::findings(engine, job)?.is_empty() {
            return Err(OfflineError::Damaged);
        }
        kept.extend(salvage::blobs(engine, job)?);
    }
    copy_blobs(&blobs, &target, &kept)?.map_or(Ok(()), |_| Err(OfflineError::Damaged))?;
    let (records_digest, _) = Digest::of_file(&path).map_err(at(&path))?;
    let manifest = Manifest {
        dual16_archive: VERSION,
        records,
        records_digest,
        blobs: kept.len() as u64,
    };
    let path = archive.join("manifest.json");
    let file = File::create_new(&path).map_err(at(&path))?;
    serde_json::to_writer_pretty(&file, &manifest).map_err(|error| at(&path)(error.into()))?;
    file.sync_all().map_err(at(&path))?;
    let (blobs, archive) = (kept.len(), archive.display());
    say(
        report,
        format!("{records} records and {blobs} blobs are in {archive}"),
    )
}

/// Makes a data directory of an archive; `data` must be empty or not exist.
///
/// # Errors
/// The archive is not whole, or the directory cannot be written. What was written is no store then.
pub fn import(archive: &Path, data: &Path, report: &mut dyn Write) -> Result<(), OfflineError> {
    let broken = |what: String| OfflineError::Archive {
        path: archive.to_owned(),
        what,
    };
    let path = archive.join("manifest.json");
    let manifest = fs::read(&path).map_err(at(&path))?;
    let manifest: Manifest = serde_json::from_slice(&manifest)
        .map_err(|error| broken(format!("manifest.json: {error}")))?;
    if manifest.dual16_archive != VERSION {
        let found = manifest.dual16_archive;
        return Err(broken(format!(
            "it has version {found}, this program reads {VERSION}"
        )));
    }
    let records = archive.join("records.jsonl");
    let (digest, _) = Digest::of_file(&records).map_err(at(&records))?;
    if digest != manifest.records_digest {
        return Err(broken(
            "records.jsonl is not what manifest.json says it is".into(),
        ));
    }
    require_empty(data)?;
    let lock = DataDir::lock(data.to_owned())?;
    let fresh = data.join("store.new");
    let engine = SledEngine::open(&fresh)?;
    let mut filler = Filler::new(&engine)?;
    let lines = BufReader::new(File::open(&records).map_err(at(&records))?).lines();
    for (number, line) in (1_u64..).zip(lines) {
        let line = line.map_err(at(&records))?;
        let line: Line = serde_json::from_str(&line)
            .map_err(|error| broken(format!("records.jsonl line {number}: {error}")))?;
        let decode = |digits| {
            hex::decode(digits)
                .map_err(|error| broken(format!("records.jsonl line {number}: {error}")))
        };
        filler.put((decode(line.key)?, decode(line.value)?))?;
    }
    filler.finish()?;

    let (source, target) = (
        LocalBlobs::open(&archive.join("blobs")).map_err(at(archive))?,
        lock.open_blobs()?,
    );
    let mut kept = BTreeSet::new();
    for job in salvage::jobs(&engine)? {
        kept.extend(salvage::blobs(&engine, job)?);
    }
    if let Some(finding) = copy_blobs(&source, &target, &kept)? {
        return Err(broken(finding));
    }
    let mut known = std::collections::HashMap::new();
    for job in salvage::jobs(&engine)? {
        if let Some(first) = job_findings(&engine, &target, job, &mut known)?.first() {
            return Err(broken(format!("{job}: {first}")));
        }
    }
    install(engine, &fresh, data)?;
    let (records, blobs, data) = (manifest.records, kept.len(), data.display());
    say(
        report,
        format!("{records} records and {blobs} blobs are in {data}"),
    )
}

/// A data directory may have blobs, and no store.
pub(super) fn require_empty_of_store(data: &Path) -> Result<(), OfflineError> {
    match ["store", "store.new"]
        .map(|name| data.join(name))
        .into_iter()
        .find(|path| path.exists())
    {
        Some(store) => Err(OfflineError::NotEmpty(store)),
        None => Ok(()),
    }
}

fn require_empty(path: &Path) -> Result<(), OfflineError> {
    match fs::read_dir(path) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(OfflineError::NotEmpty(path.to_owned())),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(OfflineError::File {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Copies blobs, each read back and compared with its name; returns what is wrong with the first
/// that is not sound.
fn copy_blobs(
    from: &LocalBlobs,
    to: &LocalBlobs,
    blobs: &BTreeSet<(Digest, u64)>,
) -> Result<Option<String>, OfflineError> {
    let mut shards = BTreeSet::new();
    for (digest, size) in blobs {
        let (source, target): (PathBuf, PathBuf) = (from.path_of(*digest), to.path_of(*digest));
        if let Some(shard) = target.parent() {
            fs::create_dir_all(shard).map_err(at(shard))?;
        }
        match fs::copy(&source, &target) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Some(format!("blob {digest} is missing")));
            }
            Err(error) => return Err(at(&source)(error)),
        }
        if let Some(finding) = blob_finding(to, *digest, *size)? {
            return Ok(Some(finding));
        }
        let synced = File::open(&target).and_then(|file| file.sync_all());
        synced.map_err(at(&target))?;
        shards.extend(target.parent().map(Path::to_owned));
    }
    // The names too must be there before whatever says that the copy is whole.
    for shard in &shards {
        for folder in [Some(shard.as_path()), shard.parent()]
            .into_iter()
            .flatten()
        {
            let synced = File::open(folder).and_then(|folder| folder.sync_all());
            synced.map_err(at(folder))?;
        }
    }
    Ok(None)
}

//! `report.html` in folders: of the artifacts in one, into another.

use std::{fs, io, path::Path};

pub use dual16_report::{NEEDED, PAGE};
use dual16_report::{SUBJECTS, below as outputs_below, page};

use crate::{api::Fetched, error::Error};

/// Whether a folder holds what a page is about.
pub fn can_be_made(folder: &Path) -> bool {
    SUBJECTS.iter().any(|name| folder.join(name).exists())
}

/// Makes the page of the artifacts in `from` and writes it into `out`, which exists.
///
/// # Errors
/// [`Error::Artifact`] for an artifact that is missing or that cannot be read, [`Error::Write`].
pub fn write(from: &Path, out: &Path) -> Result<Fetched, Error> {
    let page = page(|name| read(from, name)).map_err(|error| told(from, error))?;
    let path = out.join(PAGE);
    let failed = |source| Error::Write {
        path: path.clone(),
        source,
    };
    // Whoever has the page open never sees half of it.
    let part = out.join(".report.html.part");
    fs::write(&part, &page)
        .and_then(|()| fs::rename(&part, &path))
        .map_err(failed)?;
    Ok(Fetched {
        size: page.len() as u64,
        path,
    })
}

/// Checks every measured output of the results in a folder, in both runs.
///
/// # Errors
/// [`Error::Below`] names those below `threshold` dB; [`Error::Artifact`] where there are no results.
pub fn below(folder: &Path, threshold: f64) -> Result<(), Error> {
    let [result, _] = SUBJECTS;
    let wrong = |reason: String| wrong(folder, result, reason);
    let bytes = read(folder, result).map_err(|error| wrong(error.to_string()))?;
    let bytes = bytes.ok_or_else(|| {
        let reason =
            "an analysis has none: --fail-under needs the outputs of a job of `dual16 quantize`";
        wrong(reason.to_owned())
    })?;
    let outputs = outputs_below(&bytes, threshold).map_err(|error| told(folder, error))?;
    match outputs.is_empty() {
        true => Ok(()),
        false => Err(Error::Below { threshold, outputs }),
    }
}

/// The bytes of a file, where there is one.
fn read(folder: &Path, name: &str) -> io::Result<Option<Vec<u8>>> {
    match fs::read(folder.join(name)) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn told(folder: &Path, error: dual16_report::Error) -> Error {
    let [result, sensitivity] = SUBJECTS;
    match error {
        dual16_report::Error::Artifact { artifact, reason } => wrong(folder, artifact, reason),
        dual16_report::Error::Nothing => wrong(
            folder,
            result,
            format!(
                "it is not there, and neither is {sensitivity}: name the --out of a job that has succeeded"
            ),
        ),
    }
}

/// An artifact that is not what it should be.
fn wrong(folder: &Path, name: &str, reason: String) -> Error {
    Error::Artifact {
        name: folder.join(name).display().to_string(),
        reason,
    }
}

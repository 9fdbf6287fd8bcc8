//! `report.html`: what a job left in its folder, as one page that opens anywhere. It holds its data, its
//! script and its style, asks nothing of any network, and is a function of the artifacts alone: equal
//! artifacts make an equal page. It knows no server, no job's name and no terminal.
//!
//! The summary is written here, so that it can be read without a script; tables and pictures are made by
//! the scripts in `assets`, from the data in the page. Whatever a model calls its parts is data in both.

mod figures;
mod html;
mod lines;
mod results;
mod sources;
mod summary;

use std::{fs, path::Path};

pub use figures::below;

use sources::Sources;

use crate::{api::Fetched, error::Error};

/// The page's name in a folder.
pub const PAGE: &str = "report.html";
/// Artifacts that it is made of.
pub const NEEDED: [&str; 5] = [
    sources::RESULT,
    sources::SENSITIVITY,
    sources::PLAN,
    sources::GRAPH,
    sources::OPERATORS,
];

/// Whether a folder holds what a page is about.
pub fn can_be_made(folder: &Path) -> bool {
    [sources::RESULT, sources::SENSITIVITY]
        .iter()
        .any(|name| folder.join(name).exists())
}

/// Makes the page of the artifacts in `from` and writes it into `out`, which exists.
///
/// # Errors
/// [`Error::Artifact`] for an artifact that is missing or that cannot be read, [`Error::Write`].
pub fn write(from: &Path, out: &Path) -> Result<Fetched, Error> {
    let page = html::page(&Sources::read(from)?)?;
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

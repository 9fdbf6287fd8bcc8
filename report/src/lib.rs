//! `report.html`: what a job left, as one page that opens anywhere. It holds its data, its script and its style,
//! asks nothing of any network, and is a function of the artifacts alone: equal artifacts make an equal page. It
//! knows no folder, no server, no job's name and no terminal.
//!
//! The summary is written here, so that it can be read without a script; tables and pictures are made by
//! the scripts in `assets`, from the data in the page. Whatever a model calls its parts is data in both.
//!
//! # Layout
//! - [`sources`]: the artifacts; [`lines`] reads tables of text;
//! - [`results`], [`summary`]: what the page says in words;
//! - [`html`]: the page put together, with `assets` and `vendor`;
//! - [`figures`]: the outputs against a threshold, for programs.

mod figures;
mod html;
mod lines;
mod results;
mod sources;
mod summary;

use std::io;

pub use figures::below;

use sources::Sources;

/// The page's name beside the artifacts.
pub const PAGE: &str = "report.html";
/// Artifacts that it is made of; a job has some of them.
pub const NEEDED: [&str; 5] = [
    sources::RESULT,
    sources::SENSITIVITY,
    sources::PLAN,
    sources::GRAPH,
    sources::OPERATORS,
];
/// Artifacts of which one must be there.
pub const SUBJECTS: [&str; 2] = [sources::RESULT, sources::SENSITIVITY];

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No artifact is there that a page is about.
    #[error("there is neither {} nor {}", SUBJECTS[0], SUBJECTS[1])]
    Nothing,
    /// An artifact is not what it should be.
    #[error("{artifact}: {reason}")]
    Artifact {
        /// Its name.
        artifact: &'static str,
        /// What is wrong.
        reason: String,
    },
}

/// Makes the page of the artifacts that `read` gives by name: those of [`NEEDED`] that there are.
///
/// # Errors
/// [`Error::Nothing`] where none of [`SUBJECTS`] is there; [`Error::Artifact`] for one that cannot be read.
pub fn page(
    read: impl FnMut(&'static str) -> io::Result<Option<Vec<u8>>>,
) -> Result<Vec<u8>, Error> {
    html::page(&Sources::read(read)?)
}

/// An artifact that is not what it should be.
fn wrong(artifact: &'static str, reason: impl Into<String>) -> Error {
    Error::Artifact {
        artifact,
        reason: reason.into(),
    }
}

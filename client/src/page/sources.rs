//! The artifacts that a page is made of, read from a folder. Some jobs have no errors, some no plan: what is
//! not there is left out, and the page has no such section.

use std::{fs, io, path::Path};

use serde_json::Value;

use super::lines;
use crate::error::Error;

/// What was measured.
pub(super) const RESULT: &str = "result.json";
/// What an analysis found.
pub(super) const SENSITIVITY: &str = "sensitivity.json";
/// What runs.
pub(super) const PLAN: &str = "plan.json";
/// Which operator reads which.
pub(super) const GRAPH: &str = "graph.json";
/// The figures of every operator.
pub(super) const OPERATORS: &str = "per_layer.csv";

/// What a folder holds.
pub(super) struct Sources {
    pub(super) result: Option<Value>,
    pub(super) sensitivity: Option<Value>,
    pub(super) plan: Option<Value>,
    pub(super) graph: Option<Value>,
    /// Columns and rows.
    pub(super) operators: Option<Value>,
}

impl Sources {
    /// # Errors
    /// [`Error::Artifact`] where neither kind of results is there, or a file is not what it should be.
    pub(super) fn read(folder: &Path) -> Result<Self, Error> {
        let sources = Sources {
            result: json(folder, RESULT)?,
            sensitivity: json(folder, SENSITIVITY)?,
            plan: json(folder, PLAN)?,
            graph: json(folder, GRAPH)?,
            operators: match text(folder, OPERATORS)? {
                None => None,
                Some(text) => {
                    Some(lines::table(&text).map_err(|reason| wrong(folder, OPERATORS, reason))?)
                }
            },
        };
        match (&sources.result, &sources.sensitivity) {
            (None, None) => Err(wrong(
                folder,
                RESULT,
                format!(
                    "it is not there, and neither is {SENSITIVITY}: name the --out of a job that has \
                     succeeded"
                ),
            )),
            _ => Ok(sources),
        }
    }
}

/// An artifact that is not what it should be.
pub(super) fn wrong(folder: &Path, name: &str, reason: impl Into<String>) -> Error {
    Error::Artifact {
        name: folder.join(name).display().to_string(),
        reason: reason.into(),
    }
}

/// The text of a file, where there is one.
fn text(folder: &Path, name: &str) -> Result<Option<String>, Error> {
    match fs::read_to_string(folder.join(name)) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(wrong(folder, name, error.to_string())),
    }
}

fn json(folder: &Path, name: &str) -> Result<Option<Value>, Error> {
    let Some(text) = text(folder, name)? else {
        return Ok(None);
    };
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|error| wrong(folder, name, format!("it is no JSON: {error}")))
}

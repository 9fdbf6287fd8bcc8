//! The artifacts that a page is made of. Some jobs have no errors, some no plan: what is not there is left out,
//! and the page has no such section.

use std::io;

use serde_json::Value;

use super::{Error, lines, wrong};

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

/// What there is of them.
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
    /// As [`super::page`].
    pub(super) fn read(
        read: impl FnMut(&'static str) -> io::Result<Option<Vec<u8>>>,
    ) -> Result<Self, Error> {
        let mut reader = Reader(read);
        let sources = Sources {
            result: reader.json(RESULT)?,
            sensitivity: reader.json(SENSITIVITY)?,
            plan: reader.json(PLAN)?,
            graph: reader.json(GRAPH)?,
            operators: reader.table(OPERATORS)?,
        };
        match (&sources.result, &sources.sensitivity) {
            (None, None) => Err(Error::Nothing),
            _ => Ok(sources),
        }
    }
}

/// Gives the bytes of an artifact, where there is one of that name.
struct Reader<F>(F);

impl<F: FnMut(&'static str) -> io::Result<Option<Vec<u8>>>> Reader<F> {
    fn json(&mut self, name: &'static str) -> Result<Option<Value>, Error> {
        let Some(bytes) = self.bytes(name)? else {
            return Ok(None);
        };
        json(name, &bytes).map(Some)
    }

    fn table(&mut self, name: &'static str) -> Result<Option<Value>, Error> {
        let Some(bytes) = self.bytes(name)? else {
            return Ok(None);
        };
        let text = String::from_utf8(bytes).map_err(|error| wrong(name, error.to_string()))?;
        let table = lines::table(&text).map_err(|reason| wrong(name, reason))?;
        Ok(Some(table))
    }

    fn bytes(&mut self, name: &'static str) -> Result<Option<Vec<u8>>, Error> {
        (self.0)(name).map_err(|error| wrong(name, error.to_string()))
    }
}

/// What an artifact of JSON says.
pub(super) fn json(name: &'static str, bytes: &[u8]) -> Result<Value, Error> {
    serde_json::from_slice(bytes).map_err(|error| wrong(name, format!("it is no JSON: {error}")))
}

//! What a plan was changed by beyond what was asked for, and what that follows from.

use dual16_nash::ways::Way;
use serde::{Deserialize, Serialize};

use crate::fit::Fit;

/// One change to a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum Change {
    /// A Linear, by node index, runs another way.
    Way {
        /// Node index.
        linear: usize,
        /// What runs.
        #[serde(with = "crate::plan::way_text")]
        way: Way,
        /// The accepted fit of it that it runs with; `None` for the plain way.
        fit: Option<Fit>,
    },
    /// A remedy stands, by its number among the [`Places`].
    Remedy(usize),
    /// A value is int16 instead of int8.
    Int16(usize),
    /// A table, by node index, is divided by the inputs that were seen.
    Division(usize),
}

/// A model with changes: what a graph follows from, besides the job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mended {
    /// Blob of the calibration of the model as it is, which the remedies' constants are of.
    pub(crate) plain: String,
    /// In the order in which they were made.
    pub(crate) changes: Vec<Change>,
}

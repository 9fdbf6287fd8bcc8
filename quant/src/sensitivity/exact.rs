//! Errors at the outputs, measured: one run of what lies downstream for each row.

use std::collections::BTreeSet;

use rayon::prelude::*;

use super::{analysis::Analysis, row::Row, spread::Spread, values::FloatValues};
use crate::{Result, metrics::OutputError};

/// The error of every output of the analysis, in its order, with one fake quant on.
///
/// On one thread; a pure function of its arguments.
///
/// # Errors
/// Whatever an operation of the chip or an island says, naming the node.
pub fn exact(analysis: &Analysis<'_>, values: &FloatValues, row: Row) -> Result<Vec<OutputError>> {
    Spread::run(analysis, values, &BTreeSet::from([row]))
}

/// [`exact()`] of many rows, in their order, spread over the threads of the current pool. The result
/// of a row does not depend on the others, nor on the number of threads; one that cannot be computed
/// does not stop them.
///
/// `go_on` is asked before each row: its error ends the call.
///
/// # Errors
/// Those of `go_on`.
pub fn exact_all(
    analysis: &Analysis<'_>,
    values: &FloatValues,
    rows: &[Row],
    go_on: impl Fn() -> Result<()> + Sync,
) -> Result<Vec<Result<Vec<OutputError>>>> {
    let rows = rows.par_iter().with_max_len(1);
    rows.map(|&row| go_on().map(|()| exact(analysis, values, row)))
        .collect()
}

/// The curve of fake quants that are on together: for each of `counts`, the error of every output
/// with the first so many of `rows` on (all of them where there are fewer). One run each, from the
/// earliest value that changes.
///
/// `go_on` is asked before each run: its error ends the call.
///
/// # Errors
/// Those of [`exact()`] and of `go_on`.
pub fn cumulative(
    analysis: &Analysis<'_>,
    values: &FloatValues,
    rows: &[Row],
    counts: &[usize],
    go_on: impl Fn() -> Result<()> + Sync,
) -> Result<Vec<Vec<OutputError>>> {
    let counts = counts.par_iter().with_max_len(1);
    counts
        .map(|&count| {
            go_on()?;
            let on: BTreeSet<Row> = rows.iter().take(count).copied().collect();
            Spread::run(analysis, values, &on)
        })
        .collect()
}

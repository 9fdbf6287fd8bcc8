//! How many batches a file holds, and what makes a batch fit to be used.

use ndarray::Dimension as _;

use super::Entry;
use crate::{
    error::{Error, Result},
    model::InputShape,
    tensor::Datum,
};

/// Number of batches stacked along a leading axis; None where the file is one plain batch.
pub(super) fn depth(file: &str, entries: &[Entry]) -> Result<Option<usize>> {
    let bad = |reason: String| {
        Err(Error::Batch {
            file: file.to_owned(),
            reason,
        })
    };
    let mut agreed: Option<(&Entry, Option<usize>)> = None;
    for entry in entries {
        let found = match stacked(entry) {
            Ok(found) => found,
            Err(reason) => return bad(reason),
        };
        match agreed {
            None => agreed = Some((entry, found)),
            Some((first, depth)) if depth != found => {
                return bad(format!(
                    "tensor '{}' holds {}, but '{}' holds {}; all inputs must hold the same number",
                    entry.key,
                    described(found),
                    first.key,
                    described(depth)
                ));
            }
            Some(_) => {}
        }
    }
    Ok(agreed.and_then(|(_, depth)| depth))
}

fn stacked(entry: &Entry) -> Result<Option<usize>, String> {
    let wanted = &entry.spec.shape;
    if wanted.fits(&entry.shape) {
        return Ok(None);
    }
    match (wanted, entry.shape.split_first()) {
        (InputShape::Ranked(_), Some((0, rest))) if wanted.fits(rest) => Err(format!(
            "tensor '{}' has shape {:?}, a stack of no batch; input '{}' needs {wanted}",
            entry.key, entry.shape, entry.spec.name
        )),
        (InputShape::Ranked(_), Some((&count, rest))) if wanted.fits(rest) => Ok(Some(count)),
        (InputShape::Ranked(_), _) => Err(format!(
            "tensor '{}' has shape {:?}; input '{}' needs {wanted}, or with one more leading axis a \
             stack of batches",
            entry.key, entry.shape, entry.spec.name
        )),
        (InputShape::Trailing(_), _) => Err(format!(
            "tensor '{}' has shape {:?}; input '{}' needs {wanted}",
            entry.key, entry.shape, entry.spec.name
        )),
    }
}

fn described(depth: Option<usize>) -> String {
    match depth {
        None => "a single batch".to_owned(),
        Some(count) => format!("a stack of {count}"),
    }
}

/// Refuses NaN and infinity, but what is `allowed`; `part` is the index along the stack axis, where
/// there is one.
pub(crate) fn check_finite(
    file: &str,
    key: &str,
    datum: &Datum,
    part: Option<usize>,
    allowed: impl Fn(f32) -> bool,
) -> Result<()> {
    let Datum::F32(tensor) = datum else {
        return Ok(());
    };
    // The quick pass needs no index; nearly every batch ends here.
    if tensor.iter().all(|x| x.is_finite()) {
        return Ok(());
    }
    let mut elements = tensor.indexed_iter();
    match elements.find(|&(_, &x)| !x.is_finite() && !allowed(x)) {
        None => Ok(()),
        Some((index, &value)) => Err(Error::NonFinite {
            file: file.to_owned(),
            tensor: key.to_owned(),
            value,
            index: part
                .into_iter()
                .chain(index.as_array_view().to_vec())
                .collect(),
        }),
    }
}

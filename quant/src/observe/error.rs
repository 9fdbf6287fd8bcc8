//! What can go wrong when values are observed. The caller knows the tensor's name and adds it.

use thiserror::Error;

/// A value that is NaN or infinite: of no use to a range or a figure.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
#[error("{value} at flat index {index} is not finite")]
pub struct NonFiniteAt {
    /// Row-major index of the first such value.
    pub index: usize,
    /// The value.
    pub value: f32,
}

impl NonFiniteAt {
    /// `Ok` when every value is finite.
    ///
    /// # Errors
    /// The first value that is not.
    pub fn check(values: &[f32]) -> Result<(), Self> {
        // A search with an early exit does not vectorize, so it runs only where there is a find.
        if values
            .iter()
            .fold(true, |all, value| all & value.is_finite())
        {
            return Ok(());
        }
        let mut indexed = values.iter().copied().enumerate();
        match indexed.find(|(_, value)| !value.is_finite()) {
            Some((index, value)) => Err(Self { index, value }),
            None => Ok(()),
        }
    }
}

/// Why statistics do not give the range that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ObserveError {
    /// No batch held a single element.
    #[error("no element was observed; at least one batch must hold one")]
    Empty,
    /// The sketches were taken for other observers.
    #[error(
        "the statistics hold no {part}, which observer '{observer}' needs; observe again with it"
    )]
    Missing {
        /// "histogram", "mse choice for int8" …
        part: &'static str,
        /// As the user types it.
        observer: &'static str,
    },
    /// The histograms of the batches were summed when the batches were folded.
    #[error(
        "the statistics were folded with merge 'exact' and hold no histogram per batch, which \
         observer '{observer}' needs under merge 'ema'; fold again with merge 'ema'"
    )]
    NotPerBatch {
        /// As the user types it.
        observer: &'static str,
    },
}

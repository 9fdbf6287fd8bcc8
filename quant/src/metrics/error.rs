//! What makes two tensors incomparable.

use std::fmt;

use thiserror::Error;

/// Which of two compared tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The float one.
    Reference,
    /// The quantized one.
    Got,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Reference => "reference",
            Self::Got => "quantized tensor",
        })
    }
}

/// Two tensors that cannot be compared. No metric is ever NaN or infinite.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
pub enum MetricsError {
    /// They differ in size.
    #[error(
        "the reference has {reference} elements and the quantized tensor {got}; they must be equal"
    )]
    Length {
        /// Elements of the reference.
        reference: usize,
        /// Elements of the other.
        got: usize,
    },
    /// A whole number of rows of `channels` elements was expected.
    #[error("{len} elements are no whole number of rows of {channels} channels")]
    Channels {
        /// Elements given.
        len: usize,
        /// Length of the last axis.
        channels: usize,
    },
    /// NaN or infinity on one side.
    #[error("{side} has {value} at flat index {index}; only finite values can be compared")]
    NonFinite {
        /// Which tensor.
        side: Side,
        /// Row-major index of the first such value in the slice given.
        index: usize,
        /// The value.
        value: f32,
    },
}

/// `Ok` for equal lengths.
pub(super) fn check_len(reference: &[f32], got: &[f32]) -> Result<(), MetricsError> {
    match (reference.len(), got.len()) {
        (a, b) if a == b => Ok(()),
        (reference, got) => Err(MetricsError::Length { reference, got }),
    }
}

/// `Ok` for equal lengths and finite values.
pub(super) fn check(reference: &[f32], got: &[f32]) -> Result<(), MetricsError> {
    check_len(reference, got)?;
    for (side, values) in [(Side::Reference, reference), (Side::Got, got)] {
        crate::observe::NonFiniteAt::check(values).map_err(|at| MetricsError::NonFinite {
            side,
            index: at.index,
            value: at.value,
        })?;
    }
    Ok(())
}

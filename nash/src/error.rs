//! Every error of the crate. An error names the field or index that was wrong and what would be
//! right; it does not know tensor or file names, which the caller adds.

use thiserror::Error;

use crate::dtype::IntDtype;

/// Any error of this crate, for callers that do not tell them apart.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum Error {
    /// See [`ScaleError`].
    #[error(transparent)]
    Scale(#[from] ScaleError),
    /// See [`QuantizeError`].
    #[error(transparent)]
    Quantize(#[from] QuantizeError),
    /// See [`RescaleError`].
    #[error(transparent)]
    Rescale(#[from] RescaleError),
    /// See [`ShapeError`].
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// See [`LutError`].
    #[error(transparent)]
    Lut(#[from] LutError),
    /// See [`ParseError`].
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// See [`ChipError`].
    #[error(transparent)]
    Chip(#[from] ChipError),
}

/// Why a chip's parameters cannot be used.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum ChipError {
    /// The text is no TOML.
    #[error("the chip's parameters are no TOML: {reason}")]
    Syntax {
        /// What the parser says.
        reason: String,
    },
    /// There is no such chip or parameter.
    #[error("unknown chip parameter \"{key}\", expected one of {expected}")]
    Unknown {
        /// As given.
        key: String,
        /// What would be right.
        expected: String,
    },
    /// It is no number, or one out of range.
    #[error("chip parameter {key} is {got}, expected {expected}")]
    Value {
        /// As given, with its chip.
        key: String,
        /// What it is.
        got: String,
        /// What would be right.
        expected: &'static str,
    },
    /// A chip lacks a parameter.
    #[error("chip parameter {key} is not given")]
    Missing {
        /// With its chip.
        key: String,
    },
}

/// A number that cannot be a scale, or a range that gives none.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum ScaleError {
    /// A scale is a finite number greater than 0.
    #[error("scale {value} is not a finite number greater than 0")]
    NotPositive {
        /// The rejected value.
        value: f32,
    },
    /// An observed range must be finite and ordered.
    #[error("range [{min}, {max}] is not a finite, ordered range")]
    InvalidRange {
        /// Lower end as given.
        min: f32,
        /// Upper end as given.
        max: f32,
    },
}

/// Why values could not be quantized.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum QuantizeError {
    /// A parameter is finite.
    #[error("value {value} at index {index} is not finite")]
    NonFinite {
        /// Flat index of the first such value.
        index: usize,
        /// The value.
        value: f32,
    },
    /// A buffer does not fit the shape.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// A channel's range gives no scale.
    #[error(transparent)]
    Scale(#[from] ScaleError),
}

/// A ratio of scales that the fixed-point multiplier cannot express.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum RescaleError {
    /// The right shift would be smaller than 1.
    #[error(
        "scale out of range: ratio {ratio} needs a right shift of {shift}, at least 1 is possible"
    )]
    OutOfRange {
        /// Real ratio of input scale to output scale.
        ratio: f64,
        /// The shift it would need.
        shift: i32,
    },
    /// A ratio of scales is finite and greater than 0.
    #[error("ratio of scales {ratio} is not a finite number greater than 0")]
    NotPositive {
        /// The rejected ratio.
        ratio: f64,
    },
}

/// Buffers, shapes, axes and indices that do not fit together.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ShapeError {
    /// A buffer has the wrong number of elements.
    #[error("{what} has {got} elements, {expected} expected")]
    Length {
        /// Which buffer.
        what: &'static str,
        /// Elements that the shape asks for.
        expected: usize,
        /// Elements that there are.
        got: usize,
    },
    /// The number of elements of a shape does not fit the machine.
    #[error("shape {shape:?} has too many elements")]
    TooLarge {
        /// The shape.
        shape: Vec<usize>,
    },
    /// Two shapes cannot be broadcast to each other.
    #[error("shapes {a:?} and {b:?} cannot be broadcast together")]
    Broadcast {
        /// First shape.
        a: Vec<usize>,
        /// Second shape.
        b: Vec<usize>,
    },
    /// An axis is outside of [-rank, rank).
    #[error("axis {axis} is outside of [-{rank}, {rank})")]
    Axis {
        /// The axis as given.
        axis: i64,
        /// Rank of the tensor.
        rank: usize,
    },
    /// An axis is named twice.
    #[error("axis {axis} is named twice")]
    RepeatedAxis {
        /// The axis, counted from the front.
        axis: usize,
    },
    /// A list must have one entry for each axis it is about.
    #[error("{what} has {got} entries, {expected} expected")]
    Entries {
        /// Which list.
        what: &'static str,
        /// Entries expected.
        expected: usize,
        /// Entries given.
        got: usize,
    },
    /// A gather index is outside of its axis.
    #[error("index {index} is outside of [-{size}, {size})")]
    Index {
        /// The index as given.
        index: i64,
        /// Size of the axis.
        size: usize,
    },
    /// A slice step of 0.
    #[error("slice step on axis {axis} is 0")]
    ZeroStep {
        /// The axis, counted from the front.
        axis: usize,
    },
    /// Shapes to concatenate differ outside the axis.
    #[error("shape {got:?} cannot be concatenated to {expected:?} along axis {axis}")]
    Concat {
        /// Shape of the first part.
        expected: Vec<usize>,
        /// Shape of the part that does not fit.
        got: Vec<usize>,
        /// The axis, counted from the front.
        axis: usize,
    },
    /// Nothing to concatenate, or no axis to normalize.
    #[error("{what} is empty")]
    Empty {
        /// Which input.
        what: &'static str,
    },
}

/// Why a look-up table could not be built or applied.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum LutError {
    /// Ends of segments that are none.
    #[error("ends of segments {bounds:?} do not increase within the input's format")]
    Bounds {
        /// What was given.
        bounds: [i32; 7],
    },
    /// The observed range must be finite and ordered.
    #[error("observed range [{min}, {max}] is not a finite, ordered range")]
    InvalidRange {
        /// Lower end as given.
        min: f32,
        /// Upper end as given.
        max: f32,
    },
    /// The function gives no finite value somewhere on its domain.
    #[error("{function} is not finite at {input}")]
    NotFinite {
        /// The function's name.
        function: &'static str,
        /// Real input.
        input: f64,
    },
    /// A table is applied to another dtype than it was built for.
    #[error("table {port} is {expected}, got {got}")]
    Dtype {
        /// "input" or "output".
        port: &'static str,
        /// Dtype that the table was built for.
        expected: IntDtype,
        /// Dtype of the buffer.
        got: IntDtype,
    },
    /// Input and output buffers differ in length.
    #[error(transparent)]
    Shape(#[from] ShapeError),
}

/// A word that names none of the things it could name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("unknown {what} \"{got}\", expected one of {expected}")]
pub struct ParseError {
    /// What was to be named: "dtype", "way" …
    pub what: &'static str,
    /// The word.
    pub got: String,
    /// Words that are known, separated by ", ".
    pub expected: &'static str,
}

/// `Err` with the buffer's name unless it has the expected number of elements.
pub(crate) fn check_len(what: &'static str, got: usize, expected: usize) -> Result<(), ShapeError> {
    if got == expected {
        Ok(())
    } else {
        Err(ShapeError::Length {
            what,
            expected,
            got,
        })
    }
}

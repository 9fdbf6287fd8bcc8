//! Ranges and statistics of every value, from batches to one scale-ready range.
//!
//! A batch of a value is reduced to a [`Sketch`] of fixed size, on whatever machine the batch is.
//! Sketches of all batches, in batch order, fold into [`Statistics`], which outlives the job and
//! from which a range can be derived again with another observer, percentile, dtype or merge, as far
//! as the sketches hold what that needs ([`Wants`]).
//!
//! Everything is deterministic. Under [`MergeMode::Exact`] a range does not depend on the order of the
//! batches either; [`MergeMode::Ema`] depends on it by definition and is folded in batch order.
//!
//! This module knows numbers and shapes. It knows no tensor names (the caller adds them to an
//! error), no graph, and no scale: a fixed scale is a setting, given outright, and needs no data.

mod error;
mod histogram;
mod kind;
mod kl;
mod masked;
mod minmax;
mod moments;
mod mse;
mod percentile;
mod range;
mod sketch;
mod statistics;

use kind::Observer;

pub use error::{NonFiniteAt, ObserveError};
pub use histogram::{BINS, Histogram};
pub use kind::{MergeMode, ObserverKind, Percentile};
pub use kl::{KL_LEVELS, kl_threshold};
pub use masked::Masked;
pub use moments::Moments;
pub use mse::{MSE_CANDIDATES, MseChoice, MseSearch, choose_mse, choose_mse_exhaustive, mse_loss};
pub use percentile::percentile_threshold;
pub use range::{EMA_CONSTANT, Range};
pub use sketch::{Sketch, SketchBuilder, Wants};
pub use statistics::{RangeChoice, Statistics};

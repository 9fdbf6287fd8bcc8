//! How far a tensor is from its reference, by the definitions of the numerics document:
//! d = got - reference, flattened, in f64.
//!
//! [`ErrorSums`] is the cheap path that every layer and output goes through: one pass, mergeable,
//! fixed size. [`rtol`], [`kl_divergence`] and [`ChannelErrorSums`] cost more and stand apart.
//! Everything is deterministic: sums are blocked in a fixed order, logarithms come from `libm`.
//!
//! This module knows plain slices. It knows no layer names, dtypes or plans; a caller adds the name
//! to an error.

mod channel;
mod error;
mod extra;
mod order;
mod sums;

use serde::{Deserialize, Serialize};

pub use channel::{ChannelErrorSums, WorstChannel};
pub use error::{MetricsError, Side};
pub use extra::{KL_BINS, RTOL_EPSILON, kl_divergence, rtol};
pub use order::{Metric, SortOrder};
pub use sums::ErrorSums;

/// Errors of one tensor against its float reference, as in `result.json`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// 10 log10(sum ref^2 / sum d^2), in dB; `None` where there is no error at all. A reference of
    /// zeros counts as the smallest normal f64, which gives a finite and very low figure.
    pub sqnr_db: Option<f64>,
    /// Cosine of the angle between the two, in [-1, 1]; 1 for two tensors of zeros, 0 for one.
    pub cosine: f64,
    /// mean |d|.
    pub l1: f64,
    /// mean d^2.
    pub mse: f64,
    /// max |d|.
    pub atol: f64,
    /// `atol` in steps of the output scale; `None` for an output that is not requantized.
    pub lsb: Option<f64>,
}

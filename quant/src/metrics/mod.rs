//! How far a tensor is from its reference, by the definitions of the numerics document:
//! d = got - reference, flattened, in f64.
//!
//! [`ErrorSums`] is the cheap path that every layer and output goes through: one pass, mergeable,
//! fixed size. [`rtol`], [`kl_divergence`] and [`ChannelErrorSums`] cost more and stand apart.
//! Everything is deterministic: sums are blocked in a fixed order, logarithms come from `libm`.
//!
//! Plain slices, but for [`OutputError`], which compares tensors. No layer names, dtypes or plans; a caller
//! adds the name to an error.

mod channel;
mod error;
mod extra;
mod order;
mod output_error;
mod sums;

use serde::{Deserialize, Serialize};

pub use channel::{ChannelErrorSums, WorstChannel};
pub use error::{MetricsError, Side};
pub use extra::{KL_BINS, RTOL_EPSILON, kl_divergence, rtol};
pub use order::{Metric, SortOrder};
pub use output_error::OutputError;
pub use sums::ErrorSums;

/// Errors of one tensor against its float reference, as in `result.json`. A figure that has no
/// finite value is `None`, and `reason` says why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// 10 log10(sum ref^2 / sum d^2), in dB; `None` where there is no error at all, and where there
    /// is one and the reference is 0 everywhere.
    pub sqnr_db: Option<f64>,
    /// Cosine of the angle between the two, in [-1, 1]; 1 for two tensors of zeros, 0 for one.
    pub cosine: Option<f64>,
    /// mean |d|.
    pub l1: Option<f64>,
    /// mean d^2.
    pub mse: Option<f64>,
    /// max |d|.
    pub atol: Option<f64>,
    /// `atol` in steps of the output scale; `None` for an output that is not requantized.
    pub lsb: Option<f64>,
    /// Why figures are `None`; empty where all are there (but for the LSB of a high-precision
    /// output).
    pub reason: String,
    /// Positions that were not compared, because the reference is NaN or infinite there.
    pub left_out: u64,
}

impl Metrics {
    /// No figure at all.
    pub fn none(reason: String) -> Self {
        Metrics {
            sqnr_db: None,
            cosine: None,
            l1: None,
            mse: None,
            atol: None,
            lsb: None,
            reason,
            left_out: 0,
        }
    }

    /// SQNR to choose and to sort by: infinite where there is no error, and below every figure where
    /// none can be given.
    pub fn sqnr_rank(&self) -> f64 {
        match self.sqnr_db {
            Some(db) => db,
            None if self.atol == Some(0.0) => f64::INFINITY,
            None => f64::NEG_INFINITY,
        }
    }
}

//! MSE observer: the shrunken range with the least L2 error of fake quantization `[pub]`.
//!
//! Candidates i = 0..94 multiply the batch's range by 1 - 0.01 i; the one with the least
//! `||fake_quant(x) - x||_2` over the batch wins, ties go to the larger i. Scales follow the default
//! rule and rounding whatever the job's settings are, as in the vendor's observer.
//!
//! [`MseSearch`] measures only the candidates that a bound from one pass over the values cannot
//! exclude, mostly one to three of the 95. Its outcome is that of [`choose_mse_exhaustive`] to the
//! bit, for both add the same numbers in the same order, on one thread; [`mse_loss`] is the
//! definition that both equal up to the order of an f64 sum. What bounds its time: about half goes
//! to the pass that fills the bins, one scattered addition per value, which no vector unit helps;
//! most of the rest to a division per value for each candidate measured.

mod candidate;
mod search;
mod tails;

use dual16_nash::{
    dtype::IntDtype,
    quantize::{Rounding, fake_quantize},
};
use serde::{Deserialize, Serialize};

use super::{MergeMode, ObserveError, Observer, Range, RangeChoice, Statistics, Wants};
use candidate::{BLOCK, Candidate};

pub use search::MseSearch;

#[derive(Debug)]
pub(super) struct Mse;

impl Observer for Mse {
    fn wants(&self, dtype: IntDtype) -> Wants {
        Wants {
            mse_int8: dtype == IntDtype::Int8,
            mse_int16: dtype == IntDtype::Int16,
            ..Wants::default()
        }
    }

    fn range(
        &self,
        seen: &Statistics,
        dtype: IntDtype,
        merge: MergeMode,
    ) -> Result<RangeChoice, ObserveError> {
        seen.least_error("mse", dtype, merge).map(RangeChoice::of)
    }
}

/// Number of candidates.
pub const MSE_CANDIDATES: u8 = 95;

/// Outcome of the search over one batch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MseChoice {
    /// The winner's i, in [0, 95).
    pub index: u8,
    /// The batch's range times 1 - 0.01 i, in f32.
    pub range: Range,
    /// L2 norm of the winner's error; `None` where i = 0 was taken without a search (see
    /// [`super::SketchBuilder`]).
    pub loss: Option<f64>,
}

impl MseChoice {
    /// The whole range, unsearched.
    pub(super) fn unclipped(range: Range) -> Self {
        Self {
            index: 0,
            range,
            loss: None,
        }
    }

    fn measured(candidate: &Candidate, squares: f64) -> Self {
        Self {
            index: candidate.index,
            range: candidate.range,
            loss: Some(squares.sqrt()),
        }
    }
}

/// Searches the candidates over finite values, whose smallest and largest `range` holds; the search
/// of one dtype by [`MseSearch`].
pub fn choose_mse(values: &[f32], range: Range, dtype: IntDtype) -> MseChoice {
    MseSearch::new(values, range).choose(dtype)
}

/// [`choose_mse`] without its shortcuts: every candidate meets every value, through the kernel that
/// validation uses. The reference for tests and benchmarks.
pub fn choose_mse_exhaustive(values: &[f32], range: Range, dtype: IntDtype) -> MseChoice {
    let mut quantized = [0.0; BLOCK];
    let mut squares = vec![0.0; MSE_CANDIDATES.into()];
    let candidates: Vec<_> = (0..MSE_CANDIDATES)
        .filter_map(|index| Candidate::new(index, range, dtype))
        .collect();
    // One pass over memory: each block meets every candidate before the next block is read.
    for block in values.chunks(BLOCK) {
        for (candidate, squares) in candidates.iter().zip(&mut squares) {
            *squares += reference_error(block, candidate, dtype, &mut quantized);
        }
    }
    // `min_by` keeps the first of equals, so the larger i must come first.
    let measured = candidates.iter().zip(squares).rev();
    measured
        .min_by(|(_, a), (_, b)| a.total_cmp(b))
        .map_or(MseChoice::unclipped(range), |(candidate, squares)| {
            MseChoice::measured(candidate, squares)
        })
}

/// Loss of one candidate by the definition: all of `values`, one after the other. `None` for an index
/// that is no candidate, or a value that is not finite.
pub fn mse_loss(values: &[f32], range: Range, dtype: IntDtype, index: u8) -> Option<f64> {
    let candidate = Candidate::new(index, range, dtype)?;
    let mut quantized = vec![0.0; values.len()];
    fake_quantize(
        values,
        candidate.scale,
        dtype,
        Rounding::HalfEven,
        &mut quantized,
    )
    .ok()?;
    let squares = quantized
        .iter()
        .zip(values)
        .map(|(q, x)| f64::from(q - x).powi(2));
    Some(squares.sum::<f64>().sqrt()).filter(|loss| loss.is_finite())
}

/// [`Candidate::squared_error`] of one block by the definition of fake quantization.
fn reference_error(
    block: &[f32],
    candidate: &Candidate,
    dtype: IntDtype,
    quantized: &mut [f32; BLOCK],
) -> f64 {
    let Some(quantized) = quantized.get_mut(..block.len()) else {
        return f64::INFINITY;
    };
    if fake_quantize(block, candidate.scale, dtype, Rounding::HalfEven, quantized).is_err() {
        // Only a length is refused, and it is the block's.
        return f64::INFINITY;
    }
    let mut lanes = [0.0; 8];
    for (q, x) in quantized.chunks(8).zip(block.chunks(8)) {
        for (lane, (q, x)) in lanes.iter_mut().zip(q.iter().zip(x)) {
            let error = f64::from(q - x);
            *lane += error * error;
        }
    }
    lanes.iter().sum()
}

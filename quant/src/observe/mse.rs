//! MSE observer: the shrunken range with the least L2 error of fake quantization `[pub]`.
//!
//! Candidates i = 0..94 multiply the batch's range by 1 - 0.01 i; the one with the least
//! `||fake_quant(x) - x||_2` over the batch wins, ties go to the larger i. Scales follow the default
//! rule and rounding whatever the job's settings are, as in the vendor's observer.
//!
//! [`choose_mse`] is the one entry: however the search is sped up, [`mse_loss`] stays beside it as the
//! reference that it must equal.

use dual16_nash::{
    dtype::IntDtype,
    quantize::{Rounding, fake_quantize},
    scale::{Scale, ScaleRule, scale_from_range},
};
use serde::{Deserialize, Serialize};

use super::Range;

/// Number of candidates.
pub const MSE_CANDIDATES: u8 = 95;

/// Values that all candidates visit while they are in the L1 cache.
const BLOCK: usize = 2048;

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
}

/// Searches the candidates over finite values, whose smallest and largest `range` holds.
///
/// One pass over memory: each block meets every candidate before the next block is read.
pub fn choose_mse(values: &[f32], range: Range, dtype: IntDtype) -> MseChoice {
    let mut candidates: Vec<Candidate> = (0..MSE_CANDIDATES)
        .filter_map(|index| Candidate::new(index, range, dtype))
        .collect();
    let mut scratch = [0.0; BLOCK];
    for block in values.chunks(BLOCK) {
        for candidate in &mut candidates {
            candidate.squares += squared_error(block, candidate.scale, dtype, &mut scratch);
        }
    }
    // `min_by` keeps the first of equals, so the larger i must come first.
    let best = candidates
        .iter()
        .rev()
        .min_by(|a, b| a.squares.total_cmp(&b.squares));
    best.map_or(MseChoice::unclipped(range), |best| MseChoice {
        index: best.index,
        range: best.range,
        loss: Some(best.squares.sqrt()),
    })
}

/// Loss of one candidate by the definition: all of `values`, one after the other. The reference of
/// [`choose_mse`], up to the order of an f64 sum; `None` for an index that is no candidate.
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
    Some(squares.sum::<f64>().sqrt())
}

/// One factor and what it has cost so far.
struct Candidate {
    index: u8,
    range: Range,
    scale: Scale,
    /// Sum of squared errors.
    squares: f64,
}

impl Candidate {
    fn new(index: u8, range: Range, dtype: IntDtype) -> Option<Self> {
        if index >= MSE_CANDIDATES {
            return None;
        }
        // The reference takes 1 - 0.01 i in f64 and rounds it, then the product, to f32.
        let range = range.shrink((1.0 - 0.01 * f64::from(index)) as f32);
        // A `Range` is finite and ordered, which is all that the rule asks for.
        let scale =
            scale_from_range(range.min(), range.max(), dtype, ScaleRule::Range, false).ok()?;
        Some(Self {
            index,
            range,
            scale,
            squares: 0.0,
        })
    }
}

/// Sum of `(fake_quant(x) - x)^2`, differences in f32 as in the vendor's tool, squares in f64.
fn squared_error(block: &[f32], scale: Scale, dtype: IntDtype, scratch: &mut [f32]) -> f64 {
    let Some(quantized) = scratch.get_mut(..block.len()) else {
        return f64::INFINITY;
    };
    if fake_quantize(block, scale, dtype, Rounding::HalfEven, quantized).is_err() {
        // Only a value that is not finite is refused, and `Sketch::of` has excluded those.
        return f64::INFINITY;
    }
    // Eight lanes: a fixed order of additions that still vectorizes.
    let mut lanes = [0.0; 8];
    for (q, x) in quantized.chunks(8).zip(block.chunks(8)) {
        for (lane, (q, x)) in lanes.iter_mut().zip(q.iter().zip(x)) {
            let error = f64::from(q - x);
            *lane += error * error;
        }
    }
    lanes.iter().sum()
}

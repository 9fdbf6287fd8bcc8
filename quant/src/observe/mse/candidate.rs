//! One shrunken range, its scale, and the error that it makes; knows nothing of other candidates.

use dual16_nash::{
    dtype::IntDtype,
    scale::{Scale, ScaleRule, scale_from_range},
};

use super::{super::Range, MSE_CANDIDATES};

/// Values whose squared errors are added up before their sum joins that of the blocks before. It
/// fixes the order of additions, and with it the last bits of a loss.
pub(super) const BLOCK: usize = 2048;

/// One factor, and the scale that it leads to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    pub(super) index: u8,
    pub(super) range: Range,
    pub(super) scale: Scale,
}

impl Candidate {
    /// The candidate with this index; `None` from [`MSE_CANDIDATES`] on.
    pub(super) fn new(index: u8, range: Range, dtype: IntDtype) -> Option<Self> {
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
        })
    }

    /// Sum of squared errors over finite values, or `None` as soon as it is known to exceed `limit`:
    /// the terms are not negative and rounding is monotone, so a partial sum never falls.
    pub(super) fn squared_error(&self, values: &[f32], dtype: IntDtype, limit: f64) -> Option<f64> {
        let mut squares = 0.0;
        for block in values.chunks(BLOCK) {
            squares += block_error(block, self.scale.get(), dtype);
            if squares > limit {
                return None;
            }
        }
        Some(squares)
    }
}

/// Sum of `(fake_quant(x) - x)^2`, differences in f32 as in the vendor's tool, squares in f64.
///
/// The same numbers as by nash's `fake_quantize`, without leaving f32. That one rounds to an integer,
/// then clamps; the ends are integers, so clamping first gives the same one. Its division stays a
/// division, because a product with the reciprocal rounds differently.
fn block_error(block: &[f32], scale: f32, dtype: IntDtype) -> f64 {
    /// 1.5 * 2^23: adding it leaves no fraction bits, so the sum is rounded half to even.
    const MAGIC: f32 = 12_582_912.0;
    let (low, high) = (dtype.qmin() as f32, dtype.qmax() as f32);
    let square = |x: f32| {
        let q = ((x / scale).clamp(low, high) + MAGIC) - MAGIC;
        let error = f64::from(q * scale - x);
        error * error
    };
    // Eight lanes: a fixed order of additions that still vectorizes.
    let mut lanes = [0.0; 8];
    let (octets, rest) = block.as_chunks::<8>();
    for octet in octets {
        for (lane, &x) in lanes.iter_mut().zip(octet) {
            *lane += square(x);
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane += square(x);
    }
    lanes.iter().sum()
}

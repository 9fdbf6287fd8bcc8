//! The way `mul_sum` of a Linear, fused: `Mul(x[.., 1, K], W[1, O, K]) -> ReduceSum(K)`, the
//! article's case 3. The Add of the bias is [`crate::elementwise::add`].
//!
//! The chip materializes N*O*K int16 products; here they never exist together. Every product is
//! requantized and saturated to int16 by itself, as Mul would, and only then summed: that rounding
//! is the error this way is about.

mod fake_quant;
mod products;
pub mod scalar;

pub use fake_quant::mul_sum_fake_quant;
pub use products::{PRODUCT_CHUNK, for_each_products, product_range};

use crate::error::ShapeError;
use crate::linear::GemmShape;
use crate::requant::Rescale;

/// What happened to the products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MulSumCounts {
    /// Products that became 0, those with a factor of 0 included.
    pub zero: u64,
    /// Products that saturated.
    pub clipped: u64,
}

impl MulSumCounts {
    /// The sum of both; independent of order.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        Self {
            zero: self.zero + other.zero,
            clipped: self.clipped + other.clipped,
        }
    }
}

/// `out[n, o] = requant(sum_k requant(x[n, k] * w[o, k], product), sum)`, both saturating to int16.
/// Ratios: `product` = s_x * s_w / s_m, `sum` = s_m / s_s.
///
/// # Errors
/// [`ShapeError::Length`] for a buffer that does not fit `shape`.
pub fn mul_sum(
    x: &[i16],
    w: &[i16],
    shape: GemmShape,
    product: Rescale,
    sum: Rescale,
    out: &mut [i16],
) -> Result<MulSumCounts, ShapeError> {
    shape.check(x.len(), w.len(), out.len())?;
    Ok(scalar::mul_sum(x, w, shape, product, sum, out))
}

//! The way `mul_sum` of a Linear, fused: `Mul(x[.., 1, K], W[1, O, K]) -> ReduceSum(K)`, the
//! article's case 3. The Add of the bias is [`crate::elementwise::add`].
//!
//! The chip materializes N*O*K int16 products; here they never exist together. Every product is
//! requantized and saturated to int16 by itself, as Mul would, and only then summed: that rounding
//! is the error this way is about.

#[cfg(target_arch = "x86_64")]
mod avx512;
mod fake_quant;
#[cfg(target_arch = "x86_64")]
mod fake_quant_avx512;
mod products;
pub mod scalar;

pub use fake_quant::{mul_sum_fake_quant, mul_sum_fake_quant_on};
pub use products::{PRODUCT_CHUNK, for_each_products, product_range};

use crate::error::ShapeError;
use crate::linear::GemmShape;
use crate::requant::Rescale;
use crate::simd::{Isa, Level};

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
    mul_sum_on(Isa::best(), x, w, shape, product, sum, out)
}

/// [`mul_sum`] on an instruction set of the caller's choice.
///
/// # Errors
/// As [`mul_sum`].
pub fn mul_sum_on(
    isa: Isa,
    x: &[i16],
    w: &[i16],
    shape: GemmShape,
    product: Rescale,
    sum: Rescale,
    out: &mut [i16],
) -> Result<MulSumCounts, ShapeError> {
    shape.check(x.len(), w.len(), out.len())?;
    Ok(match isa.level() {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512(token) if avx512::SHIFTS.contains(&product.shift()) => {
            avx512::mul_sum(token, x, w, shape, product, sum, out)
        }
        _ => scalar::mul_sum(x, w, shape, product, sum, out),
    })
}

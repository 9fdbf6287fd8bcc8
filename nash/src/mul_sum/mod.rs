//! The way `mul_sum` of a Linear, fused: `Mul(x[.., 1, K], W[1, O, K]) -> ReduceSum(K)`, the
//! article's case 3. The Add of the bias is [`crate::elementwise::add`].
//!
//! The chip materializes N*O*K int16 products; here they never exist together. Every product is
//! requantized and saturated to int16 by itself, as Mul would, and only then summed: that rounding
//! is the error this way is about.
//!
//! Vectors are for product shifts 17 to 45, where 32 bits hold everything; from 46 on every product
//! is 0. Smaller shifts belong to ratios of about 1/4 and more, whose products are far beyond int16,
//! and stay with [`scalar`].

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod fake_quant;
#[cfg(target_arch = "x86_64")]
mod fake_quant_avx512;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod halves;
#[cfg(target_arch = "aarch64")]
mod neon;
mod products;
pub mod scalar;

pub use fake_quant::{mul_sum_fake_quant, mul_sum_fake_quant_on};
pub use products::{PRODUCT_CHUNK, for_each_products, product_range};

use crate::error::ShapeError;
use crate::linear::GemmShape;
use crate::requant::Rescale;
use crate::requant::narrow::OfProduct;
use crate::simd::{Isa, Level};
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use halves::{Halves, Rounding, Row};

/// Product shifts that vectors are exact for.
const VECTOR_SHIFTS: std::ops::Range<i32> = OfProduct::FIRST_SHIFT..OfProduct::ZERO_SHIFT;

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
    if !VECTOR_SHIFTS.contains(&product.shift()) {
        return Ok(scalar::mul_sum(x, w, shape, product, sum, out));
    }
    Ok(match isa.level() {
        Level::Portable => scalar::mul_sum(x, w, shape, product, sum, out),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2(token) => in_halves(x, w, shape, product, sum, out, |row, rounding, clips| {
            avx2::sum_row(token, row, rounding, clips)
        }),
        #[cfg(target_arch = "x86_64")]
        Level::Avx512(token) => avx512::mul_sum(token, x, w, shape, product, sum, out),
        #[cfg(target_arch = "aarch64")]
        Level::Neon(token) => in_halves(x, w, shape, product, sum, out, |row, rounding, clips| {
            neon::sum_row(token, row, rounding, clips)
        }),
    })
}

/// Row pair by row pair, from weights in halves.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn in_halves(
    x: &[i16],
    w: &[i16],
    shape: GemmShape,
    product: Rescale,
    sum: Rescale,
    out: &mut [i16],
    sum_row: impl Fn(Row<'_>, Rounding, bool) -> (i64, MulSumCounts),
) -> MulSumCounts {
    let Halves { hi, lo } = Halves::new(w, product);
    let rounding = Rounding::new(product);
    let of = |row: usize| row * shape.k..(row + 1) * shape.k;
    scalar::fused(x, w, shape, product, sum, out, |row, channel, clips| {
        let row = Row {
            x: &x[of(row)],
            hi: &hi[of(channel)],
            lo: &lo[of(channel)],
        };
        sum_row(row, rounding, clips)
    })
}

//! The fixed-point multiplier that carries integers from one scale to another.
//!
//! A 15-bit multiplier with a right shift `[pub: one printed IR row, 0.492987 -> 32308, 16]`;
//! rounding half up `[our]`. Knows no tensors; every kernel that changes a scale goes through here.

pub(crate) mod channels;
pub(crate) mod narrow;

use crate::dtype::{IntDtype, QInt};
use crate::error::RescaleError;
use crate::scale::Scale;

/// Largest shift that still gives anything: beyond it every result is 0.
pub const MAX_SHIFT: i32 = 62;

/// Accumulators up to this magnitude take the 64-bit path: 2^47 * 2^15 + 2^61 < 2^63.
const FAST_LIMIT: u64 = 1 << 47;

/// A ratio of scales as `m * 2^-k`, with m in [16384, 32767] and k >= 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rescale {
    m: i32,
    k: i32,
}

impl Rescale {
    /// The largest there is, 16383.5: what every larger ratio saturates to.
    pub const LARGEST: Self = Self { m: 32767, k: 1 };

    /// Gives 0 for everything.
    const ZERO: Self = Self {
        m: 16384,
        k: MAX_SHIFT + 1,
    };

    /// The nearest multiplier: with ratio = f * 2^e, f in [0.5, 1), `m = floor(f * 2^15 + 0.5)`,
    /// `k = 15 - e`; an m of 32768 becomes 16384 with k - 1.
    ///
    /// # Errors
    /// [`RescaleError::NotPositive`] unless the ratio is finite and greater than 0;
    /// [`RescaleError::OutOfRange`] where k would be smaller than 1 (ratios from about 16384 on).
    pub fn new(ratio: f64) -> Result<Self, RescaleError> {
        if !(ratio.is_finite() && ratio > 0.0) {
            return Err(RescaleError::NotPositive { ratio });
        }
        let (fraction, exponent) = libm::frexp(ratio);
        let m = (fraction * 32768.0 + 0.5).floor() as i32;
        let k = 15 - exponent;
        let (m, k) = if m == 32768 { (16384, k - 1) } else { (m, k) };
        if k < 1 {
            return Err(RescaleError::OutOfRange { ratio, shift: k });
        }
        Ok(Self { m, k })
    }

    /// [`Rescale::new`] as a machine has it that goes on: ratios beyond the largest multiplier
    /// become [`Rescale::LARGEST`], ratios of 0 and below (there are none of scales) one that gives
    /// 0 `[our]`.
    pub fn saturating(ratio: f64) -> Self {
        match Self::new(ratio) {
            Ok(rescale) => rescale,
            Err(_) if ratio > 0.0 => Self::LARGEST,
            Err(_) => Self::ZERO,
        }
    }

    /// From one scale to another: the ratio `from / to` in f64, saturating.
    pub fn between(from: Scale, to: Scale) -> Self {
        Self::saturating(from.to_f64() / to.to_f64())
    }

    /// From the product of two scales to another: the ratio `a * b / to` in f64, saturating.
    pub fn of_product(a: Scale, b: Scale, to: Scale) -> Self {
        Self::saturating(a.to_f64() * b.to_f64() / to.to_f64())
    }

    /// From a sum of products to the scale of their mean over `count`, or of the sum where that is 1:
    /// `a * b / (count * to)` in f64, saturating. The sum of no products is 0, and so is what is made of it.
    pub fn of_dot(a: Scale, b: Scale, count: usize, to: Scale) -> Self {
        Self::saturating(a.to_f64() * b.to_f64() / (count as f64 * to.to_f64()))
    }

    /// From a sum over `count` values to the scale of their mean: `from / (count * to)` in f64,
    /// saturating. The sum of no values is 0, and so is what is made of it.
    pub fn of_mean(from: Scale, count: usize, to: Scale) -> Self {
        Self::saturating(from.to_f64() / (count as f64 * to.to_f64()))
    }

    /// Whether every value of this format becomes 0.
    pub fn vanishes(self, dtype: IntDtype) -> bool {
        let ends = [dtype.qmin(), dtype.qmax()];
        ends.into_iter().all(|q| self.apply(q.into()) == 0)
    }

    /// The multiplier, in [16384, 32767].
    pub const fn multiplier(self) -> i32 {
        self.m
    }

    /// The right shift, at least 1; above [`MAX_SHIFT`] every result is 0.
    pub const fn shift(self) -> i32 {
        self.k
    }

    /// `(acc * m + 2^(k-1)) >> k`, arithmetic shift; 0 for k > 62.
    ///
    /// Exact for every `acc`; the few results beyond i64 (`acc` near its ends with k < 15)
    /// saturate to i64.
    #[inline(always)]
    pub fn apply(self, acc: i64) -> i64 {
        if self.k > MAX_SHIFT {
            return 0;
        }
        if acc.unsigned_abs() <= FAST_LIMIT {
            return (acc * i64::from(self.m) + (1 << (self.k - 1))) >> self.k;
        }
        self.apply_wide(acc)
    }

    /// The same in 128 bits.
    #[cold]
    fn apply_wide(self, acc: i64) -> i64 {
        let rounded = (i128::from(acc) * i128::from(self.m) + (1 << (self.k - 1))) >> self.k;
        rounded.clamp(i64::MIN.into(), i64::MAX.into()) as i64
    }

    /// [`Rescale::apply`], then the nearest value of the output format.
    #[inline(always)]
    pub fn requant<Y: QInt>(self, acc: i64) -> Y {
        Y::saturate(self.apply(acc))
    }
}

//! From a quotient to an integer: the two roundings, and the trick that makes the common one fast.

use std::fmt;
use std::str::FromStr;

use crate::dtype::IntDtype;
use crate::error::ParseError;
use crate::scale::Scale;

/// Rounding of `x / s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Rounding {
    /// Half to even. The default.
    #[default]
    HalfEven,
    /// `floor(x / s + 0.5)`: half up.
    Floor,
}

impl fmt::Display for Rounding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::HalfEven => "rne",
            Self::Floor => "floor",
        })
    }
}

impl FromStr for Rounding {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        match s {
            "rne" => Ok(Self::HalfEven),
            "floor" => Ok(Self::Floor),
            _ => Err(ParseError {
                what: "rounding",
                got: s.to_owned(),
                expected: "rne, floor",
            }),
        }
    }
}

/// Rounds quotients to integers that stick out of the format by one at most, so that a caller can
/// still see what was clipped.
#[derive(Clone, Copy)]
pub(super) struct Grid {
    scale: f32,
    low: f32,
    high: f32,
}

impl Grid {
    pub(super) fn new(scale: Scale, dtype: IntDtype) -> Self {
        let (low, high) = ((dtype.qmin() - 1) as f32, (dtype.qmax() + 1) as f32);
        Self {
            scale: scale.get(),
            low,
            high,
        }
    }

    #[inline(always)]
    pub(super) fn half_even(self, x: f32) -> i32 {
        round_half_even((x / self.scale).clamp(self.low, self.high))
    }

    #[inline(always)]
    pub(super) fn half_up(self, x: f32) -> i32 {
        // Clamped to an integer, whose floor is itself.
        floor((x / self.scale + 0.5).clamp(self.low, self.high))
    }

    /// What a rounded quotient stands for.
    #[inline(always)]
    pub(super) fn real(self, q: i32) -> f32 {
        q.clamp(self.low as i32 + 1, self.high as i32 - 1) as f32 * self.scale
    }

    /// Whether a rounded quotient is outside of the format.
    #[inline(always)]
    pub(super) fn clips(self, q: i32) -> bool {
        q == self.low as i32 || q == self.high as i32
    }
}

/// Floor for |v| <= 2^22, without a rounding instruction as well: the nearest integer, less one
/// where that is above.
#[inline(always)]
fn floor(v: f32) -> i32 {
    let nearest = round_half_even(v);
    nearest - i32::from(nearest as f32 > v)
}

/// Half to even for |v| <= 2^22: adding 1.5 * 2^23 leaves no fraction bits, so the FPU rounds, and
/// the integer sits in the low mantissa bits. Baseline x86-64 has no rounding instruction, and
/// `round_ties_even` is a function call there.
#[inline(always)]
pub(crate) fn round_half_even(v: f32) -> i32 {
    const MAGIC: f32 = 12_582_912.0;
    ((v + MAGIC).to_bits() as i32).wrapping_sub(MAGIC.to_bits() as i32)
}

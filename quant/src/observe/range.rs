//! A finite interval, and the two ways in which the intervals of batches become one.

use serde::{Deserialize, Serialize};

/// Weight of a new batch under merge `ema`.
pub const EMA_CONSTANT: f32 = 0.01;

/// A closed interval; both ends are finite and `min <= max`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "[f32; 2]", into = "[f32; 2]")]
pub struct Range {
    min: f32,
    max: f32,
}

impl Range {
    /// [0, 0]: the range of nothing.
    pub const ZERO: Self = Self { min: 0.0, max: 0.0 };

    /// The interval, or `None` unless both ends are finite and `min <= max`.
    pub fn new(min: f32, max: f32) -> Option<Self> {
        (min.is_finite() && max.is_finite() && min <= max).then_some(Self::normal(min, max))
    }

    /// Without negative zeros, so that ranges that are equal are equal to the bit.
    fn normal(min: f32, max: f32) -> Self {
        Self {
            min: min + 0.0,
            max: max + 0.0,
        }
    }

    /// Lower end.
    pub const fn min(self) -> f32 {
        self.min
    }

    /// Upper end.
    pub const fn max(self) -> f32 {
        self.max
    }

    /// Largest magnitude inside, >= 0.
    pub fn amax(self) -> f32 {
        self.min.abs().max(self.max.abs())
    }

    /// Smallest interval that holds both: merge `exact`.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self::normal(self.min.min(other.min), self.max.max(other.max))
    }

    /// One step of merge `ema`: `min += c (min_b - min)`, `max += c (max_b - max)` with c =
    /// [`EMA_CONSTANT`], every operation rounded to f32 as the vendor's tool does.
    ///
    /// Halving first keeps the difference of two huge ends finite; it is exact otherwise.
    #[must_use]
    pub fn ema_step(self, batch: Self) -> Self {
        let step = |old: f32, new: f32| {
            let difference = new - old;
            if difference.is_finite() {
                old + EMA_CONSTANT * difference
            } else {
                old + EMA_CONSTANT * (new / 2.0 - old / 2.0) * 2.0
            }
        };
        // Rounding could cross the ends of an interval without width; it must not.
        let (min, max) = (step(self.min, batch.min), step(self.max, batch.max));
        Self::normal(min.min(max), min.max(max))
    }

    /// Both ends times `factor` in [0, 1], rounded to f32.
    #[must_use]
    pub fn shrink(self, factor: f32) -> Self {
        Self::normal(self.min * factor, self.max * factor)
    }

    /// Both ends moved into `[-threshold, threshold]`, `threshold >= 0`.
    #[must_use]
    pub fn clip(self, threshold: f32) -> Self {
        let inside = |end: f32| end.max(-threshold).min(threshold);
        Self::normal(inside(self.min), inside(self.max))
    }
}

impl TryFrom<[f32; 2]> for Range {
    type Error = String;

    fn try_from([min, max]: [f32; 2]) -> Result<Self, String> {
        Self::new(min, max)
            .ok_or_else(|| format!("[{min}, {max}] is no range; expected finite ends, min <= max"))
    }
}

impl From<Range> for [f32; 2] {
    fn from(range: Range) -> Self {
        [range.min, range.max]
    }
}

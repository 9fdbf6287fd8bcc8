//! Scales: the rules that turn an observed range into one. Knows ranges, not how they were observed.

use std::fmt;
use std::str::FromStr;

use crate::dtype::IntDtype;
use crate::error::{ParseError, QuantizeError, ScaleError, check_len};
use crate::quantize::check_finite;

/// Smallest scale that a rule gives, 2^-23 `[pub]`.
pub const MIN_SCALE: f32 = 1.192_092_9e-7;

/// Real value of one integer step: finite and greater than 0.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Scale(f32);

impl Scale {
    /// A scale given outright, such as the article's 7/32767.
    ///
    /// # Errors
    /// [`ScaleError::NotPositive`] for 0, negative numbers, NaN and infinities.
    pub fn new(value: f32) -> Result<Self, ScaleError> {
        if value.is_finite() && value > 0.0 {
            Ok(Self(value))
        } else {
            Err(ScaleError::NotPositive { value })
        }
    }

    /// The value in f32, as it is stored and as fake quantization uses it.
    pub const fn get(self) -> f32 {
        self.0
    }

    /// The value in f64, as ratios of scales use it.
    pub fn to_f64(self) -> f64 {
        self.0.into()
    }
}

/// How the divisor of a range is chosen `[pub]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ScaleRule {
    /// amax / ((qmax - qmin) / 2): divisors 127.5 and 32767.5. The default.
    #[default]
    Range,
    /// amax / -qmin: divisors 128 and 32768.
    Threshold,
}

impl ScaleRule {
    /// Both rules.
    pub const ALL: [Self; 2] = [Self::Range, Self::Threshold];

    /// "range" or "threshold".
    pub const fn name(self) -> &'static str {
        match self {
            Self::Range => "range",
            Self::Threshold => "threshold",
        }
    }

    /// The number that amax is divided by.
    pub const fn divisor(self, dtype: IntDtype) -> f32 {
        match (self, dtype) {
            (Self::Range, IntDtype::Int8) => 127.5,
            (Self::Range, IntDtype::Int16) => 32767.5,
            (Self::Threshold, IntDtype::Int8) => 128.0,
            (Self::Threshold, IntDtype::Int16) => 32768.0,
        }
    }
}

impl fmt::Display for ScaleRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for ScaleRule {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|rule| rule.name() == s)
            .ok_or_else(|| ParseError {
                what: "scale rule",
                got: s.to_owned(),
                expected: "range, threshold",
            })
    }
}

/// Scale of an observed range, in f32: `max(max(-min, max, 0) / divisor, 2^-23)` `[pub]`;
/// `power_of_two` then rounds it up to a power of two (opt-in `[pub]`). A range that ends where f32
/// does gets the largest scale at which every integer still has a finite value `[our]`.
///
/// # Errors
/// [`ScaleError::InvalidRange`] for a range that is not finite or has `min > max`.
pub fn scale_from_range(
    min: f32,
    max: f32,
    dtype: IntDtype,
    rule: ScaleRule,
    power_of_two: bool,
) -> Result<Scale, ScaleError> {
    if !(min.is_finite() && max.is_finite() && min <= max) {
        return Err(ScaleError::InvalidRange { min, max });
    }
    let amax = (-min).max(max).max(0.0);
    let scale = (amax / rule.divisor(dtype)).max(MIN_SCALE);
    let largest = f32::MAX / -(dtype.qmin() as f32);
    Scale::new(if power_of_two {
        // The power of two below.
        ceil_power_of_two(scale).min(ceil_power_of_two(largest) / 2.0)
    } else {
        scale.min(largest)
    })
}

/// One scale for each row of a `[o, k]` weight, from the row's exact minimum and maximum `[pub]`.
///
/// # Errors
/// [`QuantizeError::Shape`] unless `weight` has `o * k` elements; [`QuantizeError::NonFinite`]
/// with the flat index of a NaN or infinity.
pub fn per_channel_scales(
    weight: &[f32],
    shape: [usize; 2],
    dtype: IntDtype,
    rule: ScaleRule,
    power_of_two: bool,
) -> Result<Vec<Scale>, QuantizeError> {
    check_channels(weight, shape)?;
    channels(weight, shape)
        .map(|row| {
            let (min, max) = min_max(row);
            Ok(scale_from_range(min, max, dtype, rule, power_of_two)?)
        })
        .collect()
}

/// Smallest and largest value; (0, 0) of nothing. NaN must have been excluded before.
pub(crate) fn min_max(values: &[f32]) -> (f32, f32) {
    let Some(&first) = values.first() else {
        return (0.0, 0.0);
    };
    values
        .iter()
        .fold((first, first), |(min, max), &v| (min.min(v), max.max(v)))
}

/// Checks a `[o, k]` weight: length and finiteness.
pub(crate) fn check_channels(weight: &[f32], [o, k]: [usize; 2]) -> Result<(), QuantizeError> {
    check_len(
        "weight",
        weight.len(),
        crate::tensor::element_count(&[o, k])?,
    )?;
    check_finite(weight)
}

/// The `o` rows of a checked `[o, k]` weight, also where `k` is 0.
pub(crate) fn channels<T>(weight: &[T], [o, k]: [usize; 2]) -> impl Iterator<Item = &[T]> {
    (0..o).map(move |row| &weight[row * k..(row + 1) * k])
}

/// 2^ceil(log2 s), exactly: taken from the exponent, not from a logarithm that rounds.
fn ceil_power_of_two(scale: f32) -> f32 {
    let (fraction, exponent) = libm::frexpf(scale);
    libm::ldexpf(
        1.0,
        if fraction == 0.5 {
            exponent - 1
        } else {
            exponent
        },
    )
}

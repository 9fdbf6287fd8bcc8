//! The way `split` of a Linear: an int16 weight as two int8 planes, `W16 = 256 * hi + lo`, so that
//! two legal int8-weight GEMMs and an Add do what one int16 weight would.

use crate::error::{QuantizeError, ScaleError};
use crate::quantize::round_half_even;
use crate::scale::{MIN_SCALE, Scale, channels, check_channels, min_max};

/// Largest |W16|: 256 * 127 + 127, so that both planes stay in int8 on either side.
pub const SPLIT_QMAX: i32 = 32639;

/// A weight `[o, k]` in two planes.
#[derive(Debug, Clone, PartialEq)]
pub struct SplitWeight {
    /// `[o, k]`, scale `256 * s[o]`, see [`SplitWeight::hi_scales`].
    pub hi: Vec<i8>,
    /// `[o, k]`, scale `s[o]`.
    pub lo: Vec<i8>,
    /// `s[o] = amax / 32639` of each channel.
    pub scales: Vec<Scale>,
}

impl SplitWeight {
    /// Splits a float weight `[o, k]`: `s = amax / 32639` in f32, at least 2^-23;
    /// `q = rne(w / s)`; `lo = ((q + 128) mod 256) - 128`, `hi = (q - lo) / 256`.
    ///
    /// # Errors
    /// [`QuantizeError::Shape`] unless `weight` has `o * k` elements, [`QuantizeError::NonFinite`]
    /// with the flat index of a NaN or infinity.
    pub fn new(weight: &[f32], shape: [usize; 2]) -> Result<Self, QuantizeError> {
        check_channels(weight, shape)?;
        let mut planes = Self {
            hi: Vec::with_capacity(weight.len()),
            lo: Vec::with_capacity(weight.len()),
            scales: Vec::with_capacity(shape[0]),
        };
        for row in channels(weight, shape) {
            let (min, max) = min_max(row);
            let amax = (-min).max(max).max(0.0);
            let scale = Scale::new((amax / SPLIT_QMAX as f32).max(MIN_SCALE))?;
            planes.push_channel(row, scale);
        }
        Ok(planes)
    }

    /// Scales of the hi plane: `256 * s[o]`, exact in f32.
    ///
    /// # Errors
    /// [`ScaleError::NotPositive`] where 256 s overflows f32 (weights beyond 10^40).
    pub fn hi_scales(&self) -> Result<Vec<Scale>, ScaleError> {
        self.scales
            .iter()
            .map(|s| Scale::new(256.0 * s.get()))
            .collect()
    }

    fn push_channel(&mut self, row: &[f32], scale: Scale) {
        let limit = SPLIT_QMAX as f32;
        for &w in row {
            let q = round_half_even((w / scale.get()).clamp(-limit, limit));
            let lo = (q + 128).rem_euclid(256) - 128;
            self.lo.push(lo as i8);
            self.hi.push(((q - lo) / 256) as i8);
        }
        self.scales.push(scale);
    }
}

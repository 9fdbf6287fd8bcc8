//! The way `split` of a Linear: an int16 weight as two int8 planes, `W16 = 256 * hi + lo`, so that
//! two legal int8-weight GEMMs and an Add do what one int16 weight would.

use crate::error::{QuantizeError, ScaleError};
use crate::quantize::round_half_even;
use crate::scale::{MIN_SCALE, Scale, channels, check_channels, min_max};
use crate::simd::{Isa, for_each_isa};

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
        Self::new_on(Isa::best(), weight, shape)
    }

    /// [`SplitWeight::new`] on an instruction set of the caller's choice.
    ///
    /// # Errors
    /// As [`SplitWeight::new`].
    pub fn new_on(isa: Isa, weight: &[f32], shape: [usize; 2]) -> Result<Self, QuantizeError> {
        check_channels(weight, shape)?;
        let mut planes = Self {
            hi: vec![0; weight.len()],
            lo: vec![0; weight.len()],
            scales: Vec::with_capacity(shape[0]),
        };
        let k = shape[1].max(1);
        let mut rows = planes.hi.chunks_mut(k).zip(planes.lo.chunks_mut(k));
        for row in channels(weight, shape) {
            let (min, max) = min_max(row);
            let amax = (-min).max(max).max(0.0);
            let scale = Scale::new((amax / SPLIT_QMAX as f32).max(MIN_SCALE))?;
            // A channel without elements has no row of either plane.
            if let Some((hi, lo)) = rows.next() {
                split_channel(isa, row, scale.get(), hi, lo);
            }
            planes.scales.push(scale);
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
}

for_each_isa! {
    /// One channel into its planes, all of one length.
    fn split_channel(row: &[f32], scale: f32, hi: &mut [i8], lo: &mut [i8]) {
        portable: split_each,
        vector: split_each,
    }
}

#[inline(always)]
fn split_each(row: &[f32], scale: f32, hi: &mut [i8], lo: &mut [i8]) {
    let limit = SPLIT_QMAX as f32;
    for ((&w, hi), lo) in row.iter().zip(hi).zip(lo) {
        let q = round_half_even((w / scale).clamp(-limit, limit));
        // ((q + 128) mod 256) - 128 is what the low byte says as a signed number.
        *lo = q as i8;
        *hi = ((q - i32::from(*lo)) >> 8) as i8;
    }
}

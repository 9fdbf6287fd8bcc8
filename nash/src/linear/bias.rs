//! What a Linear needs beside its weight: the integer bias and the channels' multipliers.

use crate::error::{QuantizeError, check_len};
use crate::quantize::check_finite;
use crate::requant::Rescale;
use crate::scale::Scale;

/// `rne(b[o] / (s_x * s_w[o]))` in f64, clamped to int32 `[pub]`. `weight` has one scale for each
/// channel, or a single one for all. What the clamp took is told by [`saturated_biases`].
///
/// # Errors
/// [`QuantizeError::NonFinite`] with the index; [`QuantizeError::Shape`] if lengths do not fit.
pub fn quantize_bias(
    bias: &[f32],
    input: Scale,
    weight: &[Scale],
) -> Result<Vec<i32>, QuantizeError> {
    if weight.len() != 1 {
        check_len("weight scales", weight.len(), bias.len())?;
    }
    check_finite(bias)?;
    // A float-to-integer cast saturates, which is the clamp.
    Ok(steps(bias, input, weight)
        .map(|steps| steps as i32)
        .collect())
}

/// A bias that int32 does not hold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SaturatedBias {
    /// Output channel.
    pub channel: usize,
    /// The rounded number of steps that it would be.
    pub steps: f64,
}

/// The channels whose bias [`quantize_bias`] clamps, in order.
pub fn saturated_biases(
    bias: &[f32],
    input: Scale,
    weight: &[Scale],
) -> impl Iterator<Item = SaturatedBias> {
    let fits = f64::from(i32::MIN)..=f64::from(i32::MAX);
    let all = steps(bias, input, weight).enumerate();
    all.map(|(channel, steps)| SaturatedBias { channel, steps })
        .filter(move |bias| !fits.contains(&bias.steps))
}

/// Biases in steps of the accumulator, rounded.
fn steps(bias: &[f32], input: Scale, weight: &[Scale]) -> impl Iterator<Item = f64> {
    let step = move |(&b, s_w): (&f32, &Scale)| f64::from(b) / (input.to_f64() * s_w.to_f64());
    let pairs = bias.iter().zip(weight.iter().cycle());
    pairs.map(step).map(f64::round_ties_even)
}

/// One multiplier for each output channel: ratio `s_x * s_w[o] / s_y`, saturating.
pub fn channel_rescales(input: Scale, weight: &[Scale], output: Scale) -> Vec<Rescale> {
    weight
        .iter()
        .map(|&s_w| Rescale::of_product(input, s_w, output))
        .collect()
}

//! What a Linear needs beside its weight: the integer bias and the channels' multipliers.

use crate::error::{QuantizeError, RescaleError, check_len};
use crate::quantize::check_finite;
use crate::requant::Rescale;
use crate::scale::Scale;

/// `rne(b[o] / (s_x * s_w[o]))` in f64, clamped to int32 `[pub]`. `weight` has one scale for each
/// channel, or a single one for all.
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
    let quantized = bias.iter().zip(weight.iter().cycle()).map(|(&b, s_w)| {
        let steps = f64::from(b) / (input.to_f64() * s_w.to_f64());
        // A float-to-integer cast saturates, which is the clamp.
        steps.round_ties_even() as i32
    });
    Ok(quantized.collect())
}

/// One multiplier for each output channel: ratio `s_x * s_w[o] / s_y`.
///
/// # Errors
/// [`RescaleError`] for a ratio outside of the multiplier's range.
pub fn channel_rescales(
    input: Scale,
    weight: &[Scale],
    output: Scale,
) -> Result<Vec<Rescale>, RescaleError> {
    weight
        .iter()
        .map(|&s_w| Rescale::of_product(input, s_w, output))
        .collect()
}

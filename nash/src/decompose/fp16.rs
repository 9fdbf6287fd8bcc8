//! The core of a LayerNorm in fp16, (x - mean) / sqrt(var + eps). That a J6E/M takes it in fp16 is an
//! assumption from public notes, and so is every step here `[our]`: each result is rounded to fp16, half
//! to even, before the next reads it; the two sums are exact and rounded once.

use half::f16;

use crate::error::{ShapeError, check_len};

/// Rows of `width` values, each normalized by itself. Where a step leaves what fp16 holds (a square of
/// more than 65504 is one), it becomes infinite, and what follows is made of that.
///
/// # Errors
/// [`ShapeError::Length`] where `y` is not as long as `x`, or `x` is no whole number of rows.
pub fn layer_norm_fp16(x: &[f32], width: usize, eps: f64, y: &mut [f32]) -> Result<(), ShapeError> {
    check_len("output", y.len(), x.len())?;
    let width = width.max(1);
    check_len("input", x.len(), x.len().next_multiple_of(width))?;
    let eps = rounded(eps as f32);
    let mut centred = vec![0f32; width];
    for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)) {
        let mean = mean(x.iter().map(|&x| rounded(x)));
        for (centred, &x) in centred.iter_mut().zip(x) {
            *centred = rounded(rounded(x) - mean);
        }
        let variance = self::mean(centred.iter().map(|c| rounded(c * c)));
        // sqrt and division are correctly rounded on every machine.
        let inverse = 1.0 / f64::from(rounded(variance + eps)).sqrt();
        let inverse = rounded(inverse as f32);
        for (y, centred) in y.iter_mut().zip(&centred) {
            *y = rounded(centred * inverse);
        }
    }
    Ok(())
}

/// To the nearest fp16, half to even. An f32 has more than twice its digits, so that a sum, difference or
/// product of two fp16 in f32 rounds to what it would round to from exact.
fn rounded(x: f32) -> f32 {
    f16::from_f32(x).to_f32()
}

/// Of fp16 values: f64 holds the sum of 2^12 of them exactly.
fn mean(values: impl ExactSizeIterator<Item = f32>) -> f32 {
    let count = values.len() as f64;
    let sum: f64 = values.map(f64::from).sum();
    rounded((sum / count) as f32)
}

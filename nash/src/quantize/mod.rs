//! f32 to int8 or int16 and back, by a scale that is already chosen.
//!
//! Division and product are f32 `[pub]`; rounding is half to even, or `floor(x / s + 0.5)` as an
//! opt-in `[pub]`. A value that is not finite is an error, never a number.

mod rounding;

pub use rounding::Rounding;
pub(crate) use rounding::round_half_even;

use crate::dtype::{IntDtype, QInt};
use crate::error::{QuantizeError, check_len};
use crate::scale::{Scale, channels, check_channels};
use rounding::Grid;

/// What quantization lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QuantizeCounts {
    /// Values that became 0, those that were 0 included.
    pub zero: u64,
    /// Values whose rounded quotient was outside of the format.
    pub clipped: u64,
}

/// `clamp(round(x / s))` into `out`.
///
/// # Errors
/// [`QuantizeError::NonFinite`] with the index, [`QuantizeError::Shape`] if the lengths differ.
pub fn quantize<Q: QInt>(
    x: &[f32],
    scale: Scale,
    rounding: Rounding,
    out: &mut [Q],
) -> Result<(), QuantizeError> {
    check_len("output", out.len(), x.len())?;
    check_finite(x)?;
    let grid = Grid::new(scale, Q::DTYPE);
    match rounding {
        Rounding::HalfEven => map(x, out, |v| Q::saturate_i32(grid.half_even(v))),
        Rounding::Floor => map(x, out, |v| Q::saturate_i32(grid.half_up(v))),
    }
    Ok(())
}

/// [`quantize`] that also counts what was lost.
///
/// # Errors
/// As [`quantize`].
pub fn quantize_counted<Q: QInt>(
    x: &[f32],
    scale: Scale,
    rounding: Rounding,
    out: &mut [Q],
) -> Result<QuantizeCounts, QuantizeError> {
    quantize(x, scale, rounding, out)?;
    Ok(count(x, scale, Q::DTYPE, rounding))
}

/// [`quantize`] of a `[o, k]` weight with one scale for each row.
///
/// # Errors
/// As [`quantize`]; also unless there are `o` scales.
pub fn quantize_per_channel<Q: QInt>(
    weight: &[f32],
    shape: [usize; 2],
    scales: &[Scale],
    rounding: Rounding,
    out: &mut [Q],
) -> Result<(), QuantizeError> {
    check_channels(weight, shape)?;
    check_len("scales", scales.len(), shape[0])?;
    check_len("output", out.len(), weight.len())?;
    let [_, k] = shape;
    for (row, (values, &scale)) in channels(weight, shape).zip(scales).enumerate() {
        quantize(values, scale, rounding, &mut out[row * k..(row + 1) * k])?;
    }
    Ok(())
}

/// `q * s` in f32.
///
/// # Errors
/// [`QuantizeError::Shape`] if the lengths differ.
pub fn dequantize<Q: QInt>(q: &[Q], scale: Scale, out: &mut [f32]) -> Result<(), QuantizeError> {
    check_len("output", out.len(), q.len())?;
    map(q, out, |v| v.to_i32() as f32 * scale.get());
    Ok(())
}

/// [`dequantize`] of a `[o, k]` weight with one scale for each row.
///
/// # Errors
/// [`QuantizeError::Shape`] if lengths do not fit.
pub fn dequantize_per_channel<Q: QInt>(
    q: &[Q],
    shape: [usize; 2],
    scales: &[Scale],
    out: &mut [f32],
) -> Result<(), QuantizeError> {
    check_len("weight", q.len(), crate::tensor::element_count(&shape)?)?;
    check_len("scales", scales.len(), shape[0])?;
    check_len("output", out.len(), q.len())?;
    let [_, k] = shape;
    for (row, (values, &scale)) in channels(q, shape).zip(scales).enumerate() {
        dequantize(values, scale, &mut out[row * k..(row + 1) * k])?;
    }
    Ok(())
}

/// Quantize and dequantize in one pass: `q * s` in f32, what VALIDATION puts after every op.
///
/// # Errors
/// As [`quantize`].
pub fn fake_quantize(
    x: &[f32],
    scale: Scale,
    dtype: IntDtype,
    rounding: Rounding,
    out: &mut [f32],
) -> Result<(), QuantizeError> {
    check_len("output", out.len(), x.len())?;
    out.copy_from_slice(x);
    fake_quantize_in_place(out, scale, dtype, rounding)
}

/// [`fake_quantize`] in place; untouched on error.
///
/// # Errors
/// [`QuantizeError::NonFinite`] with the index.
pub fn fake_quantize_in_place(
    x: &mut [f32],
    scale: Scale,
    dtype: IntDtype,
    rounding: Rounding,
) -> Result<(), QuantizeError> {
    check_finite(x)?;
    let grid = Grid::new(scale, dtype);
    let clamp = |q: i32| q.clamp(dtype.qmin(), dtype.qmax()) as f32 * scale.get();
    match rounding {
        Rounding::HalfEven => x.iter_mut().for_each(|v| *v = clamp(grid.half_even(*v))),
        Rounding::Floor => x.iter_mut().for_each(|v| *v = clamp(grid.half_up(*v))),
    }
    Ok(())
}

/// What quantizing finite values would lose, without quantizing them.
pub fn count(x: &[f32], scale: Scale, dtype: IntDtype, rounding: Rounding) -> QuantizeCounts {
    let grid = Grid::new(scale, dtype);
    x.iter().fold(QuantizeCounts::default(), |counts, &v| {
        let q = match rounding {
            Rounding::HalfEven => grid.half_even(v),
            Rounding::Floor => grid.half_up(v),
        };
        QuantizeCounts {
            zero: counts.zero + u64::from(q == 0),
            clipped: counts.clipped + u64::from(q < dtype.qmin() || q > dtype.qmax()),
        }
    })
}

/// `Ok` when every value is finite.
///
/// # Errors
/// [`QuantizeError::NonFinite`] with the first index that is not.
pub fn check_finite(x: &[f32]) -> Result<(), QuantizeError> {
    // The exponent bits decide; an OR-free maximum over them vectorizes, a search does not.
    let worst = x
        .iter()
        .fold(0u32, |worst, v| worst.max(v.to_bits() & 0x7fff_ffff));
    if worst < f32::INFINITY.to_bits() {
        return Ok(());
    }
    match x.iter().position(|v| !v.is_finite()) {
        Some(index) => Err(QuantizeError::NonFinite {
            index,
            value: x[index],
        }),
        None => Ok(()),
    }
}

fn map<A: Copy, B>(x: &[A], out: &mut [B], f: impl Fn(A) -> B) {
    for (y, &v) in out.iter_mut().zip(x) {
        *y = f(v);
    }
}

//! f32 to int8 or int16 and back, by a scale that is already chosen.
//!
//! Division and product are f32 `[pub]`; rounding is half to even, or `floor(x / s + 0.5)` as an
//! opt-in `[pub]`. Infinities become the ends of the format, NaN becomes 0, and both are counted
//! `[our]`: what a saturating conversion gives.
//!
//! Every function on slices has a twin `_on` an instruction set of the caller's choice; the loops
//! are those of `scalar`, compiled for each.

mod rounding;
mod scalar;
mod vector;

pub use rounding::Rounding;
pub(crate) use rounding::round_half_even;

use crate::dtype::{IntDtype, QInt};
use crate::error::{QuantizeError, check_len};
use crate::scale::{Scale, channels, check_channels};
use crate::simd::Isa;
use rounding::Grid;

/// Values that are checked and then quantized while they are still in the first-level cache.
const BLOCK: usize = 1 << 12;

/// What quantization lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QuantizeCounts {
    /// Values that became 0, those that were 0 included.
    pub zero: u64,
    /// Values whose rounded quotient was outside of the format.
    pub clipped: u64,
}

/// Values that no integer stands for, and that were quantized nevertheless.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NonFinite {
    /// Became 0.
    pub nan: u64,
    /// Became the end of the format on their side.
    pub infinite: u64,
}

impl NonFinite {
    /// Both kinds.
    pub const fn total(self) -> u64 {
        self.nan + self.infinite
    }

    /// Those of `x`, whose NaNs become 0.
    fn settle(x: &mut [f32]) -> Self {
        let mut found = Self::default();
        for v in x {
            if v.is_nan() {
                *v = 0.0;
                found.nan += 1;
            } else if v.is_infinite() {
                found.infinite += 1;
            }
        }
        found
    }
}

/// `clamp(round(x / s))` into `out`.
///
/// # Errors
/// [`QuantizeError::Shape`] if the lengths differ.
pub fn quantize<Q: QInt>(
    x: &[f32],
    scale: Scale,
    rounding: Rounding,
    out: &mut [Q],
) -> Result<NonFinite, QuantizeError> {
    quantize_on(Isa::best(), x, scale, rounding, out)
}

/// [`quantize`] on an instruction set of the caller's choice.
///
/// # Errors
/// As [`quantize`].
pub fn quantize_on<Q: QInt>(
    isa: Isa,
    x: &[f32],
    scale: Scale,
    rounding: Rounding,
    out: &mut [Q],
) -> Result<NonFinite, QuantizeError> {
    let grid = Grid::new(scale, Q::DTYPE);
    for_each_block(isa, x, out, |x, out| {
        vector::quantize(isa, x, grid, rounding, out)
    })
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
    quantize_counted_on(Isa::best(), x, scale, rounding, out)
}

/// [`quantize_counted`] on an instruction set of the caller's choice.
///
/// # Errors
/// As [`quantize`].
pub fn quantize_counted_on<Q: QInt>(
    isa: Isa,
    x: &[f32],
    scale: Scale,
    rounding: Rounding,
    out: &mut [Q],
) -> Result<QuantizeCounts, QuantizeError> {
    let grid = Grid::new(scale, Q::DTYPE);
    let mut counts = QuantizeCounts::default();
    for_each_block(isa, x, out, |x, out| {
        let block = vector::quantize_counted(isa, x, grid, rounding, out);
        counts.zero += block.zero;
        counts.clipped += block.clipped;
    })?;
    Ok(counts)
}

/// [`quantize`] of a `[o, k]` weight with one scale for each row.
///
/// # Errors
/// [`QuantizeError::Shape`] if lengths do not fit; [`QuantizeError::NonFinite`] with the index: a
/// parameter with such a value is a broken one.
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
    dequantize_on(Isa::best(), q, scale, out)
}

/// [`dequantize`] on an instruction set of the caller's choice.
///
/// # Errors
/// As [`dequantize`].
pub fn dequantize_on<Q: QInt>(
    isa: Isa,
    q: &[Q],
    scale: Scale,
    out: &mut [f32],
) -> Result<(), QuantizeError> {
    check_len("output", out.len(), q.len())?;
    vector::dequantize(isa, q, scale.get(), out);
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
) -> Result<NonFinite, QuantizeError> {
    fake_quantize_on(Isa::best(), x, scale, dtype, rounding, out)
}

/// [`fake_quantize`] on an instruction set of the caller's choice.
///
/// # Errors
/// As [`quantize`].
pub fn fake_quantize_on(
    isa: Isa,
    x: &[f32],
    scale: Scale,
    dtype: IntDtype,
    rounding: Rounding,
    out: &mut [f32],
) -> Result<NonFinite, QuantizeError> {
    let grid = Grid::new(scale, dtype);
    for_each_block(isa, x, out, |x, out| {
        vector::fake_quantize(isa, x, grid, rounding, out)
    })
}

/// [`fake_quantize`] in place.
pub fn fake_quantize_in_place(
    x: &mut [f32],
    scale: Scale,
    dtype: IntDtype,
    rounding: Rounding,
) -> NonFinite {
    fake_quantize_in_place_on(Isa::best(), x, scale, dtype, rounding)
}

/// [`fake_quantize_in_place`] on an instruction set of the caller's choice.
pub fn fake_quantize_in_place_on(
    isa: Isa,
    x: &mut [f32],
    scale: Scale,
    dtype: IntDtype,
    rounding: Rounding,
) -> NonFinite {
    let found = match check_finite_on(isa, x) {
        Ok(()) => NonFinite::default(),
        Err(_) => NonFinite::settle(x),
    };
    vector::fake_quantize_in_place(isa, x, Grid::new(scale, dtype), rounding);
    found
}

/// What quantizing finite values would lose, without quantizing them.
pub fn count(x: &[f32], scale: Scale, dtype: IntDtype, rounding: Rounding) -> QuantizeCounts {
    count_on(Isa::best(), x, scale, dtype, rounding)
}

/// [`count`] on an instruction set of the caller's choice.
pub fn count_on(
    isa: Isa,
    x: &[f32],
    scale: Scale,
    dtype: IntDtype,
    rounding: Rounding,
) -> QuantizeCounts {
    vector::count(isa, x, Grid::new(scale, dtype), rounding)
}

/// `Ok` when every value is finite.
///
/// # Errors
/// [`QuantizeError::NonFinite`] with the first index that is not.
pub fn check_finite(x: &[f32]) -> Result<(), QuantizeError> {
    check_finite_on(Isa::best(), x)
}

/// [`check_finite`] on an instruction set of the caller's choice.
///
/// # Errors
/// As [`check_finite`].
pub fn check_finite_on(isa: Isa, x: &[f32]) -> Result<(), QuantizeError> {
    if vector::largest_bits(isa, x) < f32::INFINITY.to_bits() {
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

/// `f(x, out)` block by block, without NaN.
fn for_each_block<Y>(
    isa: Isa,
    x: &[f32],
    out: &mut [Y],
    mut f: impl FnMut(&[f32], &mut [Y]),
) -> Result<NonFinite, QuantizeError> {
    check_len("output", out.len(), x.len())?;
    let mut found = NonFinite::default();
    for (x, out) in x.chunks(BLOCK).zip(out.chunks_mut(BLOCK)) {
        if check_finite_on(isa, x).is_ok() {
            f(x, out);
            continue;
        }
        let mut settled = x.to_vec();
        let own = NonFinite::settle(&mut settled);
        found.nan += own.nan;
        found.infinite += own.infinite;
        f(&settled, out);
    }
    Ok(found)
}

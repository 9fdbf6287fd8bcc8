//! Scalar reference of quantization and its way back: plain loops without a branch, which every
//! instruction set compiles for itself. Buffers and finiteness are checked by the caller.

use super::QuantizeCounts;
use super::rounding::{Grid, Rounding};
use crate::dtype::QInt;

/// Values that are counted in 32 bits before they are widened.
const COUNT_BLOCK: usize = 1 << 16;

/// Largest magnitude as bits: that of an infinity, or above, where a value is not finite.
#[inline(always)]
pub(super) fn largest_bits(x: &[f32]) -> u32 {
    // The exponent bits decide; a maximum over them vectorizes, a search does not.
    let mut largest = 0;
    for v in x {
        largest = largest.max(v.to_bits() & 0x7fff_ffff);
    }
    largest
}

/// `clamp(round(x / s))`.
#[inline(always)]
pub(super) fn quantize<Q: QInt>(x: &[f32], grid: Grid, rounding: Rounding, out: &mut [Q]) {
    round_each(x, grid, rounding, out, |q, y| *y = Q::saturate_i32(q));
}

/// `clamp(round(x / s)) * s`.
#[inline(always)]
pub(super) fn fake_quantize(x: &[f32], grid: Grid, rounding: Rounding, out: &mut [f32]) {
    round_each(x, grid, rounding, out, |q, y| *y = grid.real(q));
}

/// [`fake_quantize`] over its own input.
#[inline(always)]
pub(super) fn fake_quantize_in_place(x: &mut [f32], grid: Grid, rounding: Rounding) {
    match rounding {
        Rounding::HalfEven => {
            for v in x {
                *v = grid.real(grid.half_even(*v));
            }
        }
        Rounding::Floor => {
            for v in x {
                *v = grid.real(grid.half_up(*v));
            }
        }
    }
}

/// [`quantize`], and what it lost.
#[inline(always)]
pub(super) fn quantize_counted<Q: QInt>(
    x: &[f32],
    grid: Grid,
    rounding: Rounding,
    out: &mut [Q],
) -> QuantizeCounts {
    let mut counts = QuantizeCounts::default();
    for (x, out) in x.chunks(COUNT_BLOCK).zip(out.chunks_mut(COUNT_BLOCK)) {
        let (mut zero, mut clipped) = (0u32, 0u32);
        round_each(x, grid, rounding, out, |q, y| {
            zero = zero.wrapping_add(u32::from(q == 0));
            clipped = clipped.wrapping_add(u32::from(grid.clips(q)));
            *y = Q::saturate_i32(q);
        });
        counts.zero += u64::from(zero);
        counts.clipped += u64::from(clipped);
    }
    counts
}

/// What [`quantize`] would lose.
#[inline(always)]
pub(super) fn count(x: &[f32], grid: Grid, rounding: Rounding) -> QuantizeCounts {
    let mut counts = QuantizeCounts::default();
    for x in x.chunks(COUNT_BLOCK) {
        let (mut zero, mut clipped) = (0u32, 0u32);
        // An output without size is never written.
        round_each(
            x,
            grid,
            rounding,
            &mut [(); COUNT_BLOCK][..x.len()],
            |q, ()| {
                zero = zero.wrapping_add(u32::from(q == 0));
                clipped = clipped.wrapping_add(u32::from(grid.clips(q)));
            },
        );
        counts.zero += u64::from(zero);
        counts.clipped += u64::from(clipped);
    }
    counts
}

/// `q * s`.
#[inline(always)]
pub(super) fn dequantize<Q: QInt>(q: &[Q], scale: f32, out: &mut [f32]) {
    for (y, &q) in out.iter_mut().zip(q) {
        *y = q.to_i32() as f32 * scale;
    }
}

/// `f(rounded quotient, output)` for each value, one loop for each rounding.
#[inline(always)]
fn round_each<Y>(
    x: &[f32],
    grid: Grid,
    rounding: Rounding,
    out: &mut [Y],
    mut f: impl FnMut(i32, &mut Y),
) {
    match rounding {
        Rounding::HalfEven => {
            for (y, &v) in out.iter_mut().zip(x) {
                f(grid.half_even(v), y);
            }
        }
        Rounding::Floor => {
            for (y, &v) in out.iter_mut().zip(x) {
                f(grid.half_up(v), y);
            }
        }
    }
}

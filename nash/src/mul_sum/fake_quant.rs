//! The VALIDATION twin of the fused mul+sum: f32 in, f32 out, every product fake-quantized.

use super::MulSumCounts;
#[cfg(target_arch = "x86_64")]
use super::fake_quant_avx512;
use crate::error::ShapeError;
use crate::linear::GemmShape;
use crate::quantize::round_half_even;
use crate::scale::Scale;
#[cfg(target_arch = "x86_64")]
use crate::simd::Level;
use crate::simd::{Isa, for_each_isa};

/// One step outside of int16 on either side, so that clipping stays visible.
pub(super) const LOW: f32 = i16::MIN as f32 - 1.0;
pub(super) const HIGH: f32 = i16::MAX as f32 + 1.0;

/// Products whose integer sum stays in i32: 2^14 * 2^15 < 2^31.
const BLOCK: usize = 1 << 14;

/// Weight rows that stay in the first-level cache while all rows of x pass by.
const ROW_BLOCK: usize = 8;

/// `out[n, o] = s_m * sum_k clamp(rne(x[n, k] * w[o, k] / s_m))` for x and w that are already
/// fake-quantized; the output is not (its own fake quant is the caller's next step).
///
/// Product and quotient are f32, as an f32 graph computes them. The sum is taken over the integers
/// and is exact, and only then multiplied by s_m in f64 and rounded to f32 once `[our]`: an f32 sum
/// of `q * s_m` depends on its order, this one does not.
///
/// Values that are not finite give an unspecified number: fake-quantized inputs have none.
///
/// # Errors
/// [`ShapeError::Length`] for a buffer that does not fit `shape`.
pub fn mul_sum_fake_quant(
    x: &[f32],
    w: &[f32],
    shape: GemmShape,
    product: Scale,
    out: &mut [f32],
) -> Result<MulSumCounts, ShapeError> {
    mul_sum_fake_quant_on(Isa::best(), x, w, shape, product, out)
}

/// [`mul_sum_fake_quant`] on an instruction set of the caller's choice.
///
/// # Errors
/// As [`mul_sum_fake_quant`].
pub fn mul_sum_fake_quant_on(
    isa: Isa,
    x: &[f32],
    w: &[f32],
    shape: GemmShape,
    product: Scale,
    out: &mut [f32],
) -> Result<MulSumCounts, ShapeError> {
    shape.check(x.len(), w.len(), out.len())?;
    Ok(match isa.level() {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512(token) => fused(x, w, shape, product, out, |x, w, scale| {
            fake_quant_avx512::sum_row(token, x, w, scale)
        }),
        _ => fused(x, w, shape, product, out, |x, w, scale| {
            sum_row_on(isa, x, w, scale)
        }),
    })
}

fn fused(
    x: &[f32],
    w: &[f32],
    GemmShape { n, k, o }: GemmShape,
    product: Scale,
    out: &mut [f32],
    sum_row: impl Fn(&[f32], &[f32], f32) -> (i64, MulSumCounts),
) -> MulSumCounts {
    let mut counts = MulSumCounts::default();
    for block in (0..o).step_by(ROW_BLOCK) {
        for row in 0..n {
            let x_row = &x[row * k..(row + 1) * k];
            for channel in block..o.min(block + ROW_BLOCK) {
                let w_row = &w[channel * k..(channel + 1) * k];
                let (sum, row_counts) = sum_row(x_row, w_row, product.get());
                counts = counts.merge(row_counts);
                out[row * o + channel] = (sum as f64 * product.to_f64()) as f32;
            }
        }
    }
    counts
}

for_each_isa! {
    fn sum_row_on(x: &[f32], w: &[f32], scale: f32) -> (i64, MulSumCounts) {
        portable: sum_row,
        vector: sum_row,
    }
}

/// Scalar reference: the sum of the clamped, rounded quotients of two rows.
#[inline(always)]
fn sum_row(x: &[f32], w: &[f32], scale: f32) -> (i64, MulSumCounts) {
    let mut acc = 0i64;
    let mut counts = MulSumCounts::default();
    for (x, w) in x.chunks(BLOCK).zip(w.chunks(BLOCK)) {
        let (mut sum, mut zero, mut clipped) = (0i32, 0u32, 0u32);
        for (&a, &b) in x.iter().zip(w) {
            let q = round_half_even((a * b / scale).clamp(LOW, HIGH));
            let saturated = q.clamp(i16::MIN.into(), i16::MAX.into());
            // As in the integer kernel: nothing wraps, and nothing is checked in debug builds.
            sum = sum.wrapping_add(saturated);
            zero = zero.wrapping_add(u32::from(q == 0));
            clipped = clipped.wrapping_add(u32::from(q != saturated));
        }
        acc += i64::from(sum);
        counts.zero += u64::from(zero);
        counts.clipped += u64::from(clipped);
    }
    (acc, counts)
}

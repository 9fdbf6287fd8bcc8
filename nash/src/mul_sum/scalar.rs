//! Scalar reference of the fused mul+sum. Buffers are checked by the caller.
//!
//! Wrapping operations only keep debug builds free of checks that would undo vectorization; nothing
//! wraps, by the bounds given with `BLOCK` and [`OfProduct`].

use super::MulSumCounts;
use crate::linear::GemmShape;
use crate::requant::Rescale;
use crate::requant::narrow::OfProduct;

/// Requantized products that are summed in i32 before they are widened: 2^14 * 2^15 < 2^31.
const BLOCK: usize = 1 << 14;

/// Weight rows that stay in the first-level cache while all rows of x pass by.
const ROW_BLOCK: usize = 8;

/// See [`super::mul_sum`], which checks the buffers first.
///
/// # Panics
/// Where a buffer is smaller than `shape` asks for.
pub fn mul_sum(
    x: &[i16],
    w: &[i16],
    shape: GemmShape,
    product: Rescale,
    sum: Rescale,
    out: &mut [i16],
) -> MulSumCounts {
    match OfProduct::new(product) {
        _ if product.shift() >= OfProduct::ZERO_SHIFT => {
            out.fill(0);
            MulSumCounts {
                zero: (shape.n * shape.o) as u64 * shape.k as u64,
                clipped: 0,
            }
        }
        Some(narrow) => by_rows(x, w, shape, product, sum, out, |p| narrow.apply(p)),
        // Ratios of about 1/4 and more: products far beyond int16, rare and slow.
        None => by_rows(x, w, shape, product, sum, out, |p| wide(product, p)),
    }
}

#[inline(always)]
fn by_rows(
    x: &[i16],
    w: &[i16],
    shape: GemmShape,
    product: Rescale,
    sum: Rescale,
    out: &mut [i16],
    rescale: impl Fn(i32) -> i32,
) -> MulSumCounts {
    let k = shape.k;
    fused(x, w, shape, product, sum, out, |row, channel, clips| {
        let x_row = &x[row * k..(row + 1) * k];
        let w_row = &w[channel * k..(channel + 1) * k];
        // Most pairs of rows cannot clip, and then nothing needs to be clamped.
        if clips {
            sum_row::<true>(x_row, w_row, &rescale)
        } else {
            sum_row::<false>(x_row, w_row, &rescale)
        }
    })
}

/// Result clamped just outside of int16, so that clipping stays visible.
#[inline(always)]
fn wide(product: Rescale, p: i32) -> i32 {
    product
        .apply(p.into())
        .clamp(i64::from(i16::MIN) - 1, i64::from(i16::MAX) + 1) as i32
}

/// The loops over rows and channels. `sum_row(n, o, clips)` gives the sum and counts of a row pair,
/// `clips` telling whether a product of the two can leave int16.
#[inline(always)]
pub(super) fn fused(
    x: &[i16],
    w: &[i16],
    GemmShape { n, k, o }: GemmShape,
    product: Rescale,
    sum: Rescale,
    out: &mut [i16],
    sum_row: impl Fn(usize, usize, bool) -> (i64, MulSumCounts),
) -> MulSumCounts {
    let mut counts = MulSumCounts::default();
    let (x_amax, w_amax) = (row_amax(x, n, k), row_amax(w, o, k));
    for block in (0..o).step_by(ROW_BLOCK) {
        for row in 0..n {
            for channel in block..o.min(block + ROW_BLOCK) {
                let clips = !fits(x_amax[row] * w_amax[channel], product);
                let (acc, row_counts) = sum_row(row, channel, clips);
                counts = counts.merge(row_counts);
                out[row * o + channel] = sum.requant(acc);
            }
        }
    }
    counts
}

/// Largest magnitude in each row.
pub(super) fn row_amax(rows: &[i16], count: usize, k: usize) -> Vec<i64> {
    let amax = |row: &[i16]| {
        row.iter()
            .map(|v| v.unsigned_abs())
            .max()
            .unwrap_or(0)
            .into()
    };
    (0..count)
        .map(|row| amax(&rows[row * k..(row + 1) * k]))
        .collect()
}

/// Whether no product up to this magnitude can leave int16.
pub(super) fn fits(amax: i64, product: Rescale) -> bool {
    product.apply(amax) <= i16::MAX.into() && product.apply(-amax) >= i16::MIN.into()
}

#[inline(always)]
fn sum_row<const CLIPS: bool>(
    x: &[i16],
    w: &[i16],
    rescale: &impl Fn(i32) -> i32,
) -> (i64, MulSumCounts) {
    let mut acc = 0i64;
    let mut counts = MulSumCounts::default();
    for (x, w) in x.chunks(BLOCK).zip(w.chunks(BLOCK)) {
        let (mut sum, mut zero, mut clipped) = (0i32, 0u32, 0u32);
        for (&a, &b) in x.iter().zip(w) {
            let q = rescale(i32::from(a).wrapping_mul(i32::from(b)));
            zero = zero.wrapping_add(u32::from(q == 0));
            if CLIPS {
                let saturated = q.clamp(i16::MIN.into(), i16::MAX.into());
                sum = sum.wrapping_add(saturated);
                clipped = clipped.wrapping_add(u32::from(q != saturated));
            } else {
                sum = sum.wrapping_add(q);
            }
        }
        acc += i64::from(sum);
        counts.zero += u64::from(zero);
        counts.clipped += u64::from(clipped);
    }
    (acc, counts)
}

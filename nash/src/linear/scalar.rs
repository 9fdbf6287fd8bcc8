//! Scalar reference of the integer GEMM: exact dot products of int8 and int16 rows. Knows no
//! bias, no scale, no output format.

use super::GemmShape;
use crate::dtype::QInt;

/// Weight rows that stay in the first-level cache while all rows of x pass by.
const ROW_BLOCK: usize = 8;

/// Calls `emit(n, o, sum_k x[n, k] * w[o, k])` once for each output.
///
/// The order of the calls is unspecified.
///
/// # Panics
/// Where a buffer is smaller than `shape` asks for; the callers check that first.
pub fn gemm<A: QInt, W: QInt>(
    x: &[A],
    w: &[W],
    shape: GemmShape,
    mut emit: impl FnMut(usize, usize, i64),
) {
    let GemmShape { n, k, o } = shape;
    for block in (0..o).step_by(ROW_BLOCK) {
        for row in 0..n {
            let x_row = &x[row * k..(row + 1) * k];
            for channel in block..o.min(block + ROW_BLOCK) {
                emit(row, channel, dot(x_row, &w[channel * k..(channel + 1) * k]));
            }
        }
    }
}

/// Exact `sum x[i] * w[i]` over the shorter of the two.
///
/// Wrapping operations only keep debug builds free of checks that would undo vectorization; nothing
/// wraps: a product fits in i32, and so does the sum of a block.
pub fn dot<A: QInt, W: QInt>(x: &[A], w: &[W]) -> i64 {
    let product = |(a, b): (&A, &W)| a.to_i32().wrapping_mul(b.to_i32());
    // As many products as fit in i32 together are summed there, which is the form that vectorizes;
    // two int16 operands leave no room for a second product.
    let block = const { safe_block::<A, W>() };
    if block == 1 {
        return x
            .iter()
            .zip(w)
            .fold(0, |sum, pair| sum.wrapping_add(product(pair).into()));
    }
    x.chunks(block).zip(w.chunks(block)).fold(0, |sum, (a, b)| {
        let partial = a
            .iter()
            .zip(b)
            .fold(0i32, |sum, pair| sum.wrapping_add(product(pair)));
        sum.wrapping_add(partial.into())
    })
}

/// Products of the two formats whose sum cannot exceed 2^30.
const fn safe_block<A: QInt, W: QInt>() -> usize {
    1 << (32 - A::DTYPE.bits() - W::DTYPE.bits())
}

//! Sums and maxima of one row, and of rows into columns, for each instruction set. Knows no axes.

use crate::dtype::QInt;
use crate::simd::for_each_isa;

/// Values whose sum stays in i32: 2^15 * 2^15 = 2^30.
const BLOCK: usize = 1 << 15;

for_each_isa! {
    /// Exact sum of a row.
    pub(super) fn sum<A: QInt>(row: &[A]) -> i64 {
        portable: sum_reference,
        vector: sum_blocks,
    }
}

/// Scalar reference.
#[inline(always)]
fn sum_reference<A: QInt>(row: &[A]) -> i64 {
    row.iter().map(|q| q.to_i64()).sum()
}

#[inline(always)]
fn sum_blocks<A: QInt>(row: &[A]) -> i64 {
    let mut sum = 0;
    for block in row.chunks(BLOCK) {
        let mut partial = 0i32;
        for &q in block {
            partial = partial.wrapping_add(q.to_i32());
        }
        sum += i64::from(partial);
    }
    sum
}

for_each_isa! {
    /// `sums[i] += row[i]`.
    pub(super) fn add_to<A: QInt>(row: &[A], sums: &mut [i64]) {
        portable: add_each,
        vector: add_each,
    }
}

#[inline(always)]
fn add_each<A: QInt>(row: &[A], sums: &mut [i64]) {
    for (sum, &q) in sums.iter_mut().zip(row) {
        // 2^63 values would be needed for it to wrap.
        *sum = sum.wrapping_add(q.to_i64());
    }
}

for_each_isa! {
    /// Exact sum of products of two rows of one length.
    pub(super) fn dot<A: QInt, B: QInt>(a: &[A], b: &[B]) -> i64 {
        portable: dot_reference,
        vector: dot_blocks,
    }
}

/// Scalar reference.
#[inline(always)]
fn dot_reference<A: QInt, B: QInt>(a: &[A], b: &[B]) -> i64 {
    a.iter().zip(b).map(|(a, b)| a.to_i64() * b.to_i64()).sum()
}

/// A product of two int16 fits i32; sums of two do not always, so each is widened.
#[inline(always)]
fn dot_blocks<A: QInt, B: QInt>(a: &[A], b: &[B]) -> i64 {
    let mut sum = 0i64;
    for (a, b) in a.iter().zip(b) {
        sum = sum.wrapping_add(i64::from(a.to_i32().wrapping_mul(b.to_i32())));
    }
    sum
}

for_each_isa! {
    /// `sums[i] += a[i] * b[i]`.
    pub(super) fn add_products_to<A: QInt, B: QInt>(a: &[A], b: &[B], sums: &mut [i64]) {
        portable: add_each_product,
        vector: add_each_product,
    }
}

#[inline(always)]
fn add_each_product<A: QInt, B: QInt>(a: &[A], b: &[B], sums: &mut [i64]) {
    for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
        // 2^33 products would be needed for it to wrap.
        *sum = sum.wrapping_add(a.to_i64() * b.to_i64());
    }
}

for_each_isa! {
    /// The larger of `max` and the row's largest value; the first of equals.
    pub(super) fn max<T: Ordered>(row: &[T], max: Option<T>) -> Option<T> {
        portable: max_row,
        vector: max_row,
    }
}

#[inline(always)]
fn max_row<T: Ordered>(row: &[T], max: Option<T>) -> Option<T> {
    let mut max = max.or(row.first().copied())?;
    for &v in row {
        max = if max >= v { max } else { v };
    }
    Some(max)
}

for_each_isa! {
    /// The same for each column.
    pub(super) fn max_to<T: Ordered>(row: &[T], maxima: &mut [Option<T>]) {
        portable: max_each,
        vector: max_each,
    }
}

#[inline(always)]
fn max_each<T: Ordered>(row: &[T], maxima: &mut [Option<T>]) {
    for (max, &v) in maxima.iter_mut().zip(row) {
        *max = match *max {
            Some(max) if max >= v => Some(max),
            _ => Some(v),
        };
    }
}

/// What a maximum needs, under one name.
pub(super) trait Ordered: Copy + PartialOrd {}
impl<T: Copy + PartialOrd> Ordered for T {}

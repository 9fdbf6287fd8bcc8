//! One row pair of the float mul+sum in AVX-512: the same product, quotient and rounding as the
//! scalar one, so the same bits. Knows no shapes.
#![allow(unsafe_code, reason = "vector instructions behind proven features")]

use std::arch::x86_64::{
    __m512, __m512i, _mm512_cmpgt_epi32_mask, _mm512_cmplt_epi32_mask, _mm512_cvtps_epi32,
    _mm512_div_ps, _mm512_dpwssd_epi32, _mm512_loadu_ps, _mm512_maskz_loadu_ps, _mm512_max_ps,
    _mm512_min_ps, _mm512_mul_ps, _mm512_packs_epi32, _mm512_reduce_add_epi32, _mm512_set1_epi16,
    _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_si512, _mm512_test_epi16_mask,
};

use super::MulSumCounts;
use super::fake_quant::{HIGH, LOW};
use crate::simd::Avx512;

const LANES: usize = 16;

/// Products of one step, two registers of f32.
const STEP: usize = 2 * LANES;

/// Products whose sum stays in i32, across the lanes as well: 2^15 * 2^15 = 2^30.
const BLOCK: usize = 1 << 15;

/// See [`super::fake_quant::sum_row`].
pub(super) fn sum_row(_: Avx512, x: &[f32], w: &[f32], scale: f32) -> (i64, MulSumCounts) {
    let len = x.len().min(w.len());
    let mut acc = 0;
    let mut counts = MulSumCounts::default();
    for (x, w) in x[..len].chunks(BLOCK).zip(w[..len].chunks(BLOCK)) {
        // SAFETY: the token proves the features.
        let (sum, more) = unsafe { block(x, w, scale) };
        acc += i64::from(sum);
        counts = counts.merge(more);
    }
    (acc, counts)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni,popcnt")]
fn block(x: &[f32], w: &[f32], scale: f32) -> (i32, MulSumCounts) {
    let (scale, one) = (_mm512_set1_ps(scale), _mm512_set1_epi16(1));
    let mut sum = _mm512_setzero_si512();
    let mut nonzero = 0;
    let mut clipped = 0;
    for (x, w) in x.chunks(STEP).zip(w.chunks(STEP)) {
        let [x, w] = [load(x), load(w)];
        let q = [quotient(x[0], w[0], scale), quotient(x[1], w[1], scale)];
        clipped += outside(q[0]) + outside(q[1]);
        let q = _mm512_packs_epi32(q[0], q[1]);
        sum = _mm512_dpwssd_epi32(sum, q, one);
        nonzero += u64::from(_mm512_test_epi16_mask(q, q).count_ones());
    }
    let counts = MulSumCounts {
        // What is missing of the last step is 0 / s = 0, and not counted.
        zero: x.len() as u64 - nonzero,
        clipped,
    };
    (_mm512_reduce_add_epi32(sum), counts)
}

/// The rounded quotient, at most one step outside of int16. The conversion rounds half to even,
/// which is the default of the control register, and what Rust assumes of it.
#[inline]
#[target_feature(enable = "avx512f")]
fn quotient(x: __m512, w: __m512, scale: __m512) -> __m512i {
    let v = _mm512_div_ps(_mm512_mul_ps(x, w), scale);
    let clamped = _mm512_min_ps(_mm512_max_ps(v, _mm512_set1_ps(LOW)), _mm512_set1_ps(HIGH));
    _mm512_cvtps_epi32(clamped)
}

/// How many values are outside of int16.
#[inline]
#[target_feature(enable = "avx512f,popcnt")]
fn outside(v: __m512i) -> u64 {
    let above = _mm512_cmpgt_epi32_mask(v, _mm512_set1_epi32(i16::MAX.into()));
    let below = _mm512_cmplt_epi32_mask(v, _mm512_set1_epi32(i16::MIN.into()));
    (above | below).count_ones().into()
}

/// Up to 32 values, the missing ones 0.
#[inline]
#[target_feature(enable = "avx512f")]
fn load(values: &[f32]) -> [__m512; 2] {
    let (low, high) = values.split_at(values.len().min(LANES));
    [load_half(low), load_half(high)]
}

/// Up to 16 values, the missing ones 0.
#[inline]
#[target_feature(enable = "avx512f")]
fn load_half(values: &[f32]) -> __m512 {
    if let Some(all) = values.first_chunk::<LANES>() {
        // SAFETY: 64 readable bytes; the load asks for no alignment.
        return unsafe { _mm512_loadu_ps(all.as_ptr()) };
    }
    let some = (1u16 << values.len()) - 1;
    // SAFETY: masked elements are not read; those below `values.len()` are readable.
    unsafe { _mm512_maskz_loadu_ps(some, values.as_ptr()) }
}

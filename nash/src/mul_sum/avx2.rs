//! The fused mul+sum in AVX2, one row pair at a time, for product shifts 17 to 45: the algebra of
//! [`super::halves`] in `vpmulhw` and `vpmaddwd`, 16 products in one step. Knows no shapes.
#![allow(unsafe_code, reason = "vector instructions behind proven features")]

use std::arch::x86_64::{
    __m128i, __m256i, _mm_cvtsi32_si128, _mm256_add_epi32, _mm256_cmpeq_epi16, _mm256_cmpgt_epi32,
    _mm256_loadu_si256, _mm256_madd_epi16, _mm256_mulhi_epi16, _mm256_or_si256, _mm256_packs_epi32,
    _mm256_set1_epi16, _mm256_set1_epi32, _mm256_setzero_si256, _mm256_sra_epi32,
    _mm256_storeu_si256, _mm256_sub_epi32, _mm256_unpackhi_epi16, _mm256_unpacklo_epi16,
};

use super::MulSumCounts;
use super::halves::{Rounding, Row};
use crate::simd::Avx2;

/// Products in one step.
const LANES: usize = 16;

/// Products whose sums and counts stay in i32 in every lane: 2^14 steps of 2^16 are 2^30.
const BLOCK: usize = LANES << 14;

/// Sum of the requantized products, and what happened to them. Nothing is compared with the ends of
/// int16 where `clips` says that nothing can leave it.
pub(super) fn sum_row(
    _: Avx2,
    row: Row<'_>,
    rounding: Rounding,
    clips: bool,
) -> (i64, MulSumCounts) {
    let mut acc = 0;
    let mut counts = MulSumCounts::default();
    for row in row.blocks(BLOCK) {
        let sums = if clips {
            // SAFETY: the token proves the feature.
            unsafe { block::<true>(row, rounding) }
        } else {
            // SAFETY: as above.
            unsafe { block::<false>(row, rounding) }
        };
        acc += sums.total;
        counts = counts.merge(sums.counts);
    }
    (acc, counts)
}

struct BlockSums {
    total: i64,
    counts: MulSumCounts,
}

#[target_feature(enable = "avx2")]
fn block<const CLIPS: bool>(row: Row<'_>, rounding: Rounding) -> BlockSums {
    let mut lanes = Lanes::new(rounding);
    let (x, x_rest) = row.x.as_chunks::<LANES>();
    let (hi, hi_rest) = row.hi.as_chunks::<LANES>();
    let (lo, lo_rest) = row.lo.as_chunks::<LANES>();
    for ((x, hi), lo) in x.iter().zip(hi).zip(lo) {
        lanes.step::<CLIPS>(load(x), load(hi), load(lo));
    }
    let missing = if x_rest.is_empty() {
        0
    } else {
        let [x, hi, lo] = [x_rest, hi_rest, lo_rest].map(|rest| load(&padded(rest)));
        lanes.step::<CLIPS>(x, hi, lo);
        LANES - x_rest.len()
    };
    BlockSums {
        total: added(lanes.sum),
        counts: MulSumCounts {
            // What is missing of the last step is 0, and was counted.
            zero: added(lanes.zero) as u64 - missing as u64,
            clipped: added(lanes.clipped) as u64,
        },
    }
}

/// Constants, and what is added up in every lane.
struct Lanes {
    half: __m256i,
    shift: __m128i,
    sum: __m256i,
    zero: __m256i,
    clipped: __m256i,
}

impl Lanes {
    #[inline]
    #[target_feature(enable = "avx2")]
    fn new(Rounding { half, shift }: Rounding) -> Self {
        Self {
            half: _mm256_set1_epi32(half),
            shift: _mm_cvtsi32_si128(shift),
            sum: _mm256_setzero_si256(),
            zero: _mm256_setzero_si256(),
            clipped: _mm256_setzero_si256(),
        }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn step<const CLIPS: bool>(&mut self, x: __m256i, hi: __m256i, lo: __m256i) {
        let one = _mm256_set1_epi16(1);
        let low = _mm256_mulhi_epi16(x, lo);
        // The pairs (x, x * lo >> 16) and (hi, 1).
        let pairs = [
            (
                _mm256_unpacklo_epi16(x, low),
                _mm256_unpacklo_epi16(hi, one),
            ),
            (
                _mm256_unpackhi_epi16(x, low),
                _mm256_unpackhi_epi16(hi, one),
            ),
        ];
        let wide = pairs.map(|(a, b)| {
            let bracket = _mm256_add_epi32(_mm256_madd_epi16(a, b), self.half);
            _mm256_sra_epi32(bracket, self.shift)
        });
        if CLIPS {
            for v in wide {
                self.clipped = _mm256_sub_epi32(self.clipped, outside(v));
            }
        }
        // Saturates, and undoes the order of the unpacking.
        let q = _mm256_packs_epi32(wide[0], wide[1]);
        self.sum = _mm256_add_epi32(self.sum, _mm256_madd_epi16(q, one));
        // -1 for each zero, so a pair of them is -1 * -1 twice.
        let zero = _mm256_cmpeq_epi16(q, _mm256_setzero_si256());
        self.zero = _mm256_add_epi32(self.zero, _mm256_madd_epi16(zero, zero));
    }
}

/// -1 for each value outside of int16.
#[inline]
#[target_feature(enable = "avx2")]
fn outside(v: __m256i) -> __m256i {
    let above = _mm256_cmpgt_epi32(v, _mm256_set1_epi32(i16::MAX.into()));
    let below = _mm256_cmpgt_epi32(_mm256_set1_epi32(i16::MIN.into()), v);
    _mm256_or_si256(above, below)
}

/// Sum over the lanes.
#[inline]
#[target_feature(enable = "avx2")]
fn added(v: __m256i) -> i64 {
    let mut lanes = [0i32; LANES / 2];
    // SAFETY: 32 writable bytes; the store asks for no alignment.
    unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), v) };
    lanes.iter().map(|&v| i64::from(v)).sum()
}

/// Values of the last step, the missing ones 0.
fn padded(rest: &[i16]) -> [i16; LANES] {
    let mut all = [0; LANES];
    all[..rest.len()].copy_from_slice(rest);
    all
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(from: &[i16; LANES]) -> __m256i {
    // SAFETY: 32 readable bytes; the load asks for no alignment.
    unsafe { _mm256_loadu_si256(from.as_ptr().cast()) }
}

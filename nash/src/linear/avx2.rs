//! The register tile of the integer GEMM in AVX2: 4 rows by 16 channels in 8 accumulators, each fed
//! by one `vpmaddwd` and one addition for a pair along k.
#![allow(unsafe_code, reason = "vector instructions behind proven features")]

use std::arch::x86_64::{
    __m256i, _mm256_add_epi32, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_set1_epi32,
    _mm256_setzero_si256, _mm256_storeu_si256,
};

use super::{GemmShape, tiled};
use crate::dtype::QInt;
use crate::simd::Avx2;

const ROWS: usize = 4;
const LANES: usize = 8;
const CHANNELS: usize = 2 * LANES;

/// See [`super::gemm`].
pub(super) fn gemm<A: QInt, W: QInt>(
    _: Avx2,
    x: &[A],
    w: &[W],
    shape: GemmShape,
    emit: impl FnMut(usize, usize, &[i64]),
) {
    // Few rows must not pay for four.
    tiled::gemm(
        x,
        w,
        shape,
        |rows, x, w, sums| match rows {
            // SAFETY: the token proves the feature.
            1 => unsafe { tile::<1>(x, w, sums) },
            // SAFETY: as above.
            2 => unsafe { tile::<2>(x, w, sums) },
            // SAFETY: as above.
            _ => unsafe { tile::<ROWS>(x, w, sums) },
        },
        emit,
    );
}

#[target_feature(enable = "avx2")]
fn tile<const R: usize>(
    x: &[[i32; ROWS]],
    w: &[[i32; CHANNELS]],
    sums: &mut [[i64; CHANNELS]; ROWS],
) {
    let blocks = x.chunks(tiled::SAFE_PAIRS).zip(w.chunks(tiled::SAFE_PAIRS));
    for (x, w) in blocks {
        let mut acc = [[_mm256_setzero_si256(); 2]; R];
        for (x, w) in x.iter().zip(w) {
            let (w, _) = w.as_chunks::<LANES>();
            let w = [load(&w[0]), load(&w[1])];
            for (acc, &pair) in acc.iter_mut().zip(x) {
                let pair = _mm256_set1_epi32(pair);
                acc[0] = _mm256_add_epi32(acc[0], _mm256_madd_epi16(pair, w[0]));
                acc[1] = _mm256_add_epi32(acc[1], _mm256_madd_epi16(pair, w[1]));
            }
        }
        for (sums, acc) in sums.iter_mut().zip(acc) {
            for (sums, acc) in sums.chunks_exact_mut(LANES).zip(acc) {
                let mut block = [0; LANES];
                store(&mut block, acc);
                for (sum, v) in sums.iter_mut().zip(block) {
                    *sum += i64::from(v);
                }
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(from: &[i32; LANES]) -> __m256i {
    // SAFETY: 32 readable bytes; the load asks for no alignment.
    unsafe { _mm256_loadu_si256(from.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(to: &mut [i32; LANES], v: __m256i) {
    // SAFETY: 32 writable bytes; the store asks for no alignment.
    unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), v) }
}

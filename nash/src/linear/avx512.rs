//! The register tile of the integer GEMM in AVX-512 with VNNI: 8 rows by 32 channels in 16
//! accumulators, each fed by one `vpdpwssd` for a pair along k.
#![allow(unsafe_code, reason = "vector instructions behind proven features")]

use std::arch::x86_64::{
    __m512i, _mm512_dpwssd_epi32, _mm512_loadu_si512, _mm512_set1_epi32, _mm512_setzero_si512,
    _mm512_storeu_si512,
};

use super::{GemmShape, tiled};
use crate::dtype::QInt;
use crate::simd::Avx512;

const ROWS: usize = 8;
const LANES: usize = 16;
const CHANNELS: usize = 2 * LANES;

/// See [`super::gemm`].
pub(super) fn gemm<A: QInt, W: QInt>(
    _: Avx512,
    x: &[A],
    w: &[W],
    shape: GemmShape,
    emit: impl FnMut(usize, usize, &[i64]),
) {
    // Few rows must not pay for eight.
    tiled::gemm(
        x,
        w,
        shape,
        |rows, x, w, sums| match rows {
            // SAFETY: the token proves the features.
            1 => unsafe { tile::<1>(x, w, sums) },
            // SAFETY: as above.
            2 => unsafe { tile::<2>(x, w, sums) },
            // SAFETY: as above.
            3..=4 => unsafe { tile::<4>(x, w, sums) },
            // SAFETY: as above.
            _ => unsafe { tile::<ROWS>(x, w, sums) },
        },
        emit,
    );
}

#[target_feature(enable = "avx512f,avx512vnni")]
fn tile<const R: usize>(
    x: &[[i32; ROWS]],
    w: &[[i32; CHANNELS]],
    sums: &mut [[i64; CHANNELS]; ROWS],
) {
    let blocks = x.chunks(tiled::SAFE_PAIRS).zip(w.chunks(tiled::SAFE_PAIRS));
    for (x, w) in blocks {
        let mut acc = [[_mm512_setzero_si512(); 2]; R];
        for (x, w) in x.iter().zip(w) {
            let (w, _) = w.as_chunks::<LANES>();
            let w = [load(&w[0]), load(&w[1])];
            for (acc, &pair) in acc.iter_mut().zip(x) {
                let pair = _mm512_set1_epi32(pair);
                acc[0] = _mm512_dpwssd_epi32(acc[0], pair, w[0]);
                acc[1] = _mm512_dpwssd_epi32(acc[1], pair, w[1]);
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
#[target_feature(enable = "avx512f")]
fn load(from: &[i32; LANES]) -> __m512i {
    // SAFETY: 64 readable bytes; the load asks for no alignment.
    unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(to: &mut [i32; LANES], v: __m512i) {
    // SAFETY: 64 writable bytes; the store asks for no alignment.
    unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), v) }
}

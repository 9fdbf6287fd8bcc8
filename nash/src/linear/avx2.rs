//! The register tile of the integer GEMM in AVX2: 4 rows by 16 channels in 8 accumulators, each fed
//! by one `vpmaddwd` and one addition for a pair along k; and the packing of w, a transposition of 8
//! by 8 pairs in registers.
#![allow(unsafe_code, reason = "vector instructions behind proven features")]

use std::arch::x86_64::{
    __m256i, _mm256_add_epi32, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_permute2x128_si256,
    _mm256_set1_epi32, _mm256_setzero_si256, _mm256_storeu_si256, _mm256_unpackhi_epi32,
    _mm256_unpackhi_epi64, _mm256_unpacklo_epi32, _mm256_unpacklo_epi64,
};

use super::planes::{self, Plane};
use super::tiled::{self, Tile};
use crate::dtype::QInt;
use crate::simd::Avx2;

const ROWS: usize = 4;
const LANES: usize = 8;
const CHANNELS: usize = 2 * LANES;

impl Tile for Avx2 {
    const ROWS: usize = ROWS;
    const CHANNELS: usize = CHANNELS;

    type Unit = i32;
    type Ready = Self;

    fn ready(self) -> Self {
        self
    }

    fn add(_: &Self, x: &[i32], rows: usize, w: &[i32], _: [Plane; 2], sums: &mut [i64]) {
        // Few rows must not pay for four.
        match rows {
            // SAFETY: the token proves the feature.
            1 => unsafe { tile::<1>(x, w, sums) },
            // SAFETY: as above.
            2 => unsafe { tile::<2>(x, w, sums) },
            // SAFETY: as above.
            _ => unsafe { tile::<ROWS>(x, w, sums) },
        }
    }

    fn pack<W: QInt>(self, rows: &[W], k: usize, plane: Plane, out: &mut [i32]) {
        match plane {
            // SAFETY: the token proves the feature.
            Plane::Whole => unsafe { pack(rows, k, planes::whole, out) },
            // SAFETY: as above.
            Plane::Hi => unsafe { pack(rows, k, planes::hi, out) },
            // SAFETY: as above.
            Plane::Lo => unsafe { pack(rows, k, planes::lo, out) },
        }
    }
}

/// See [`Tile::add`], for up to R rows.
#[target_feature(enable = "avx2")]
fn tile<const R: usize>(x: &[i32], w: &[i32], sums: &mut [i64]) {
    let (w, _) = w.as_chunks::<CHANNELS>();
    let (sums, _) = sums.as_chunks_mut::<CHANNELS>();
    for (i, block) in w.chunks(tiled::SAFE_PAIRS).enumerate() {
        let x: [&[i32]; R] = std::array::from_fn(|r| {
            let start = r * w.len() + i * tiled::SAFE_PAIRS;
            &x[start..start + block.len()]
        });
        let mut acc = [[_mm256_setzero_si256(); 2]; R];
        for (j, w) in block.iter().enumerate() {
            let (w, _) = w.as_chunks::<LANES>();
            let w = [load(&w[0]), load(&w[1])];
            for (acc, x) in acc.iter_mut().zip(x) {
                let pair = _mm256_set1_epi32(x[j]);
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

/// See [`Tile::pack`].
#[target_feature(enable = "avx2")]
fn pack<W: QInt>(rows: &[W], k: usize, of: impl Fn(W) -> i16, out: &mut [i32]) {
    let (out, _) = out.as_chunks_mut::<CHANNELS>();
    for (half, rows) in rows.chunks(LANES * k).enumerate() {
        for (i, columns) in out.chunks_mut(LANES).enumerate() {
            let start = 2 * LANES * i;
            let mut lines = [[0i16; 2 * LANES]; LANES];
            for (line, row) in lines.iter_mut().zip(rows.chunks_exact(k)) {
                let row = &row[start..];
                // Known lengths make vectors of it.
                if let Some(row) = row.first_chunk::<{ 2 * LANES }>() {
                    for (to, &v) in line.iter_mut().zip(row) {
                        *to = of(v);
                    }
                } else {
                    for (to, &v) in line.iter_mut().zip(row) {
                        *to = of(v);
                    }
                }
            }
            for (column, v) in columns
                .iter_mut()
                .zip(transposed(lines.map(|l| load16(&l))))
            {
                let (column, _) = column.as_chunks_mut::<LANES>();
                store(&mut column[half], v);
            }
        }
    }
}

/// 8 rows of 8 pairs as 8 columns.
#[inline]
#[target_feature(enable = "avx2")]
fn transposed(rows: [__m256i; LANES]) -> [__m256i; LANES] {
    // Rows 2i and 2i + 1 interleaved, then four rows of a group: entry 4i + c holds, in its 128-bit
    // lane l, column 4l + c of rows 4i to 4i + 3.
    let mut pairs = rows;
    let mut fours = rows;
    for i in (0..LANES).step_by(2) {
        pairs[i] = _mm256_unpacklo_epi32(rows[i], rows[i + 1]);
        pairs[i + 1] = _mm256_unpackhi_epi32(rows[i], rows[i + 1]);
    }
    for i in (0..LANES).step_by(4) {
        fours[i] = _mm256_unpacklo_epi64(pairs[i], pairs[i + 2]);
        fours[i + 1] = _mm256_unpackhi_epi64(pairs[i], pairs[i + 2]);
        fours[i + 2] = _mm256_unpacklo_epi64(pairs[i + 1], pairs[i + 3]);
        fours[i + 3] = _mm256_unpackhi_epi64(pairs[i + 1], pairs[i + 3]);
    }
    let mut columns = rows;
    for c in 0..4 {
        columns[c] = _mm256_permute2x128_si256::<0x20>(fours[c], fours[4 + c]);
        columns[4 + c] = _mm256_permute2x128_si256::<0x31>(fours[c], fours[4 + c]);
    }
    columns
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(from: &[i32; LANES]) -> __m256i {
    // SAFETY: 32 readable bytes; the load asks for no alignment.
    unsafe { _mm256_loadu_si256(from.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load16(from: &[i16; 2 * LANES]) -> __m256i {
    // SAFETY: 32 readable bytes; the load asks for no alignment.
    unsafe { _mm256_loadu_si256(from.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(to: &mut [i32; LANES], v: __m256i) {
    // SAFETY: 32 writable bytes; the store asks for no alignment.
    unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), v) }
}

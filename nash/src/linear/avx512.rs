//! The register tile of the integer GEMM in AVX-512 with VNNI: 8 rows by 32 channels in 16
//! accumulators, each fed by one `vpdpwssd` for a pair along k; and the packing of w, a transposition
//! of 16 by 16 pairs in registers.
#![allow(unsafe_code, reason = "vector instructions behind proven features")]

use std::arch::x86_64::{
    __m512i, _mm512_dpwssd_epi32, _mm512_loadu_si512, _mm512_set1_epi32, _mm512_setzero_si512,
    _mm512_shuffle_i32x4, _mm512_storeu_si512, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64,
    _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};

use super::planes::{self, Plane};
use super::tiled::{self, Tile};
use crate::dtype::QInt;
use crate::simd::Avx512;

const ROWS: usize = 8;
const LANES: usize = 16;
const CHANNELS: usize = 2 * LANES;

/// Values of a row in a vector of pairs.
const PAIRS: usize = 2 * LANES;

impl Tile for Avx512 {
    const ROWS: usize = ROWS;
    const CHANNELS: usize = CHANNELS;

    type Unit = i32;
    type Ready = Self;

    fn ready(self) -> Self {
        self
    }

    fn add(_: &Self, x: &[i32], rows: usize, w: &[i32], _: [Plane; 2], sums: &mut [i64]) {
        // Few rows must not pay for eight.
        match rows {
            // SAFETY: the token proves the features.
            1 => unsafe { tile::<1>(x, w, sums) },
            // SAFETY: as above.
            2 => unsafe { tile::<2>(x, w, sums) },
            // SAFETY: as above.
            3..=4 => unsafe { tile::<4>(x, w, sums) },
            // SAFETY: as above.
            _ => unsafe { tile::<ROWS>(x, w, sums) },
        }
    }

    fn pack<W: QInt>(self, rows: &[W], k: usize, plane: Plane, out: &mut [i32]) {
        match plane {
            // SAFETY: the token proves the features.
            Plane::Whole => unsafe { pack::<PAIRS, _, _>(rows, k, planes::whole, out) },
            // SAFETY: as above.
            Plane::Hi => unsafe { pack::<PAIRS, _, _>(rows, k, planes::hi, out) },
            // SAFETY: as above.
            Plane::Lo => unsafe { pack::<PAIRS, _, _>(rows, k, planes::lo, out) },
        }
    }
}

/// See [`Tile::add`], for up to R rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn tile<const R: usize>(x: &[i32], w: &[i32], sums: &mut [i64]) {
    let (w, _) = w.as_chunks::<CHANNELS>();
    let (sums, _) = sums.as_chunks_mut::<CHANNELS>();
    for (i, block) in w.chunks(tiled::SAFE_PAIRS).enumerate() {
        let x: [&[i32]; R] = std::array::from_fn(|r| {
            let start = r * w.len() + i * tiled::SAFE_PAIRS;
            &x[start..start + block.len()]
        });
        let mut acc = [[_mm512_setzero_si512(); 2]; R];
        for (j, w) in block.iter().enumerate() {
            let (w, _) = w.as_chunks::<LANES>();
            let w = [load(&w[0]), load(&w[1])];
            for (acc, x) in acc.iter_mut().zip(x) {
                let pair = _mm512_set1_epi32(x[j]);
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

/// See [`Tile::pack`], in words of any elements of which LINE fill a vector.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) fn pack<const LINE: usize, W: QInt, E: Copy + Default>(
    rows: &[W],
    k: usize,
    of: impl Fn(W) -> E,
    out: &mut [i32],
) {
    let (out, _) = out.as_chunks_mut::<CHANNELS>();
    for (half, rows) in rows.chunks(LANES * k).enumerate() {
        for (i, columns) in out.chunks_mut(LANES).enumerate() {
            let start = LINE * i;
            let mut lines = [[E::default(); LINE]; LANES];
            for (line, row) in lines.iter_mut().zip(rows.chunks_exact(k)) {
                let row = &row[start..];
                // Known lengths make vectors of it.
                if let Some(row) = row.first_chunk::<LINE>() {
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
                .zip(transposed(lines.map(|line| load(&line))))
            {
                let (column, _) = column.as_chunks_mut::<LANES>();
                store(&mut column[half], v);
            }
        }
    }
}

/// 16 rows of 16 words as 16 columns.
#[inline]
#[target_feature(enable = "avx512f")]
fn transposed(rows: [__m512i; LANES]) -> [__m512i; LANES] {
    // Rows 2i and 2i + 1 interleaved, then four rows of a group: entry 4i + c holds, in its 128-bit
    // lane l, column 4l + c of rows 4i to 4i + 3.
    let mut pairs = rows;
    let mut fours = rows;
    for i in (0..LANES).step_by(2) {
        pairs[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
        pairs[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
    }
    for i in (0..LANES).step_by(4) {
        fours[i] = _mm512_unpacklo_epi64(pairs[i], pairs[i + 2]);
        fours[i + 1] = _mm512_unpackhi_epi64(pairs[i], pairs[i + 2]);
        fours[i + 2] = _mm512_unpacklo_epi64(pairs[i + 1], pairs[i + 3]);
        fours[i + 3] = _mm512_unpackhi_epi64(pairs[i + 1], pairs[i + 3]);
    }
    // Lanes of four groups together: even ones, odd ones, and each again.
    let mut columns = rows;
    for c in 0..4 {
        let even = [
            _mm512_shuffle_i32x4::<0x88>(fours[c], fours[4 + c]),
            _mm512_shuffle_i32x4::<0x88>(fours[8 + c], fours[12 + c]),
        ];
        let odd = [
            _mm512_shuffle_i32x4::<0xdd>(fours[c], fours[4 + c]),
            _mm512_shuffle_i32x4::<0xdd>(fours[8 + c], fours[12 + c]),
        ];
        columns[c] = _mm512_shuffle_i32x4::<0x88>(even[0], even[1]);
        columns[4 + c] = _mm512_shuffle_i32x4::<0x88>(odd[0], odd[1]);
        columns[8 + c] = _mm512_shuffle_i32x4::<0xdd>(even[0], even[1]);
        columns[12 + c] = _mm512_shuffle_i32x4::<0xdd>(odd[0], odd[1]);
    }
    columns
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load<const N: usize, T>(from: &[T; N]) -> __m512i {
    const { assert!(size_of::<[T; N]>() == 64) };
    // SAFETY: 64 readable bytes; the load asks for no alignment.
    unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(to: &mut [i32; LANES], v: __m512i) {
    // SAFETY: 64 writable bytes; the store asks for no alignment.
    unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), v) }
}

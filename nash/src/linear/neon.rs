//! The register tile of the integer GEMM in NEON: 4 rows by 8 channels in 16 accumulators. A pair
//! along k takes an `smull` and an `smlal` by lane: products of 16 bits are added up in 32, exactly.
#![allow(unsafe_code, reason = "vector instructions behind proven features")]

use std::arch::aarch64::{
    int16x4x2_t, int32x4_t, vaddq_s32, vdupq_n_s32, vld2_s16, vmlal_n_s16, vmull_n_s16, vst1q_s32,
};

use super::planes::{self, Plane};
use super::tiled::{self, Tile};
use crate::dtype::QInt;
use crate::simd::Neon;

const ROWS: usize = 4;
const LANES: usize = 4;
const CHANNELS: usize = 2 * LANES;

impl Tile for Neon {
    const ROWS: usize = ROWS;
    const CHANNELS: usize = CHANNELS;

    type Unit = i32;
    type Ready = Self;

    fn ready(self) -> Self {
        self
    }

    fn add(_: &Self, x: &[i32], rows: usize, w: &[i32], _: [Plane; 2], sums: &mut [i64]) {
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
            Plane::Whole => {
                tiled::pack::<CHANNELS, 2, W>(rows, k, |v| planes::whole(v).into(), out)
            }
            Plane::Hi => tiled::pack::<CHANNELS, 2, W>(rows, k, |v| planes::hi(v).into(), out),
            Plane::Lo => tiled::pack::<CHANNELS, 2, W>(rows, k, |v| planes::lo(v).into(), out),
        }
    }
}

/// See [`Tile::add`], for up to R rows.
#[target_feature(enable = "neon")]
fn tile<const R: usize>(x: &[i32], w: &[i32], sums: &mut [i64]) {
    let (w, _) = w.as_chunks::<CHANNELS>();
    let (sums, _) = sums.as_chunks_mut::<CHANNELS>();
    for (i, block) in w.chunks(tiled::SAFE_PAIRS).enumerate() {
        let x: [&[i32]; R] = std::array::from_fn(|r| {
            let start = r * w.len() + i * tiled::SAFE_PAIRS;
            &x[start..start + block.len()]
        });
        let mut acc = [[vdupq_n_s32(0); 2]; R];
        for (j, w) in block.iter().enumerate() {
            let (w, _) = w.as_chunks::<LANES>();
            // Low halves of the pairs, and high ones.
            let w = [load(&w[0]), load(&w[1])];
            for (acc, x) in acc.iter_mut().zip(x) {
                let (low, high) = (x[j] as i16, (x[j] >> 16) as i16);
                for (acc, w) in acc.iter_mut().zip(w) {
                    let pair = vmlal_n_s16(vmull_n_s16(w.0, low), w.1, high);
                    *acc = vaddq_s32(*acc, pair);
                }
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
#[target_feature(enable = "neon")]
fn load(from: &[i32; LANES]) -> int16x4x2_t {
    // SAFETY: 16 readable bytes; the load asks for no more than the alignment of int16.
    unsafe { vld2_s16(from.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "neon")]
fn store(to: &mut [i32; LANES], v: int32x4_t) {
    // SAFETY: 16 writable bytes, aligned as int32.
    unsafe { vst1q_s32(to.as_mut_ptr(), v) }
}

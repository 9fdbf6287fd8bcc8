//! The register tiles of the integer GEMM in NEON that multiply bytes: `sdot` takes four along k, of
//! int8 only; `smmla` and its kin take eight of two rows and two channels, of either sign, so that
//! int16 comes as a signed high plane and an unsigned low one. Their intrinsics are not stable yet.
#![allow(unsafe_code, reason = "vector instructions behind proven features")]

use std::arch::aarch64::{
    int32x4_t, uint8x8_t, vcombine_u8, vdupq_n_s32, vld1_u8, vld1q_s32, vreinterpretq_s32_u8,
    vst1q_s32, vzip1q_s32, vzip2q_s32,
};
use std::arch::asm;

use super::planes::{self, Plane};
use super::tiled::{self, SAFE_QUADS, Tile};
use crate::dtype::QInt;
use crate::simd::{Dotprod, I8mm};

const LANES: usize = 4;
const CHANNELS: usize = 2 * LANES;

/// Bytes of x in a step of [`I8mm`], of two words.
const STEP: usize = 8;

impl Tile for Dotprod {
    const ROWS: usize = 4;
    const CHANNELS: usize = CHANNELS;

    type Unit = u8;
    type Ready = Self;

    fn ready(self) -> Self {
        self
    }

    fn add(_: &Self, x: &[u8], rows: usize, w: &[i32], _: [Plane; 2], sums: &mut [i64]) {
        match rows {
            // SAFETY: the token proves the feature.
            1 => unsafe { dots::<1>(x, w, sums) },
            // SAFETY: as above.
            _ => unsafe { dots::<{ Self::ROWS }>(x, w, sums) },
        }
    }

    fn pack<W: QInt>(self, rows: &[W], k: usize, plane: Plane, out: &mut [i32]) {
        pack(rows, k, plane, out);
    }
}

impl Tile for I8mm {
    const ROWS: usize = 8;
    const CHANNELS: usize = CHANNELS;
    const STEP: usize = STEP / 4;

    type Unit = u8;
    type Ready = Self;

    fn ready(self) -> Self {
        self
    }

    fn add(_: &Self, x: &[u8], rows: usize, w: &[i32], planes: [Plane; 2], sums: &mut [i64]) {
        let unsigned = planes.map(|plane| plane == Plane::Lo);
        // SAFETY: the token proves the feature.
        unsafe {
            match unsigned {
                [false, false] => matrices::<false, false>(x, rows, w, sums),
                [false, true] => matrices::<false, true>(x, rows, w, sums),
                [true, false] => matrices::<true, false>(x, rows, w, sums),
                [true, true] => matrices::<true, true>(x, rows, w, sums),
            }
        }
    }

    fn pack<W: QInt>(self, rows: &[W], k: usize, plane: Plane, out: &mut [i32]) {
        pack(rows, k, plane, out);
    }
}

fn pack<W: QInt>(rows: &[W], k: usize, plane: Plane, out: &mut [i32]) {
    match plane {
        Plane::Hi => tiled::pack::<CHANNELS, 4, W>(rows, k, |v| planes::high_byte(v).into(), out),
        _ => tiled::pack::<CHANNELS, 4, W>(rows, k, |v| planes::low_byte(v).into(), out),
    }
}

/// `$acc` and the products of bytes of `$a` and `$b` that the instruction takes.
macro_rules! product {
    ($instruction:literal, $acc:expr, $a:expr, $b:expr) => {{
        let mut acc: int32x4_t = $acc;
        // SAFETY: registers only, of an instruction that the function's features include.
        unsafe {
            asm!(
                concat!($instruction, " {acc:v}.4s, {a:v}.16b, {b:v}.16b"),
                acc = inout(vreg) acc,
                a = in(vreg) $a,
                b = in(vreg) $b,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        acc
    }};
}

/// See [`Tile::add`], for up to R rows.
#[target_feature(enable = "neon,dotprod")]
fn dots<const R: usize>(x: &[u8], w: &[i32], sums: &mut [i64]) {
    let (w, _) = w.as_chunks::<CHANNELS>();
    let (x, _) = x.as_chunks::<4>();
    for (i, block) in w.chunks(SAFE_QUADS).enumerate() {
        let x: [&[[u8; 4]]; R] =
            std::array::from_fn(|r| &x[r * w.len() + i * SAFE_QUADS..][..block.len()]);
        let mut acc = [[vdupq_n_s32(0); 2]; R];
        for (j, w) in block.iter().enumerate() {
            let (w, _) = w.as_chunks::<LANES>();
            let w = [load(&w[0]), load(&w[1])];
            for (acc, x) in acc.iter_mut().zip(x) {
                let x = vdupq_n_s32(i32::from_le_bytes(x[j]));
                *acc = [
                    product!("sdot", acc[0], w[0], x),
                    product!("sdot", acc[1], w[1], x),
                ];
            }
        }
        for (sums, acc) in sums.chunks_exact_mut(LANES).zip(acc.as_flattened()) {
            for (sum, v) in sums.iter_mut().zip(stored(*acc)) {
                *sum += i64::from(v);
            }
        }
    }
}

/// See [`Tile::add`], for planes of x and w that are unsigned or not.
#[target_feature(enable = "neon,i8mm")]
fn matrices<const X: bool, const W: bool>(x: &[u8], rows: usize, w: &[i32], sums: &mut [i64]) {
    // Few rows must not pay for eight.
    match rows {
        1..=2 => pairs::<1, X, W>(x, w, sums),
        3..=4 => pairs::<2, X, W>(x, w, sums),
        _ => pairs::<{ I8mm::ROWS / 2 }, X, W>(x, w, sums),
    }
}

/// See [`matrices`], for P pairs of rows: an accumulator holds two rows of two channels.
#[target_feature(enable = "neon,i8mm")]
fn pairs<const P: usize, const X: bool, const W: bool>(x: &[u8], w: &[i32], sums: &mut [i64]) {
    const SAFE: usize = SAFE_QUADS / I8mm::STEP;
    let (w, _) = w.as_chunks::<{ 2 * CHANNELS }>();
    let (x, _) = x.as_chunks::<STEP>();
    for (i, block) in w.chunks(SAFE).enumerate() {
        let row = |r: usize| &x[r * w.len() + i * SAFE..][..block.len()];
        let x: [_; P] = std::array::from_fn(|p| [row(2 * p), row(2 * p + 1)]);
        let mut acc = [[vdupq_n_s32(0); CHANNELS / 2]; P];
        for (j, w) in block.iter().enumerate() {
            let (w, _) = w.as_chunks::<LANES>();
            let [a, b, c, d] = [load(&w[0]), load(&w[1]), load(&w[2]), load(&w[3])];
            // Both words of a channel side by side.
            let w = [
                vzip1q_s32(a, c),
                vzip2q_s32(a, c),
                vzip1q_s32(b, d),
                vzip2q_s32(b, d),
            ];
            for (acc, x) in acc.iter_mut().zip(x) {
                let x = vreinterpretq_s32_u8(vcombine_u8(load_step(&x[0][j]), load_step(&x[1][j])));
                for (acc, w) in acc.iter_mut().zip(w) {
                    *acc = match (X, W) {
                        (false, false) => product!("smmla", *acc, x, w),
                        (true, false) => product!("usmmla", *acc, x, w),
                        // The unsigned one comes first; the product lies transposed.
                        (false, true) => product!("usmmla", *acc, w, x),
                        (true, true) => product!("ummla", *acc, x, w),
                    };
                }
            }
        }
        for (sums, acc) in sums.chunks_exact_mut(2 * CHANNELS).zip(acc) {
            for (c, acc) in acc.into_iter().enumerate() {
                for (lane, v) in stored(acc).into_iter().enumerate() {
                    let (row, channel) = if !X && W {
                        (lane % 2, lane / 2)
                    } else {
                        (lane / 2, lane % 2)
                    };
                    sums[row * CHANNELS + 2 * c + channel] += i64::from(v);
                }
            }
        }
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn load(from: &[i32; LANES]) -> int32x4_t {
    // SAFETY: 16 readable bytes, aligned as int32.
    unsafe { vld1q_s32(from.as_ptr()) }
}

#[inline]
#[target_feature(enable = "neon")]
fn load_step(from: &[u8; STEP]) -> uint8x8_t {
    // SAFETY: 8 readable bytes.
    unsafe { vld1_u8(from.as_ptr()) }
}

#[inline]
#[target_feature(enable = "neon")]
fn stored(v: int32x4_t) -> [i32; LANES] {
    let mut to = [0; LANES];
    // SAFETY: 16 writable bytes, aligned as int32.
    unsafe { vst1q_s32(to.as_mut_ptr(), v) }
    to
}

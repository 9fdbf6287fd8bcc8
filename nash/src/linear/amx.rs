//! The tile of the integer GEMM in AMX: 32 rows by 32 channels in 4 accumulators of 16 by 16, each fed
//! by one product of 64 bytes along k. AMX multiplies bytes only, of either sign, so int16 comes as a
//! signed high plane and an unsigned low one.
//!
//! A tile of few rows pays for 32: 64 cycles for 32 channels and 64 of k, for which VNNI takes one or two
//! rows. They go here all the same: what costs then is the packing of w, of which a word holds four
//! weights here and two there.
#![allow(unsafe_code, reason = "tile instructions behind a proven permission")]

use std::arch::asm;
use std::marker::PhantomData;

use super::avx512;
use super::planes::{self, Plane};
use super::tiled::{self, Tile};
use crate::dtype::QInt;
use crate::simd::Amx;

/// Rows of a tile register, each of 16 words.
const LANES: usize = 16;
const ROWS: usize = 2 * LANES;
const CHANNELS: usize = 2 * LANES;

/// Bytes of a row of a tile register.
const LINE: usize = 4 * LANES;

impl Tile for Amx {
    const ROWS: usize = ROWS;
    const CHANNELS: usize = CHANNELS;
    const STEP: usize = LANES;

    type Unit = u8;
    type Ready = Configured;

    fn ready(self) -> Configured {
        Configured::new(self)
    }

    fn add(
        ready: &Configured,
        x: &[u8],
        _: usize,
        w: &[i32],
        planes: [Plane; 2],
        sums: &mut [i64],
    ) {
        let (steps, _) = w.as_chunks::<{ LANES * CHANNELS }>();
        for (i, steps) in steps.chunks(tiled::SAFE_QUADS / LANES).enumerate() {
            let x_block = &x[i * 4 * tiled::SAFE_QUADS..];
            let products = ready.products(x_block, x.len() / ROWS, steps, planes);
            // SAFETY: the tiles' token proves the feature.
            unsafe { add(&products, sums) };
        }
    }

    fn raise(self, sums: &mut [i64]) {
        // SAFETY: the token proves the feature.
        unsafe { raise(sums) };
    }

    fn pack<W: QInt>(self, rows: &[W], k: usize, plane: Plane, out: &mut [i32]) {
        match plane {
            // SAFETY: the token proves the features.
            Plane::Hi => unsafe { avx512::pack::<LINE, _, _>(rows, k, planes::high_byte, out) },
            // SAFETY: as above.
            _ => unsafe { avx512::pack::<LINE, _, _>(rows, k, planes::low_byte, out) },
        }
    }
}

#[target_feature(enable = "avx512f")]
fn add(products: &[[i32; CHANNELS]; ROWS], sums: &mut [i64]) {
    for (sum, &product) in sums.iter_mut().zip(products.as_flattened()) {
        *sum += i64::from(product);
    }
}

/// See [`Tile::raise`].
#[target_feature(enable = "avx512f")]
fn raise(sums: &mut [i64]) {
    sums.iter_mut().for_each(|sum| *sum <<= 8);
}

/// The operand of `ldtilecfg`.
#[repr(C, align(64))]
struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    bytes_of_row: [u16; 8],
    reserved_bytes: [u16; 8],
    rows: [u8; 8],
    reserved_rows: [u8; 8],
}

impl Config {
    /// No tiles, as a thread starts.
    const RELEASED: Self = Self::new(0, 0, 0);

    /// Eight of 16 rows by 64 bytes.
    const FULL: Self = Self::new(1, LINE as u16, LANES as u8);

    const fn new(palette: u8, bytes: u16, rows: u8) -> Self {
        Self {
            palette,
            start_row: 0,
            reserved: [0; 14],
            bytes_of_row: [bytes; 8],
            reserved_bytes: [0; 8],
            rows: [rows; 8],
            reserved_rows: [0; 8],
        }
    }
}

/// Proof that the tiles of this thread are configured. Leaves them as it found them: released,
/// unless a GEMM runs within another's `emit`.
pub(super) struct Configured {
    before: Config,
    of_this_thread: PhantomData<*const ()>,
}

impl Configured {
    fn new(_: Amx) -> Self {
        let mut before = Config::RELEASED;
        let full = Config::FULL;
        // SAFETY: the token proves the instructions and the permission; `before` is 64 writable
        // bytes, `full` a valid configuration, and no tile holds anything.
        unsafe {
            asm!(
                "sttilecfg [{before}]",
                "ldtilecfg [{full}]",
                before = in(reg) &raw mut before,
                full = in(reg) &raw const full,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack, preserves_flags),
            );
        }
        Self {
            before,
            of_this_thread: PhantomData,
        }
    }

    /// Products of 32 rows of x, one every `row_len` bytes, with `steps` of w, in i32.
    fn products(
        &self,
        x: &[u8],
        row_len: usize,
        steps: &[[i32; LANES * CHANNELS]],
        planes: [Plane; 2],
    ) -> [[i32; CHANNELS]; ROWS] {
        assert!(!steps.is_empty() && x.len() >= (ROWS - 1) * row_len + steps.len() * LINE);
        let mut products = [[0; CHANNELS]; ROWS];
        macro_rules! sum_with {
            ($instruction:literal) => {
                // SAFETY: the tiles are configured on this thread. Loads read, step by step, 64
                // bytes of each of 32 rows of x, which the assertion covers, and a step of w;
                // stores write the four quarters of `products`.
                unsafe {
                    asm!(
                        "tilezero tmm0",
                        "tilezero tmm1",
                        "tilezero tmm2",
                        "tilezero tmm3",
                        "2:",
                        "tileloadd tmm4, [{upper} + {row_len}]",
                        "tileloadd tmm5, [{lower} + {row_len}]",
                        "tileloadd tmm6, [{w} + {line}]",
                        "tileloadd tmm7, [{w} + {line} + 64]",
                        concat!($instruction, " tmm0, tmm4, tmm6"),
                        concat!($instruction, " tmm1, tmm4, tmm7"),
                        concat!($instruction, " tmm2, tmm5, tmm6"),
                        concat!($instruction, " tmm3, tmm5, tmm7"),
                        "add {upper}, 64",
                        "add {lower}, 64",
                        "add {w}, 2048",
                        "dec {steps}",
                        "jnz 2b",
                        "tilestored [{products} + {line}], tmm0",
                        "tilestored [{products} + {line} + 64], tmm1",
                        "tilestored [{products} + {line} + 2048], tmm2",
                        "tilestored [{products} + {line} + 2112], tmm3",
                        upper = inout(reg) x.as_ptr() => _,
                        lower = inout(reg) x.as_ptr().wrapping_add(LANES * row_len) => _,
                        w = inout(reg) steps.as_ptr() => _,
                        steps = inout(reg) steps.len() => _,
                        row_len = in(reg) row_len,
                        line = in(reg) 4 * CHANNELS,
                        products = in(reg) &raw mut products,
                        out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                        out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                        options(nostack),
                    )
                }
            };
        }
        match planes.map(|plane| plane == Plane::Lo) {
            [false, false] => sum_with!("tdpbssd"),
            [false, true] => sum_with!("tdpbsud"),
            [true, false] => sum_with!("tdpbusd"),
            [true, true] => sum_with!("tdpbuud"),
        }
        products
    }
}

impl Drop for Configured {
    fn drop(&mut self) {
        // SAFETY: the configuration is one that `sttilecfg` stored, on this thread; where it has no
        // tiles, all are released.
        unsafe {
            asm!(
                "ldtilecfg [{before}]",
                before = in(reg) &raw const self.before,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack, preserves_flags),
            );
        }
    }
}

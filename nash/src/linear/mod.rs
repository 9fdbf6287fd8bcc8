//! Linear and MatMul: exact accumulation in i64, then one requantization for each output.
//!
//! `y[n, o] = requant(sum_k x[n, k] * w[o, k] + bias[o], s_x * s_w[o] / s_y)` `[pub]`. The width of
//! the chip's accumulator is not public; kernels are exact and report how wide one would have to
//! be (`[our]`). Which dtypes may meet in one GEMM is [`crate::legality`]'s business, not this
//! module's.
//!
//! [`linear`], [`linear_acc`] and what is made of them share the rows of a large product out to the
//! threads of the current rayon pool; sums of integers do not depend on how. [`gemm`] stays on the
//! caller's thread.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod bias;
mod matmul;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "aarch64")]
mod neon_bytes;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod planes;
pub mod scalar;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod tiled;

pub use bias::{SaturatedBias, channel_rescales, quantize_bias, saturated_biases};
pub use matmul::{RightOperand, matmul, matmul_acc};

use rayon::prelude::*;

use crate::dtype::QInt;
use crate::error::{ShapeError, check_len};
use crate::requant::Rescale;
use crate::requant::channels::{Channels, add_bias, bias_of};
use crate::simd::{Bytes, Isa, Level};
use crate::tensor::element_count;

/// Products from which threads are worth their wake-up, some 50 microseconds of work for one.
const PARALLEL: usize = 1 << 22;

/// Blocks of rows for each thread, so that one that comes late finds something to do.
const BLOCKS_PER_THREAD: usize = 2;

/// `$tiled` with the tile that an instruction set has for operands of two types, `$scalar` where it
/// has none.
macro_rules! on_tile {
    ($isa:expr, $a:ty, $w:ty, $scalar:expr, $tile:ident => $tiled:expr) => {
        match ($isa.bytes(), $isa.level()) {
            #[cfg(target_arch = "x86_64")]
            (Some(Bytes::Amx($tile)), _) => $tiled,
            #[cfg(target_arch = "aarch64")]
            (Some(Bytes::I8mm($tile)), _) => $tiled,
            // It has no product of an unsigned and a signed byte, which an int16 would need.
            #[cfg(target_arch = "aarch64")]
            (Some(Bytes::Dotprod($tile)), _) if <$a>::DTYPE.bits() + <$w>::DTYPE.bits() == 16 => {
                $tiled
            }
            (_, Level::Portable) => $scalar,
            #[cfg(target_arch = "x86_64")]
            (_, Level::Avx2($tile)) => $tiled,
            #[cfg(target_arch = "x86_64")]
            (_, Level::Avx512($tile)) => $tiled,
            #[cfg(target_arch = "aarch64")]
            (_, Level::Neon($tile)) => $tiled,
        }
    };
}

/// Sizes of `x [n, k] * w [o, k]^T -> y [n, o]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GemmShape {
    /// Rows of x: every leading axis of the activation, flattened.
    pub n: usize,
    /// Inner size.
    pub k: usize,
    /// Output channels.
    pub o: usize,
}

impl GemmShape {
    /// `Err` unless the buffers have these sizes.
    pub(crate) fn check(self, x: usize, w: usize, y: usize) -> Result<(), ShapeError> {
        check_len("x", x, element_count(&[self.n, self.k])?)?;
        check_len("w", w, element_count(&[self.o, self.k])?)?;
        check_len("output", y, element_count(&[self.n, self.o])?)
    }
}

/// Largest |accumulator| that an op met, bias included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct AccumulatorPeak(u64);

impl AccumulatorPeak {
    /// From a magnitude.
    pub const fn new(max_abs: u64) -> Self {
        Self(max_abs)
    }

    /// The magnitude.
    pub const fn max_abs(self) -> u64 {
        self.0
    }

    /// See [`accumulator_bits`].
    pub const fn bits(self) -> u32 {
        accumulator_bits(self.0)
    }

    /// The larger of two; independent of order.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        self.max(other)
    }
}

/// Magnitude bits of the largest accumulator, the sign not counted: an int32 accumulator holds 31,
/// so more than 31 deserve a warning; dual int16 with K = 256 can need 38.
pub const fn accumulator_bits(max_abs: u64) -> u32 {
    u64::BITS - max_abs.leading_zeros()
}

/// Linear with a requantized output. `rescales` has one entry for each output channel, or a single
/// one for all.
///
/// Exact while K is below 2^32, which no buffer exceeds in practice.
///
/// # Errors
/// [`ShapeError::Length`] for a buffer that does not fit `shape`.
pub fn linear<A: QInt, W: QInt, Y: QInt>(
    x: &[A],
    w: &[W],
    shape: GemmShape,
    bias: Option<&[i32]>,
    rescales: &[Rescale],
    y: &mut [Y],
) -> Result<AccumulatorPeak, ShapeError> {
    linear_on(Isa::best(), x, w, shape, bias, rescales, y)
}

/// [`linear`] on an instruction set of the caller's choice.
///
/// # Errors
/// As [`linear`].
pub fn linear_on<A: QInt, W: QInt, Y: QInt>(
    isa: Isa,
    x: &[A],
    w: &[W],
    shape: GemmShape,
    bias: Option<&[i32]>,
    rescales: &[Rescale],
    y: &mut [Y],
) -> Result<AccumulatorPeak, ShapeError> {
    shape.check(x.len(), w.len(), y.len())?;
    check_bias(bias, shape)?;
    if rescales.len() != 1 {
        check_len("rescales", rescales.len(), shape.o)?;
    }
    let channels = Channels::new(shape.o, rescales, bias);
    Ok(for_each_run(isa, x, w, shape, y, |first, sums, y| {
        channels.requant(isa, first, sums, y)
    }))
}

/// Linear that keeps its accumulators, for a high-precision output `[pub]`: real value
/// `acc * s_x * s_w[o]`.
///
/// # Errors
/// [`ShapeError::Length`] for a buffer that does not fit `shape`.
pub fn linear_acc<A: QInt, W: QInt>(
    x: &[A],
    w: &[W],
    shape: GemmShape,
    bias: Option<&[i32]>,
    acc: &mut [i64],
) -> Result<AccumulatorPeak, ShapeError> {
    linear_acc_on(Isa::best(), x, w, shape, bias, acc)
}

/// [`linear_acc`] on an instruction set of the caller's choice.
///
/// # Errors
/// As [`linear_acc`].
pub fn linear_acc_on<A: QInt, W: QInt>(
    isa: Isa,
    x: &[A],
    w: &[W],
    shape: GemmShape,
    bias: Option<&[i32]>,
    acc: &mut [i64],
) -> Result<AccumulatorPeak, ShapeError> {
    shape.check(x.len(), w.len(), acc.len())?;
    check_bias(bias, shape)?;
    let bias = bias_of(shape.o, bias);
    Ok(for_each_run(isa, x, w, shape, acc, |first, sums, acc| {
        add_bias(isa, sums, &bias[first..first + sums.len()], acc)
    }))
}

/// `finish(first o, sums, y)` for runs of channels of every row, and the largest magnitude that it
/// tells.
fn for_each_run<A: QInt, W: QInt, Y: Send>(
    isa: Isa,
    x: &[A],
    w: &[W],
    shape: GemmShape,
    y: &mut [Y],
    finish: impl Fn(usize, &[i64], &mut [Y]) -> u64 + Sync,
) -> AccumulatorPeak {
    on_tile!(isa, A, W, {
        let mut peak = 0;
        scalar::gemm(x, w, shape, |row, o, sum| {
            let y = &mut y[row * shape.o + o..][..1];
            peak = peak.max(finish(o, &[sum], y));
        });
        AccumulatorPeak(peak)
    }, tile => in_row_blocks(tile, x, w, shape, y, finish))
}

/// [`for_each_run`] in tiles, on all threads where the product is large.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn in_row_blocks<T: tiled::Tile, A: QInt, W: QInt, Y: Send>(
    tile: T,
    x: &[A],
    w: &[W],
    shape: GemmShape,
    y: &mut [Y],
    finish: impl Fn(usize, &[i64], &mut [Y]) -> u64 + Sync,
) -> AccumulatorPeak {
    let GemmShape { n, k, o } = shape;
    let products = n.saturating_mul(k).saturating_mul(o);
    let threads = rayon::current_num_threads();
    let parallel = threads > 1 && products >= PARALLEL;
    let w = tiled::Packed::new::<T, A, W>(tile, w, shape, parallel);
    let rows_peak = |x: &[A], y: &mut [Y], n: usize| {
        let mut peak = 0;
        tiled::gemm(tile, x, &w, GemmShape { n, k, o }, |row, first, sums| {
            let y = &mut y[row * o + first..][..sums.len()];
            peak = peak.max(finish(first, sums, y));
        });
        AccumulatorPeak(peak)
    };
    if !parallel {
        return rows_peak(x, y, n);
    }
    let rows = n
        .div_ceil(threads * BLOCKS_PER_THREAD)
        .next_multiple_of(T::ROWS);
    x.par_chunks(rows * k)
        .zip(y.par_chunks_mut(rows * o))
        .map(|(x, y)| rows_peak(x, y, y.len() / o))
        .reduce(AccumulatorPeak::default, AccumulatorPeak::merge)
}

/// The GEMM behind [`linear`] and [`matmul`] on an instruction set of the caller's choice: calls
/// `emit(n, first, sums)` with the exact `sum_k x[n, k] * w[o, k]` of channels `first..`, so that
/// every output is met once. The order of the calls and the length of `sums` are unspecified.
///
/// # Panics
/// Where a buffer is smaller than `shape` asks for.
pub fn gemm<A: QInt, W: QInt>(
    isa: Isa,
    x: &[A],
    w: &[W],
    shape: GemmShape,
    mut emit: impl FnMut(usize, usize, &[i64]),
) {
    on_tile!(
        isa, A, W,
        scalar::gemm(x, w, shape, |n, o, sum| emit(n, o, &[sum])),
        tile => in_tiles(tile, x, w, shape, emit)
    );
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn in_tiles<T: tiled::Tile, A: QInt, W: QInt>(
    tile: T,
    x: &[A],
    w: &[W],
    shape: GemmShape,
    emit: impl FnMut(usize, usize, &[i64]),
) {
    let w = tiled::Packed::new::<T, A, W>(tile, w, shape, false);
    tiled::gemm(tile, x, &w, shape, emit);
}

fn check_bias(bias: Option<&[i32]>, shape: GemmShape) -> Result<(), ShapeError> {
    bias.map_or(Ok(()), |b| check_len("bias", b.len(), shape.o))
}

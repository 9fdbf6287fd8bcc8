//! Linear and MatMul: exact accumulation in i64, then one requantization for each output.
//!
//! `y[n, o] = requant(sum_k x[n, k] * w[o, k] + bias[o], s_x * s_w[o] / s_y)` `[pub]`. The width of
//! the chip's accumulator is not public; kernels are exact and report how wide one would have to
//! be (`[our]`). Which dtypes may meet in one GEMM is [`crate::legality`]'s business, not this
//! module's.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod bias;
mod matmul;
pub mod scalar;
#[cfg(target_arch = "x86_64")]
mod tiled;

pub use bias::{channel_rescales, quantize_bias};
pub use matmul::{RightOperand, matmul, matmul_acc};

use crate::dtype::QInt;
use crate::error::{ShapeError, check_len};
use crate::requant::Rescale;
use crate::simd::{Isa, Level};
use crate::tensor::element_count;

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

    #[inline(always)]
    fn see(&mut self, acc: i64) {
        self.0 = self.0.max(acc.unsigned_abs());
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
    shape.check(x.len(), w.len(), y.len())?;
    check_bias(bias, shape)?;
    if rescales.len() != 1 {
        check_len("rescales", rescales.len(), shape.o)?;
    }
    let mut peak = AccumulatorPeak::default();
    gemm(Isa::best(), x, w, shape, |n, first, dots| {
        let y = &mut y[n * shape.o + first..][..dots.len()];
        for (i, (y, &dot)) in y.iter_mut().zip(dots).enumerate() {
            let o = first + i;
            let acc = dot + bias.map_or(0, |b| b[o].into());
            peak.see(acc);
            let rescale = if rescales.len() == 1 {
                rescales[0]
            } else {
                rescales[o]
            };
            *y = rescale.requant(acc);
        }
    });
    Ok(peak)
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
    shape.check(x.len(), w.len(), acc.len())?;
    check_bias(bias, shape)?;
    let mut peak = AccumulatorPeak::default();
    gemm(Isa::best(), x, w, shape, |n, first, dots| {
        let acc = &mut acc[n * shape.o + first..][..dots.len()];
        for (i, (acc, &dot)) in acc.iter_mut().zip(dots).enumerate() {
            *acc = dot + bias.map_or(0, |b| b[first + i].into());
            peak.see(*acc);
        }
    });
    Ok(peak)
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
    match isa.level() {
        Level::Portable => scalar::gemm(x, w, shape, |n, o, sum| emit(n, o, &[sum])),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2(token) => avx2::gemm(token, x, w, shape, emit),
        #[cfg(target_arch = "x86_64")]
        Level::Avx512(token) => avx512::gemm(token, x, w, shape, emit),
    }
}

fn check_bias(bias: Option<&[i32]>, shape: GemmShape) -> Result<(), ShapeError> {
    bias.map_or(Ok(()), |b| check_len("bias", b.len(), shape.o))
}

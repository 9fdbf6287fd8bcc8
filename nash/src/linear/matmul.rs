//! MatMul of two activations: the same GEMM, with the right operand in either layout. Batches are
//! the caller's loop.

use super::{AccumulatorPeak, GemmShape, linear, linear_acc};
use crate::dtype::QInt;
use crate::error::{ShapeError, check_len};
use crate::requant::Rescale;
use crate::tensor::element_count;

/// How the right operand lies in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RightOperand {
    /// `[k, o]`, as ONNX MatMul has it. Copied once into `[o, k]`.
    KByO,
    /// `[o, k]`, already transposed. Used in place.
    OByK,
}

/// `y [n, o] = requant(a [n, k] * b, s_a * s_b / s_y)`.
///
/// # Errors
/// [`ShapeError::Length`] for a buffer that does not fit `shape`.
pub fn matmul<A: QInt, B: QInt, Y: QInt>(
    a: &[A],
    b: &[B],
    layout: RightOperand,
    shape: GemmShape,
    rescale: Rescale,
    y: &mut [Y],
) -> Result<AccumulatorPeak, ShapeError> {
    match layout {
        RightOperand::OByK => linear(a, b, shape, None, &[rescale], y),
        RightOperand::KByO => linear(a, &transposed(b, shape)?, shape, None, &[rescale], y),
    }
}

/// [`matmul`] that keeps its accumulators: real value `acc * s_a * s_b`.
///
/// # Errors
/// [`ShapeError::Length`] for a buffer that does not fit `shape`.
pub fn matmul_acc<A: QInt, B: QInt>(
    a: &[A],
    b: &[B],
    layout: RightOperand,
    shape: GemmShape,
    acc: &mut [i64],
) -> Result<AccumulatorPeak, ShapeError> {
    match layout {
        RightOperand::OByK => linear_acc(a, b, shape, None, acc),
        RightOperand::KByO => linear_acc(a, &transposed(b, shape)?, shape, None, acc),
    }
}

fn transposed<B: QInt>(b: &[B], GemmShape { k, o, .. }: GemmShape) -> Result<Vec<B>, ShapeError> {
    check_len("b", b.len(), element_count(&[k, o])?)?;
    Ok((0..o)
        .flat_map(|column| (0..k).map(move |row| b[row * o + column]))
        .collect())
}

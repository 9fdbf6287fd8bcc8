//! Sums of products of two tensors: on the chip a batch of `[1, K] x [K, 1]` matrix products, whose
//! accumulators are exact and requantized once.

use super::{fold_rows, rows};
use crate::dtype::QInt;
use crate::error::ShapeError;
use crate::linear::AccumulatorPeak;
use crate::requant::Rescale;
use crate::simd::Isa;
use crate::tensor::{Tensor, TensorRef};

/// `requant(Σ a · b)` over some axes of two tensors of one shape, and the largest accumulator. For a
/// sum the ratio is `s_a * s_b / s_y`; for a mean over K it is `s_a * s_b / (K * s_y)`.
///
/// # Errors
/// [`ShapeError::Broadcast`] for tensors of different shapes, [`ShapeError::Axis`],
/// [`ShapeError::RepeatedAxis`].
pub fn reduce_dot<A: QInt, B: QInt, Y: QInt>(
    a: TensorRef<'_, A>,
    b: TensorRef<'_, B>,
    axes: &[i64],
    keepdims: bool,
    rescale: Rescale,
) -> Result<(Tensor<Y>, AccumulatorPeak), ShapeError> {
    reduce_dot_on(Isa::best(), a, b, axes, keepdims, rescale)
}

/// [`reduce_dot`] on an instruction set of the caller's choice.
///
/// # Errors
/// As [`reduce_dot`].
pub fn reduce_dot_on<A: QInt, B: QInt, Y: QInt>(
    isa: Isa,
    a: TensorRef<'_, A>,
    b: TensorRef<'_, B>,
    axes: &[i64],
    keepdims: bool,
    rescale: Rescale,
) -> Result<(Tensor<Y>, AccumulatorPeak), ShapeError> {
    let sums = fold_pairs(a, b, axes, keepdims, 0i64, |sums, a, b| match sums {
        [sum] => *sum += rows::dot(isa, a, b),
        sums => rows::add_products_to(isa, a, b, sums),
    })?;
    let peak = sums.data.iter().map(|sum| sum.unsigned_abs()).max();
    let data = sums
        .data
        .into_iter()
        .map(|sum| rescale.requant(sum))
        .collect();
    let tensor = Tensor {
        shape: sums.shape,
        data,
    };
    Ok((tensor, AccumulatorPeak::new(peak.unwrap_or(0))))
}

/// `Σ a · b` of f32 values, products exact and accumulated in f64 in row-major order, rounded once
/// `[our]`; of a mean, divided by K before.
///
/// # Errors
/// As [`reduce_dot`].
pub fn reduce_dot_f32(
    a: TensorRef<'_, f32>,
    b: TensorRef<'_, f32>,
    axes: &[i64],
    keepdims: bool,
    divisor: f64,
) -> Result<Tensor<f32>, ShapeError> {
    let sums = fold_pairs(a, b, axes, keepdims, 0f64, |sums, a, b| {
        let slots = sums.len();
        for (at, (a, b)) in a.iter().zip(b).enumerate() {
            sums[at.min(slots - 1)] += f64::from(*a) * f64::from(*b);
        }
    })?;
    Ok(Tensor {
        shape: sums.shape,
        data: sums
            .data
            .iter()
            .map(|&sum| (sum / divisor) as f32)
            .collect(),
    })
}

/// [`fold_rows`] over two tensors of one shape.
fn fold_pairs<A, B, S: Clone>(
    a: TensorRef<'_, A>,
    b: TensorRef<'_, B>,
    axes: &[i64],
    keepdims: bool,
    init: S,
    mut step: impl FnMut(&mut [S], &[A], &[B]),
) -> Result<Tensor<S>, ShapeError> {
    if a.shape() != b.shape() {
        return Err(ShapeError::Broadcast {
            a: a.shape().to_vec(),
            b: b.shape().to_vec(),
        });
    }
    let mut others = b.data();
    fold_rows(a, axes, keepdims, init, |slots, row| {
        let (other, rest) = others.split_at(row.len());
        others = rest;
        step(slots, row, other);
    })
}

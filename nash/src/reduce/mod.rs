//! Reductions over axes: integer ReduceSum and ReduceMean with one requantization of the exact sum
//! `[pub]`, ReduceMax, sums of products, and the fold they are made of.
//!
//! Integers may be added in any order, so their rows are loops for vectors ([`rows`]), with a twin
//! `_on` an instruction set of the caller's choice. A sum of floats keeps its order, and a maximum
//! of floats the sign of the zero that it met first.

mod dot;
mod rows;

pub use dot::{reduce_dot, reduce_dot_f32, reduce_dot_on};

use crate::dtype::QInt;
use crate::elementwise::advance;
use crate::error::ShapeError;
use crate::requant::Rescale;
use crate::simd::Isa;
use crate::tensor::{Tensor, TensorRef, element_count, normalize_axis, strides};

/// `requant(sum)`. For a sum the ratio is `s_x / s_y`; for a mean it is `s_x / (K * s_y)`, see
/// [`Rescale::of_mean`] and [`reduced_count`].
///
/// # Errors
/// [`ShapeError::Axis`], [`ShapeError::RepeatedAxis`].
pub fn reduce_sum<A: QInt, Y: QInt>(
    x: TensorRef<'_, A>,
    axes: &[i64],
    keepdims: bool,
    rescale: Rescale,
) -> Result<Tensor<Y>, ShapeError> {
    reduce_sum_on(Isa::best(), x, axes, keepdims, rescale)
}

/// [`reduce_sum`] on an instruction set of the caller's choice.
///
/// # Errors
/// As [`reduce_sum`].
pub fn reduce_sum_on<A: QInt, Y: QInt>(
    isa: Isa,
    x: TensorRef<'_, A>,
    axes: &[i64],
    keepdims: bool,
    rescale: Rescale,
) -> Result<Tensor<Y>, ShapeError> {
    let sums = fold_rows(x, axes, keepdims, 0i64, |sums, row| match sums {
        [sum] => *sum += rows::sum(isa, row),
        sums => rows::add_to(isa, row, sums),
    })?;
    let data = sums
        .data
        .into_iter()
        .map(|sum| rescale.requant(sum))
        .collect();
    Ok(Tensor {
        shape: sums.shape,
        data,
    })
}

/// Largest value; the scale is kept. For f32 as well (no NaN). Of nothing it is 0 `[our]`.
///
/// # Errors
/// [`ShapeError::Axis`], [`ShapeError::RepeatedAxis`].
pub fn reduce_max<T: Copy + PartialOrd + Default>(
    x: TensorRef<'_, T>,
    axes: &[i64],
    keepdims: bool,
) -> Result<Tensor<T>, ShapeError> {
    reduce_max_on(Isa::best(), x, axes, keepdims)
}

/// [`reduce_max`] on an instruction set of the caller's choice.
///
/// # Errors
/// As [`reduce_max`].
pub fn reduce_max_on<T: Copy + PartialOrd + Default>(
    isa: Isa,
    x: TensorRef<'_, T>,
    axes: &[i64],
    keepdims: bool,
) -> Result<Tensor<T>, ShapeError> {
    let maxima = fold_rows(x, axes, keepdims, None, |maxima, row| match maxima {
        [max] => *max = rows::max(isa, row, *max),
        maxima => rows::max_to(isa, row, maxima),
    })?;
    let data = maxima
        .data
        .into_iter()
        .map(Option::unwrap_or_default)
        .collect();
    Ok(Tensor {
        shape: maxima.shape,
        data,
    })
}

/// Sum of f32 values, accumulated in f64 in row-major order and rounded once `[our]`.
///
/// # Errors
/// [`ShapeError::Axis`], [`ShapeError::RepeatedAxis`].
pub fn reduce_sum_f32(
    x: TensorRef<'_, f32>,
    axes: &[i64],
    keepdims: bool,
) -> Result<Tensor<f32>, ShapeError> {
    let sums = fold(x, axes, keepdims, 0f64, |sum, v| sum + f64::from(v))?;
    Ok(Tensor {
        shape: sums.shape,
        data: sums.data.iter().map(|&sum| sum as f32).collect(),
    })
}

/// Mean of f32 values, accumulated in f64 in row-major order and rounded once; of nothing 0, as an integer
/// machine has no NaN `[our]`.
///
/// # Errors
/// [`ShapeError::Axis`], [`ShapeError::RepeatedAxis`].
pub fn reduce_mean_f32(
    x: TensorRef<'_, f32>,
    axes: &[i64],
    keepdims: bool,
) -> Result<Tensor<f32>, ShapeError> {
    let count = reduced_count(x.shape(), axes)?.max(1);
    let sums = fold(x, axes, keepdims, 0f64, |sum, v| sum + f64::from(v))?;
    let data = sums
        .data
        .iter()
        .map(|&sum| (sum / count as f64) as f32)
        .collect();
    Ok(Tensor {
        shape: sums.shape,
        data,
    })
}

/// How many values one result is made of: the K of ReduceMean. No axes means all of them, as in
/// ONNX.
///
/// # Errors
/// [`ShapeError::Axis`], [`ShapeError::RepeatedAxis`].
pub fn reduced_count(shape: &[usize], axes: &[i64]) -> Result<usize, ShapeError> {
    let reduced = reduced_axes(axes, shape.len())?;
    let sizes: Vec<usize> = shape
        .iter()
        .zip(&reduced)
        .filter(|&(_, &gone)| gone)
        .map(|(&size, _)| size)
        .collect();
    element_count(&sizes)
}

/// Folds the values of each result in row-major order. No axes means all of them.
///
/// # Errors
/// [`ShapeError::Axis`], [`ShapeError::RepeatedAxis`].
pub fn fold<T: Copy, S: Clone>(
    x: TensorRef<'_, T>,
    axes: &[i64],
    keepdims: bool,
    init: S,
    mut step: impl FnMut(S, T) -> S,
) -> Result<Tensor<S>, ShapeError> {
    fold_rows(x, axes, keepdims, init, |slots, row| match slots {
        [slot] => {
            for &v in row {
                *slot = step(slot.clone(), v);
            }
        }
        slots => {
            for (slot, &v) in slots.iter_mut().zip(row) {
                *slot = step(slot.clone(), v);
            }
        }
    })
}

/// [`fold`] row by row, in row-major order: `step` gets the results that a row along the last axis
/// belongs to, one for all of its values or one for each.
fn fold_rows<T, S: Clone>(
    x: TensorRef<'_, T>,
    axes: &[i64],
    keepdims: bool,
    init: S,
    mut step: impl FnMut(&mut [S], &[T]),
) -> Result<Tensor<S>, ShapeError> {
    let reduced = reduced_axes(axes, x.rank())?;
    let kept: Vec<usize> = x
        .shape()
        .iter()
        .zip(&reduced)
        .map(|(&size, &gone)| if gone { 1 } else { size })
        .collect();
    let mut data = vec![init; element_count(&kept)?];
    if !x.data().is_empty() && !data.is_empty() {
        // A reduced axis has stride 0 in the result: all its values meet in one place.
        let to: Vec<usize> = strides(&kept)
            .into_iter()
            .zip(&reduced)
            .map(|(stride, &gone)| if gone { 0 } else { stride })
            .collect();
        let inner = x.shape().last().copied().unwrap_or(1);
        let slots = kept.last().copied().unwrap_or(1);
        let outer_axes = x.rank().saturating_sub(1);
        let mut index = vec![0; outer_axes];
        for row in x.data().chunks(inner) {
            let start: usize = index.iter().zip(&to).map(|(i, s)| i * s).sum();
            step(&mut data[start..start + slots], row);
            advance(&mut index, &x.shape()[..outer_axes]);
        }
    }
    let shape = if keepdims {
        kept
    } else {
        kept.iter()
            .zip(&reduced)
            .filter(|&(_, &gone)| !gone)
            .map(|(&size, _)| size)
            .collect()
    };
    Ok(Tensor { shape, data })
}

/// For each axis, whether it is reduced.
fn reduced_axes(axes: &[i64], rank: usize) -> Result<Vec<bool>, ShapeError> {
    if axes.is_empty() {
        return Ok(vec![true; rank]);
    }
    let mut reduced = vec![false; rank];
    for &axis in axes {
        let axis = normalize_axis(axis, rank)?;
        if std::mem::replace(&mut reduced[axis], true) {
            return Err(ShapeError::RepeatedAxis { axis });
        }
    }
    Ok(reduced)
}

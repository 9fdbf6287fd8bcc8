//! Concat and its inverse, split.

use super::{AxisSlice, slice};
use crate::dtype::QInt;
use crate::error::ShapeError;
use crate::requant::Rescale;
use crate::tensor::{Tensor, TensorRef, element_count, normalize_axis};

/// Joins tensors along an axis; they have one scale.
///
/// # Errors
/// [`ShapeError::Empty`], [`ShapeError::Axis`], [`ShapeError::Concat`] where other axes differ.
pub fn concat<T: Copy>(parts: &[TensorRef<'_, T>], axis: i64) -> Result<Tensor<T>, ShapeError> {
    let Some(first) = parts.first() else {
        return Err(ShapeError::Empty {
            what: "list of tensors to concatenate",
        });
    };
    let axis = normalize_axis(axis, first.rank())?;
    let fits = |part: &TensorRef<'_, T>| {
        part.rank() == first.rank()
            && part
                .shape()
                .iter()
                .zip(first.shape())
                .enumerate()
                .all(|(i, (a, b))| i == axis || a == b)
    };
    if let Some(part) = parts.iter().find(|part| !fits(part)) {
        let (expected, got) = (first.shape().to_vec(), part.shape().to_vec());
        return Err(ShapeError::Concat {
            expected,
            got,
            axis,
        });
    }
    let mut shape = first.shape().to_vec();
    shape[axis] = parts.iter().map(|part| part.shape()[axis]).sum();
    let mut data = Vec::with_capacity(element_count(&shape)?);
    for outer in 0..element_count(&shape[..axis])? {
        for part in parts {
            let run = element_count(&part.shape()[axis..])?;
            data.extend_from_slice(&part.data()[outer * run..(outer + 1) * run]);
        }
    }
    Tensor::new(data, shape)
}

/// [`concat()`] of tensors with scales of their own, each rescaled by `s_a / s_y` `[pub]`.
///
/// # Errors
/// As [`concat()`].
pub fn concat_rescaled<A: QInt, Y: QInt>(
    parts: &[(TensorRef<'_, A>, Rescale)],
    axis: i64,
) -> Result<Tensor<Y>, ShapeError> {
    let rescaled: Vec<Vec<Y>> = parts
        .iter()
        .map(|(part, rescale)| {
            part.data()
                .iter()
                .map(|q| rescale.requant(q.to_i64()))
                .collect()
        })
        .collect();
    let views = rescaled
        .iter()
        .zip(parts)
        .map(|(data, (part, _))| TensorRef::new(data, part.shape()))
        .collect::<Result<Vec<_>, _>>()?;
    concat(&views, axis)
}

/// Cuts an axis into parts of the given sizes, in order.
///
/// # Errors
/// [`ShapeError::Axis`]; [`ShapeError::Length`] unless the sizes add up to the axis.
pub fn split<T: Copy>(
    x: TensorRef<'_, T>,
    axis: i64,
    sizes: &[usize],
) -> Result<Vec<Tensor<T>>, ShapeError> {
    let at = normalize_axis(axis, x.rank())?;
    let total = sizes
        .iter()
        .try_fold(0usize, |sum, &size| sum.checked_add(size));
    if total != Some(x.shape()[at]) {
        let (expected, got) = (x.shape()[at], total.unwrap_or(usize::MAX));
        return Err(ShapeError::Length {
            what: "sum of the split sizes",
            expected,
            got,
        });
    }
    let mut start = 0;
    sizes
        .iter()
        .map(|&size| {
            let from = i64::try_from(start).unwrap_or(i64::MAX);
            start += size;
            let end = i64::try_from(start).unwrap_or(i64::MAX);
            slice(
                x,
                &[AxisSlice {
                    axis,
                    start: from,
                    end,
                    step: 1,
                }],
            )
        })
        .collect()
}

//! Numpy's broadcasting: the shape of a result, and a walk over its rows. Knows no arithmetic.

use crate::error::ShapeError;
use crate::tensor::{Tensor, TensorRef, element_count};

/// The shape two shapes broadcast to, by numpy's rule: aligned at the last axis, sizes equal or 1.
///
/// # Errors
/// [`ShapeError::Broadcast`].
pub fn broadcast_shape(a: &[usize], b: &[usize]) -> Result<Vec<usize>, ShapeError> {
    let rank = a.len().max(b.len());
    let size = |shape: &[usize], axis: usize| {
        (axis + shape.len())
            .checked_sub(rank)
            .map_or(1, |own| shape[own])
    };
    (0..rank)
        .map(|axis| match (size(a, axis), size(b, axis)) {
            (x, y) if x == y => Ok(x),
            (1, y) => Ok(y),
            (x, 1) => Ok(x),
            _ => Err(ShapeError::Broadcast {
                a: a.to_vec(),
                b: b.to_vec(),
            }),
        })
        .collect()
}

/// `f(a, b)` for each element of the broadcast shape.
///
/// # Errors
/// [`ShapeError::Broadcast`].
pub fn map_binary<A: Copy, B: Copy, Y>(
    a: TensorRef<'_, A>,
    b: TensorRef<'_, B>,
    mut f: impl FnMut(A, B) -> Y,
) -> Result<Tensor<Y>, ShapeError> {
    let shape = broadcast_shape(a.shape(), b.shape())?;
    let mut data = Vec::with_capacity(element_count(&shape)?);
    for_each_row(a, b, &shape, |a_row, b_row| match (a_row, b_row) {
        (&[a], b_row) => data.extend(b_row.iter().map(|&b| f(a, b))),
        (a_row, &[b]) => data.extend(a_row.iter().map(|&a| f(a, b))),
        _ => data.extend(a_row.iter().zip(b_row).map(|(&a, &b)| f(a, b))),
    });
    Ok(Tensor { shape, data })
}

/// `f(a row, b row, y row)` for each row of the broadcast shape; an operand of one element repeats.
pub(super) fn map_rows<A: Copy, B: Copy, Y: Copy + Default>(
    a: TensorRef<'_, A>,
    b: TensorRef<'_, B>,
    mut f: impl FnMut(&[A], &[B], &mut [Y]),
) -> Result<Tensor<Y>, ShapeError> {
    let shape = broadcast_shape(a.shape(), b.shape())?;
    let mut data = vec![Y::default(); element_count(&shape)?];
    let mut rest = &mut data[..];
    for_each_row(a, b, &shape, |a_row, b_row| {
        let (y_row, after) = std::mem::take(&mut rest).split_at_mut(a_row.len().max(b_row.len()));
        f(a_row, b_row, y_row);
        rest = after;
    });
    Ok(Tensor { shape, data })
}

/// Rows of both operands in the order of the result; one that repeats along the last axis has one
/// element. Where nothing repeats, all of it is one row.
fn for_each_row<A, B>(
    a: TensorRef<'_, A>,
    b: TensorRef<'_, B>,
    shape: &[usize],
    mut f: impl FnMut(&[A], &[B]),
) {
    if shape.contains(&0) {
        return;
    }
    if a.shape() == b.shape() {
        f(a.data(), b.data());
        return;
    }
    // All axes but the last are walked like an odometer.
    let (inner, outer) = match shape.split_last() {
        Some((&inner, outer)) => (inner, outer),
        None => (1, &[][..]),
    };
    let (a_strides, a_step) = broadcast_strides(a.shape(), shape.len());
    let (b_strides, b_step) = broadcast_strides(b.shape(), shape.len());
    let length = |step: usize| if step == 0 { 1 } else { inner };
    let mut index = vec![0; outer.len()];
    for _ in 0..outer.iter().product() {
        let a_row = &a.data()[offset(&index, &a_strides)..][..length(a_step)];
        let b_row = &b.data()[offset(&index, &b_strides)..][..length(b_step)];
        f(a_row, b_row);
        advance(&mut index, outer);
    }
}

/// Strides of a shape seen as one of a higher rank, 0 where it repeats: (outer axes, last axis).
fn broadcast_strides(shape: &[usize], rank: usize) -> (Vec<usize>, usize) {
    let own = crate::tensor::strides(shape);
    let mut strides = vec![0; rank - shape.len()];
    strides.extend(
        own.iter()
            .zip(shape)
            .map(|(&stride, &size)| if size == 1 { 0 } else { stride }),
    );
    let last = strides.pop().unwrap_or(0);
    (strides, last)
}

fn offset(index: &[usize], strides: &[usize]) -> usize {
    index.iter().zip(strides).map(|(i, s)| i * s).sum()
}

/// The next index in row-major order.
pub(crate) fn advance(index: &mut [usize], shape: &[usize]) {
    for (i, &size) in index.iter_mut().zip(shape).rev() {
        *i += 1;
        if *i < size {
            return;
        }
        *i = 0;
    }
}

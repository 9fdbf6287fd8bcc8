//! Operations that move values and keep their scale `[pub]`: transpose, slice, concat, split,
//! gather, expand. Element types are free; semantics are those of ONNX. Reshape needs no code
//! here: it is the same data with another shape.

mod concat;
mod slice;

pub use concat::{concat, concat_rescaled, split};
pub use slice::{AxisSlice, slice};

use crate::elementwise::{advance, broadcast_shape, map_binary};
use crate::error::ShapeError;
use crate::tensor::{Tensor, TensorRef, element_count, normalize_axis, strides};

/// Axis i of the result is axis `permutation[i]` of x.
///
/// # Errors
/// [`ShapeError::Entries`], [`ShapeError::Axis`], [`ShapeError::RepeatedAxis`] unless
/// `permutation` names each axis once.
pub fn transpose<T: Copy>(
    x: TensorRef<'_, T>,
    permutation: &[usize],
) -> Result<Tensor<T>, ShapeError> {
    let rank = x.rank();
    if permutation.len() != rank {
        let (expected, got) = (rank, permutation.len());
        return Err(ShapeError::Entries {
            what: "permutation",
            expected,
            got,
        });
    }
    let mut seen = vec![false; rank];
    for &axis in permutation {
        let slot = seen.get_mut(axis).ok_or(ShapeError::Axis {
            axis: i64::try_from(axis).unwrap_or(i64::MAX),
            rank,
        })?;
        if std::mem::replace(slot, true) {
            return Err(ShapeError::RepeatedAxis { axis });
        }
    }
    let own = strides(x.shape());
    let shape: Vec<usize> = permutation.iter().map(|&axis| x.shape()[axis]).collect();
    let steps: Vec<isize> = permutation.iter().map(|&axis| own[axis] as isize).collect();
    walk(x.data(), 0, shape, &steps)
}

/// ONNX Gather: the axis is replaced by the shape of `indices`; negative ones count from the back.
///
/// # Errors
/// [`ShapeError::Axis`], [`ShapeError::Index`].
pub fn gather<T: Copy>(
    x: TensorRef<'_, T>,
    indices: TensorRef<'_, i64>,
    axis: i64,
) -> Result<Tensor<T>, ShapeError> {
    let axis = normalize_axis(axis, x.rank())?;
    let size = x.shape()[axis];
    let rows = indices
        .data()
        .iter()
        .map(|&index| normalize_axis(index, size).map_err(|_| ShapeError::Index { index, size }))
        .collect::<Result<Vec<_>, _>>()?;
    let (before, after) = (&x.shape()[..axis], &x.shape()[axis + 1..]);
    let run = element_count(after)?;
    let shape = [before, indices.shape(), after].concat();
    let mut data = Vec::with_capacity(element_count(&shape)?);
    for outer in 0..element_count(before)? {
        for &row in &rows {
            let start = (outer * size + row) * run;
            data.extend_from_slice(&x.data()[start..start + run]);
        }
    }
    Tensor::new(data, shape)
}

/// ONNX Expand: x broadcast against a shape.
///
/// # Errors
/// [`ShapeError::Broadcast`], [`ShapeError::TooLarge`].
pub fn expand<T: Copy>(x: TensorRef<'_, T>, shape: &[usize]) -> Result<Tensor<T>, ShapeError> {
    // Units carry the target shape without taking memory.
    let target = broadcast_shape(x.shape(), shape)?;
    let units = vec![(); element_count(&target)?];
    map_binary(x, TensorRef::new(&units, &target)?, |v, ()| v)
}

/// Reads a strided box out of `data` in row-major order.
fn walk<T: Copy>(
    data: &[T],
    start: usize,
    shape: Vec<usize>,
    steps: &[isize],
) -> Result<Tensor<T>, ShapeError> {
    let count = element_count(&shape)?;
    let mut out = Vec::with_capacity(count);
    if count == 0 {
        return Ok(Tensor { shape, data: out });
    }
    let (outer, inner) = match shape.split_last() {
        Some((&inner, outer)) => (outer, inner),
        None => (&[][..], 1),
    };
    let inner_step = steps.last().copied().unwrap_or(1);
    let mut index = vec![0; outer.len()];
    for _ in 0..count / inner {
        let base = index.iter().zip(steps).fold(start, |at, (&i, &step)| {
            at.wrapping_add_signed(step.wrapping_mul(i as isize))
        });
        if inner_step == 1 {
            out.extend_from_slice(&data[base..base + inner]);
        } else {
            let at = |i: usize| base.wrapping_add_signed(inner_step.wrapping_mul(i as isize));
            out.extend((0..inner).map(|i| data[at(i)]));
        }
        advance(&mut index, outer);
    }
    Ok(Tensor { shape, data: out })
}

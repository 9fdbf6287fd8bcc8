//! ONNX Slice: negative indices, clamping and steps in both directions. Reading the box that
//! results is [`super::walk`]'s.

use super::walk;
use crate::error::ShapeError;
use crate::tensor::{Tensor, TensorRef, normalize_axis, strides};

/// One axis of a [`slice()`]: `start..end` by `step`, each with the meaning that ONNX gives it
/// (negative counts from the back, out of range is clamped, a negative step walks backwards).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AxisSlice {
    /// Which axis, negative from the back.
    pub axis: i64,
    /// First index.
    pub start: i64,
    /// Index to stop before; `i64::MAX` or `i64::MIN` for the end in either direction.
    pub end: i64,
    /// Distance between indices, not 0.
    pub step: i64,
}

/// ONNX Slice; axes that are not named are kept whole.
///
/// # Errors
/// [`ShapeError::Axis`], [`ShapeError::RepeatedAxis`], [`ShapeError::ZeroStep`].
pub fn slice<T: Copy>(x: TensorRef<'_, T>, slices: &[AxisSlice]) -> Result<Tensor<T>, ShapeError> {
    let own = strides(x.shape());
    let mut shape = x.shape().to_vec();
    let mut steps: Vec<isize> = own.iter().map(|&stride| stride as isize).collect();
    let mut start = 0usize;
    let mut seen = vec![false; x.rank()];
    for s in slices {
        let axis = normalize_axis(s.axis, x.rank())?;
        if std::mem::replace(&mut seen[axis], true) {
            return Err(ShapeError::RepeatedAxis { axis });
        }
        if s.step == 0 {
            return Err(ShapeError::ZeroStep { axis });
        }
        let (first, count) = slice_axis(*s, x.shape()[axis]);
        shape[axis] = count;
        if count > 0 {
            start += first * own[axis];
            // With one index left the step is never taken and may be any number.
            steps[axis] = steps[axis].wrapping_mul(s.step as isize);
        }
    }
    walk(x.data(), start, shape, &steps)
}

/// First index and number of indices of a slice of one axis.
fn slice_axis(s: AxisSlice, size: usize) -> (usize, usize) {
    let size = i128::try_from(size).unwrap_or(i128::MAX);
    let from_front = |i: i64| {
        if i < 0 {
            i128::from(i) + size
        } else {
            i128::from(i)
        }
    };
    let step = i128::from(s.step);
    let (low, high) = if step > 0 { (0, size) } else { (-1, size - 1) };
    let start = from_front(s.start).clamp(low.max(0).min(high), high);
    let end = from_front(s.end).clamp(low, high);
    let distance = if step > 0 { end - start } else { start - end };
    if distance <= 0 || size == 0 {
        return (0, 0);
    }
    let count = (distance + step.abs() - 1) / step.abs();
    // Both are within the axis, whose size is a usize.
    (start as usize, count as usize)
}

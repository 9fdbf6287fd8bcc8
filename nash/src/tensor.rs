//! A slice with its shape: the least that shaped kernels need. Row-major, always contiguous.
//! No views with strides, no arithmetic; the caller's own array type stays outside this crate.

use crate::error::{ShapeError, check_len};

/// Borrowed row-major tensor whose shape fits its data.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TensorRef<'a, T> {
    data: &'a [T],
    shape: &'a [usize],
}

impl<'a, T> TensorRef<'a, T> {
    /// Pairs data with a shape; `[]` is the shape of one scalar.
    ///
    /// # Errors
    /// [`ShapeError::Length`] unless `data` has as many elements as `shape` asks for.
    pub fn new(data: &'a [T], shape: &'a [usize]) -> Result<Self, ShapeError> {
        check_len("tensor", data.len(), element_count(shape)?)?;
        Ok(Self { data, shape })
    }

    /// Elements in row-major order.
    pub fn data(&self) -> &'a [T] {
        self.data
    }

    /// Size of each axis.
    pub fn shape(&self) -> &'a [usize] {
        self.shape
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }
}

/// Row-major tensor that a kernel returns.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor<T> {
    /// Size of each axis.
    pub shape: Vec<usize>,
    /// Elements in row-major order, as many as `shape` asks for.
    pub data: Vec<T>,
}

impl<T> Tensor<T> {
    /// Pairs data with a shape.
    ///
    /// # Errors
    /// [`ShapeError::Length`] unless `data` has as many elements as `shape` asks for.
    pub fn new(data: Vec<T>, shape: Vec<usize>) -> Result<Self, ShapeError> {
        check_len("tensor", data.len(), element_count(&shape)?)?;
        Ok(Self { shape, data })
    }

    /// Borrows it.
    ///
    /// # Errors
    /// [`ShapeError::Length`] if the public fields were made not to fit.
    pub fn view(&self) -> Result<TensorRef<'_, T>, ShapeError> {
        TensorRef::new(&self.data, &self.shape)
    }
}

/// Product of the sizes.
///
/// # Errors
/// [`ShapeError::TooLarge`] where it overflows.
pub fn element_count(shape: &[usize]) -> Result<usize, ShapeError> {
    // A zero anywhere makes the tensor empty, however large the other axes are.
    if shape.contains(&0) {
        return Ok(0);
    }
    shape
        .iter()
        .try_fold(1usize, |count, &size| count.checked_mul(size))
        .ok_or_else(|| ShapeError::TooLarge {
            shape: shape.to_vec(),
        })
}

/// Axis counted from the front, for one that may be counted from the back (negative, as in ONNX).
///
/// # Errors
/// [`ShapeError::Axis`] outside of [-rank, rank).
pub fn normalize_axis(axis: i64, rank: usize) -> Result<usize, ShapeError> {
    let error = ShapeError::Axis { axis, rank };
    let from_front = if axis < 0 {
        usize::try_from(axis.unsigned_abs())
            .ok()
            .and_then(|back| rank.checked_sub(back))
    } else {
        usize::try_from(axis).ok()
    };
    from_front.filter(|&a| a < rank).ok_or(error)
}

/// Row-major strides, in elements.
pub(crate) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; shape.len()];
    for axis in (1..shape.len()).rev() {
        // An empty tensor is never walked, so a wrapped stride is never used.
        strides[axis - 1] = strides[axis].wrapping_mul(shape[axis]);
    }
    strides
}

//! Mul, Add, Sub with numpy broadcasting, Relu, and the change of scale of a whole tensor.
//!
//! Mul: `requant(a * b, s_a * s_b / s_y)`. Add, Sub: each operand rescaled to the output's scale
//! by itself, added, saturated `[pub]`. For f32, and any other element type, [`map_binary`].

use crate::dtype::QInt;
use crate::error::{ShapeError, check_len};
use crate::requant::Rescale;
use crate::tensor::{Tensor, TensorRef, element_count};

/// `requant(a * b)`; the ratio is `s_a * s_b / s_y`.
///
/// # Errors
/// [`ShapeError::Broadcast`].
pub fn mul<A: QInt, B: QInt, Y: QInt>(
    a: TensorRef<'_, A>,
    b: TensorRef<'_, B>,
    rescale: Rescale,
) -> Result<Tensor<Y>, ShapeError> {
    map_binary(a, b, |a, b| rescale.requant(a.to_i64() * b.to_i64()))
}

/// `saturate(rescale_a(a) + rescale_b(b))`; the ratios are `s_a / s_y` and `s_b / s_y`.
///
/// # Errors
/// [`ShapeError::Broadcast`].
pub fn add<A: QInt, B: QInt, Y: QInt>(
    a: TensorRef<'_, A>,
    rescale_a: Rescale,
    b: TensorRef<'_, B>,
    rescale_b: Rescale,
) -> Result<Tensor<Y>, ShapeError> {
    map_binary(a, b, |a, b| {
        Y::saturate(rescale_a.apply(a.to_i64()) + rescale_b.apply(b.to_i64()))
    })
}

/// `saturate(rescale_a(a) - rescale_b(b))`; the ratios are `s_a / s_y` and `s_b / s_y`.
///
/// # Errors
/// [`ShapeError::Broadcast`].
pub fn sub<A: QInt, B: QInt, Y: QInt>(
    a: TensorRef<'_, A>,
    rescale_a: Rescale,
    b: TensorRef<'_, B>,
    rescale_b: Rescale,
) -> Result<Tensor<Y>, ShapeError> {
    map_binary(a, b, |a, b| {
        Y::saturate(rescale_a.apply(a.to_i64()) - rescale_b.apply(b.to_i64()))
    })
}

/// `max(q, 0)`, rescaled where the output has a scale of its own.
///
/// # Errors
/// [`ShapeError::Length`] if the lengths differ.
pub fn relu<A: QInt, Y: QInt>(
    x: &[A],
    rescale: Option<Rescale>,
    y: &mut [Y],
) -> Result<(), ShapeError> {
    check_len("output", y.len(), x.len())?;
    match rescale {
        None => fill(x, y, |q| Y::saturate_i32(q.to_i32().max(0))),
        Some(rescale) => fill(x, y, |q| rescale.requant(q.to_i64().max(0))),
    }
    Ok(())
}

/// The same values at another scale, and possibly in the other format; the ratio is `s_x / s_y`.
///
/// # Errors
/// [`ShapeError::Length`] if the lengths differ.
pub fn rescale_to<A: QInt, Y: QInt>(
    x: &[A],
    rescale: Rescale,
    y: &mut [Y],
) -> Result<(), ShapeError> {
    check_len("output", y.len(), x.len())?;
    fill(x, y, |q| rescale.requant(q.to_i64()));
    Ok(())
}

fn fill<A: QInt, Y>(x: &[A], y: &mut [Y], f: impl Fn(A) -> Y) {
    for (y, &q) in y.iter_mut().zip(x) {
        *y = f(q);
    }
}

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
    let count = element_count(&shape)?;
    let mut data = Vec::with_capacity(count);
    if count == 0 {
        return Ok(Tensor { shape, data });
    }
    if a.shape() == b.shape() {
        data.extend(a.data().iter().zip(b.data()).map(|(&a, &b)| f(a, b)));
        return Ok(Tensor { shape, data });
    }
    // All axes but the last are walked like an odometer; the last is a plain loop.
    let (outer, inner) = match shape.split_last() {
        Some((&inner, outer)) => (outer, inner),
        None => (&[][..], 1),
    };
    let (a_strides, a_step) = broadcast_strides(a.shape(), shape.len());
    let (b_strides, b_step) = broadcast_strides(b.shape(), shape.len());
    let mut index = vec![0; outer.len()];
    for _ in 0..count / inner {
        let a_row = &a.data()[offset(&index, &a_strides)..];
        let b_row = &b.data()[offset(&index, &b_strides)..];
        match (a_step, b_step) {
            (0, _) => data.extend(b_row[..inner].iter().map(|&b| f(a_row[0], b))),
            (_, 0) => data.extend(a_row[..inner].iter().map(|&a| f(a, b_row[0]))),
            _ => data.extend(a_row[..inner].iter().zip(b_row).map(|(&a, &b)| f(a, b))),
        }
        advance(&mut index, outer);
    }
    Ok(Tensor { shape, data })
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

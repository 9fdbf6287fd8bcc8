//! Mul, Add, Sub with numpy broadcasting, Relu, and the change of scale of a whole tensor.
//!
//! Mul: `requant(a * b, s_a * s_b / s_y)`. Add, Sub: each operand rescaled to the output's scale
//! by itself, added, saturated `[pub]`. For f32, and any other element type, [`map_binary`].
//!
//! [`scalar`] is the reference. On the other instruction sets the same loops run in 32 bits, which
//! is exact for these operands (`requant::narrow`), so that the compiler makes vectors of them.
//! Every function has a twin `_on` an instruction set of the caller's choice.

mod broadcast;
pub mod scalar;
mod vector;

pub(crate) use broadcast::advance;
pub use broadcast::{broadcast_shape, map_binary};

use crate::dtype::QInt;
use crate::error::{ShapeError, check_len};
use crate::requant::Rescale;
use crate::requant::narrow::{OfProduct, OfValue};
use crate::simd::{Isa, for_each_isa};
use crate::tensor::{Tensor, TensorRef};
use broadcast::map_rows;
use scalar::{Op, row};

/// `requant(a * b)`; the ratio is `s_a * s_b / s_y`.
///
/// # Errors
/// [`ShapeError::Broadcast`].
pub fn mul<A: QInt, B: QInt, Y: QInt>(
    a: TensorRef<'_, A>,
    b: TensorRef<'_, B>,
    rescale: Rescale,
) -> Result<Tensor<Y>, ShapeError> {
    mul_on(Isa::best(), a, b, rescale)
}

/// [`mul`] on an instruction set of the caller's choice.
///
/// # Errors
/// As [`mul`].
pub fn mul_on<A: QInt, B: QInt, Y: QInt>(
    isa: Isa,
    a: TensorRef<'_, A>,
    b: TensorRef<'_, B>,
    rescale: Rescale,
) -> Result<Tensor<Y>, ShapeError> {
    let reference = scalar::Mul(rescale);
    match OfProduct::new(rescale) {
        Some(narrow) => run(isa, a, b, reference, vector::Mul(narrow)),
        // Ratios of about 1/4 and more: products far beyond int16, rare, and in 64 bits.
        None => run(isa, a, b, reference, reference),
    }
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
    add_on(Isa::best(), a, rescale_a, b, rescale_b)
}

/// [`add`] on an instruction set of the caller's choice.
///
/// # Errors
/// As [`add`].
pub fn add_on<A: QInt, B: QInt, Y: QInt>(
    isa: Isa,
    a: TensorRef<'_, A>,
    rescale_a: Rescale,
    b: TensorRef<'_, B>,
    rescale_b: Rescale,
) -> Result<Tensor<Y>, ShapeError> {
    let reference = scalar::Add(rescale_a, rescale_b);
    let narrow = vector::Add(OfValue::new(rescale_a), OfValue::new(rescale_b));
    run(isa, a, b, reference, narrow)
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
    sub_on(Isa::best(), a, rescale_a, b, rescale_b)
}

/// [`sub`] on an instruction set of the caller's choice.
///
/// # Errors
/// As [`sub`].
pub fn sub_on<A: QInt, B: QInt, Y: QInt>(
    isa: Isa,
    a: TensorRef<'_, A>,
    rescale_a: Rescale,
    b: TensorRef<'_, B>,
    rescale_b: Rescale,
) -> Result<Tensor<Y>, ShapeError> {
    let reference = scalar::Sub(rescale_a, rescale_b);
    let narrow = vector::Sub(OfValue::new(rescale_a), OfValue::new(rescale_b));
    run(isa, a, b, reference, narrow)
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
    relu_on(Isa::best(), x, rescale, y)
}

/// [`relu`] on an instruction set of the caller's choice.
///
/// # Errors
/// As [`relu`].
pub fn relu_on<A: QInt, Y: QInt>(
    isa: Isa,
    x: &[A],
    rescale: Option<Rescale>,
    y: &mut [Y],
) -> Result<(), ShapeError> {
    check_len("output", y.len(), x.len())?;
    match rescale {
        None => keep(isa, x, 0, y),
        Some(rescale) => change(isa, x, 0, rescale, y),
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
    rescale_to_on(Isa::best(), x, rescale, y)
}

/// [`rescale_to`] on an instruction set of the caller's choice.
///
/// # Errors
/// As [`rescale_to`].
pub fn rescale_to_on<A: QInt, Y: QInt>(
    isa: Isa,
    x: &[A],
    rescale: Rescale,
    y: &mut [Y],
) -> Result<(), ShapeError> {
    check_len("output", y.len(), x.len())?;
    change(isa, x, A::DTYPE.qmin(), rescale, y);
    Ok(())
}

fn run<A: QInt, B: QInt, Y: QInt>(
    isa: Isa,
    a: TensorRef<'_, A>,
    b: TensorRef<'_, B>,
    reference: impl Op,
    fast: impl Op,
) -> Result<Tensor<Y>, ShapeError> {
    map_rows(a, b, |a, b, y| op_row(isa, a, b, reference, fast, y))
}

for_each_isa! {
    /// One row of a binary op; an operand of one element repeats.
    fn op_row<A: QInt, B: QInt, Y: QInt, R: Op, F: Op>(
        a: &[A], b: &[B], reference: R, fast: F, y: &mut [Y],
    ) { portable: reference_row, vector: fast_row }
}

#[inline(always)]
fn reference_row<A: QInt, B: QInt, Y: QInt, R: Op, F: Op>(
    a: &[A],
    b: &[B],
    reference: R,
    _: F,
    y: &mut [Y],
) {
    row(a, b, reference, y);
}

#[inline(always)]
fn fast_row<A: QInt, B: QInt, Y: QInt, R: Op, F: Op>(a: &[A], b: &[B], _: R, fast: F, y: &mut [Y]) {
    row(a, b, fast, y);
}

for_each_isa! {
    /// `max(q, floor)` in the other format.
    fn keep<A: QInt, Y: QInt>(x: &[A], floor: i32, y: &mut [Y]) {
        portable: scalar::keep,
        vector: scalar::keep,
    }
}

for_each_isa! {
    /// `requant(max(q, floor))`.
    fn change<A: QInt, Y: QInt>(x: &[A], floor: i32, rescale: Rescale, y: &mut [Y]) {
        portable: scalar::change,
        vector: vector::change,
    }
}

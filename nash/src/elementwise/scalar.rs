//! Scalar reference of the element-wise ops: the definitions, one element at a time. Buffers are
//! checked by the caller.

use crate::dtype::QInt;
use crate::requant::Rescale;

/// An op of two elements.
pub trait Op: Copy {
    /// The output's element.
    fn apply<Y: QInt>(self, a: i32, b: i32) -> Y;
}

/// `requant(a * b)`.
#[derive(Debug, Clone, Copy)]
pub struct Mul(pub Rescale);

/// `saturate(rescale_a(a) + rescale_b(b))`.
#[derive(Debug, Clone, Copy)]
pub struct Add(pub Rescale, pub Rescale);

/// `saturate(rescale_a(a) - rescale_b(b))`.
#[derive(Debug, Clone, Copy)]
pub struct Sub(pub Rescale, pub Rescale);

impl Op for Mul {
    #[inline(always)]
    fn apply<Y: QInt>(self, a: i32, b: i32) -> Y {
        self.0.requant(i64::from(a) * i64::from(b))
    }
}

impl Op for Add {
    #[inline(always)]
    fn apply<Y: QInt>(self, a: i32, b: i32) -> Y {
        Y::saturate(self.0.apply(a.into()) + self.1.apply(b.into()))
    }
}

impl Op for Sub {
    #[inline(always)]
    fn apply<Y: QInt>(self, a: i32, b: i32) -> Y {
        Y::saturate(self.0.apply(a.into()) - self.1.apply(b.into()))
    }
}

/// `op` over a row; an operand of one element repeats.
#[inline(always)]
pub fn row<A: QInt, B: QInt, Y: QInt>(a: &[A], b: &[B], op: impl Op, y: &mut [Y]) {
    match (a, b) {
        (&[a], b) => {
            for (y, &b) in y.iter_mut().zip(b) {
                *y = op.apply(a.to_i32(), b.to_i32());
            }
        }
        (a, &[b]) => {
            for (y, &a) in y.iter_mut().zip(a) {
                *y = op.apply(a.to_i32(), b.to_i32());
            }
        }
        _ => {
            for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
                *y = op.apply(a.to_i32(), b.to_i32());
            }
        }
    }
}

/// `max(q, floor)` in the output's format.
#[inline(always)]
pub fn keep<A: QInt, Y: QInt>(x: &[A], floor: i32, y: &mut [Y]) {
    for (y, &q) in y.iter_mut().zip(x) {
        *y = Y::saturate_i32(q.to_i32().max(floor));
    }
}

/// `requant(max(q, floor))`.
#[inline(always)]
pub fn change<A: QInt, Y: QInt>(x: &[A], floor: i32, rescale: Rescale, y: &mut [Y]) {
    for (y, &q) in y.iter_mut().zip(x) {
        *y = rescale.requant(q.to_i32().max(floor).into());
    }
}

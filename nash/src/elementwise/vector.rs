//! The ops of [`super::scalar`] in 32 bits, without a branch. Knows no instruction set.

use super::scalar::Op;
use crate::dtype::QInt;
use crate::requant::Rescale;
use crate::requant::narrow::{OfProduct, OfValue};

#[derive(Clone, Copy)]
pub(super) struct Mul(pub(super) OfProduct);

#[derive(Clone, Copy)]
pub(super) struct Add(pub(super) OfValue, pub(super) OfValue);

#[derive(Clone, Copy)]
pub(super) struct Sub(pub(super) OfValue, pub(super) OfValue);

impl Op for Mul {
    #[inline(always)]
    fn apply<Y: QInt>(self, a: i32, b: i32) -> Y {
        Y::saturate_i32(self.0.apply(a.wrapping_mul(b)))
    }
}

// Each operand is within 2^29, so neither sum nor difference wraps.
impl Op for Add {
    #[inline(always)]
    fn apply<Y: QInt>(self, a: i32, b: i32) -> Y {
        Y::saturate_i32(self.0.apply(a).wrapping_add(self.1.apply(b)))
    }
}

impl Op for Sub {
    #[inline(always)]
    fn apply<Y: QInt>(self, a: i32, b: i32) -> Y {
        Y::saturate_i32(self.0.apply(a).wrapping_sub(self.1.apply(b)))
    }
}

/// See [`super::scalar::change`].
#[inline(always)]
pub(super) fn change<A: QInt, Y: QInt>(x: &[A], floor: i32, rescale: Rescale, y: &mut [Y]) {
    let narrow = OfValue::new(rescale);
    for (y, &q) in y.iter_mut().zip(x) {
        *y = Y::saturate_i32(narrow.apply(q.to_i32().max(floor)));
    }
}

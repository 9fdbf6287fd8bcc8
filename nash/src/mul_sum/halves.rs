//! A weight times the multiplier of the products, in two halves, which is what a kernel for product
//! shifts 17 to 45 needs of it. Knows no instruction set.
//!
//! With `w * m = hi * 2^16 + lo`, lo signed, `(x * w * m + 2^(k-1)) >> k` is
//! `(x * hi + (x * lo >> 16) + 2^(k-17)) >> (k-16)`, see [`super::avx512`]'s header: all of it fits
//! 32 bits, and the product is never formed.

use crate::requant::Rescale;

/// Halves of every weight, in the order of the weights.
pub(super) struct Halves {
    pub(super) hi: Vec<i16>,
    pub(super) lo: Vec<i16>,
}

impl Halves {
    pub(super) fn new(w: &[i16], product: Rescale) -> Self {
        let scaled = |w: i16| i32::from(w).wrapping_mul(product.multiplier());
        let lo: Vec<i16> = w.iter().map(|&w| scaled(w) as i16).collect();
        let hi = |(&w, &lo): (&i16, &i16)| (scaled(w).wrapping_sub(lo.into()) >> 16) as i16;
        Self {
            hi: w.iter().zip(&lo).map(hi).collect(),
            lo,
        }
    }
}

/// What is done to a bracket: `(x * hi + (x * lo >> 16) + half) >> shift`.
#[derive(Clone, Copy)]
pub(super) struct Rounding {
    pub(super) half: i32,
    pub(super) shift: i32,
}

impl Rounding {
    /// For a product shift in 17..=45.
    pub(super) fn new(product: Rescale) -> Self {
        Self {
            half: 1 << (product.shift() - 17),
            shift: product.shift() - 16,
        }
    }
}

/// A weight row in halves, beside the row of x that it meets. All of one length.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) x: &'a [i16],
    pub(super) hi: &'a [i16],
    pub(super) lo: &'a [i16],
}

impl<'a> Row<'a> {
    /// At most `len` products at a time.
    pub(super) fn blocks(self, len: usize) -> impl Iterator<Item = Row<'a>> {
        let halves = self.hi.chunks(len).zip(self.lo.chunks(len));
        let rows = self.x.chunks(len).zip(halves);
        rows.map(|(x, (hi, lo))| Row { x, hi, lo })
    }
}

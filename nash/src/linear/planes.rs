//! How operands stand along k for a tile: in words of 32 bits, as a pair of int16 or as four bytes,
//! and in planes where a value is wider than what its tile multiplies. Knows no loop over tiles.

use crate::dtype::{IntDtype, QInt};

/// A part of an operand; a value of two parts is `256 * hi + lo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plane {
    Whole,
    Hi,
    Lo,
}

/// What rows of x are kept in, which says what a word holds: `i32` a pair of int16, so that a
/// multiply-add of pairs (`vpmaddwd`, `vpdpwssd`, `smlal`) takes two products; `u8` four bytes, for
/// instructions that take four (`tdpbssd`, `smmla`, `sdot`).
pub(super) trait Unit: Copy + Default + Send + Sync {
    /// Values in a word.
    const VALUES: usize;

    /// Units in a word.
    const UNITS: usize = 4 / size_of::<Self>();

    /// Planes of x and of w, the more significant first.
    fn planes(x: IntDtype, w: IntDtype) -> [&'static [Plane]; 2];

    /// A plane of a row of x. What lies behind it in `out` is left alone.
    fn fill<A: QInt>(row: &[A], plane: Plane, out: &mut [Self]);
}

impl Unit for i32 {
    const VALUES: usize = 2;

    /// Where both are int16, a pair of products could reach 2^31. So w is taken apart, with lo in
    /// [-128, 127] and hi in [-128, 128].
    fn planes(x: IntDtype, w: IntDtype) -> [&'static [Plane]; 2] {
        let both = x.bits() + w.bits() == 32;
        let w: &[Plane] = if both {
            &[Plane::Hi, Plane::Lo]
        } else {
            &[Plane::Whole]
        };
        [&[Plane::Whole], w]
    }

    fn fill<A: QInt>(row: &[A], _: Plane, out: &mut [Self]) {
        let (pairs, odd) = row.as_chunks::<2>();
        for (out, pair) in out.iter_mut().zip(pairs) {
            *out = word::<2, A>(pair, A::to_i32);
        }
        if let Some(out) = out.get_mut(pairs.len()) {
            *out = word::<2, A>(odd, A::to_i32);
        }
    }
}

impl Unit for u8 {
    const VALUES: usize = 4;

    /// Of int16 the high byte is signed, the low one is not.
    fn planes(x: IntDtype, w: IntDtype) -> [&'static [Plane]; 2] {
        [x, w].map(|dtype| -> &[Plane] {
            match dtype {
                IntDtype::Int8 => &[Plane::Whole],
                IntDtype::Int16 => &[Plane::Hi, Plane::Lo],
            }
        })
    }

    fn fill<A: QInt>(row: &[A], plane: Plane, out: &mut [Self]) {
        let bytes = out.iter_mut().zip(row);
        match plane {
            Plane::Hi => bytes.for_each(|(out, &v)| *out = high_byte(v)),
            Plane::Whole | Plane::Lo => bytes.for_each(|(out, &v)| *out = low_byte(v)),
        }
    }
}

#[inline(always)]
pub(super) fn whole<T: QInt>(v: T) -> i16 {
    v.to_i32() as i16
}

/// `(v - lo) / 256`, with the rounding of that lo, and without leaving 16 bits.
#[inline(always)]
pub(super) fn hi<T: QInt>(v: T) -> i16 {
    let v = whole(v);
    (v >> 8) + (v >> 7 & 1)
}

#[inline(always)]
pub(super) fn lo<T: QInt>(v: T) -> i16 {
    (whole(v) as i8).into()
}

#[inline(always)]
pub(super) fn high_byte<T: QInt>(v: T) -> u8 {
    (v.to_i32() >> 8) as u8
}

#[inline(always)]
pub(super) fn low_byte<T: QInt>(v: T) -> u8 {
    v.to_i32() as u8
}

/// `VALUES` values, or the first of them, as a word.
#[inline(always)]
pub(super) fn word<const VALUES: usize, T: QInt>(values: &[T], of: impl Fn(T) -> i32) -> i32 {
    let bits = 32 / VALUES;
    let mask = (1 << bits) - 1;
    let values = values.iter().rev();
    values.fold(0, |word, &v| word << bits | of(v) & mask)
}

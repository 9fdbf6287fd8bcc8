//! The segment table and its integer evaluation: six inner segments of 64 entries with 8-bit
//! interpolation and two linear tails `[pub]`. Details are `[our]`, listed at [`SegmentLut`].

use super::{Division, Ideal};
use crate::dtype::{IntDtype, QInt};
use crate::simd::for_each_isa;

/// Inner segments.
pub const SEGMENTS: usize = 6;

/// Entries of one segment, both of its ends included.
pub const ENTRIES: usize = 64;

/// Fraction bits of a position between two entries.
const INTERPOLATION_BITS: u32 = 8;

/// Fraction bits of a segment's step.
const STEP_BITS: u32 = 16;

/// Fraction bits of a tail's slope.
const SLOPE_BITS: u32 = 24;

/// Eight linear-or-tabulated pieces over the whole input format. Our choices:
/// - a segment's 64 entries include both of its ends, so they span 63 intervals; segments are
///   independent of each other;
/// - entries are int16. An int8 output keeps the 8 bits that are left as fraction bits;
/// - a segment narrower than 63 steps has one entry for each input, hence no interpolation error;
/// - a position is `(q - start) * step`, step with 16 fraction bits, rounded to 8;
/// - a tail is the straight line between the function's values at its two ends, so it is
///   continuous with the inner segments and bounded by the function;
/// - all roundings are half up.
#[derive(Debug, Clone, PartialEq)]
pub struct SegmentLut {
    division: Division,
    segments: [Segment; SEGMENTS],
    left: Tail,
    right: Tail,
    /// First and last input of the inner segments.
    inner: (i32, i32),
    /// Fraction bits of the entries.
    fraction_bits: u32,
    output: IntDtype,
}

#[derive(Debug, Clone, PartialEq)]
struct Segment {
    start: i32,
    /// Entries for each input step, in 2^-(16 + 8).
    step: i64,
    entries: [i16; ENTRIES],
}

#[derive(Debug, Clone, PartialEq)]
struct Tail {
    /// Where it meets the inner segments.
    origin: i32,
    /// Value there, in 2^-24.
    value: i64,
    /// Change for each input step, in 2^-24.
    slope: i64,
}

impl SegmentLut {
    /// `bounds` are the ends of the inner segments, strictly increasing, within the input format.
    pub(super) fn build(ideal: &Ideal, division: Division, bounds: &[i32; SEGMENTS + 1]) -> Self {
        let input = ideal.spec.input;
        let output = ideal.spec.output;
        let fraction_bits = 16 - output.bits();
        let (first, last) = (bounds[0], bounds[SEGMENTS]);
        Self {
            division,
            segments: std::array::from_fn(|i| {
                Segment::build(ideal, bounds[i], bounds[i + 1], fraction_bits)
            }),
            left: Tail::build(ideal, first, input.qmin()),
            right: Tail::build(ideal, last, input.qmax()),
            inner: (first, last),
            fraction_bits,
            output,
        }
    }

    /// The table's value for an integer input of its format.
    pub fn eval(&self, q: i32) -> i32 {
        let value = if q < self.inner.0 {
            self.left.eval(q)
        } else if q > self.inner.1 {
            self.right.eval(q)
        } else {
            // Segments are few; counting the starts that are not beyond q needs no branch.
            let at = self.segments[1..]
                .iter()
                .map(|s| usize::from(s.start <= q))
                .sum::<usize>();
            self.segments[at].eval(q, self.fraction_bits)
        };
        value.clamp(self.output.qmin().into(), self.output.qmax().into()) as i32
    }

    /// How the segments were divided.
    pub fn division(&self) -> Division {
        self.division
    }

    /// First input of each inner segment and the last input of the last one.
    pub fn bounds(&self) -> [i32; SEGMENTS + 1] {
        std::array::from_fn(|i| self.segments.get(i).map_or(self.inner.1, |s| s.start))
    }
}

impl Segment {
    fn build(ideal: &Ideal, start: i32, end: i32, fraction_bits: u32) -> Self {
        let spacing = (f64::from(end - start) / (ENTRIES - 1) as f64).max(1.0);
        let unit = f64::from(1u32 << fraction_bits);
        let one = f64::from(1u32 << (STEP_BITS + INTERPOLATION_BITS));
        Self {
            start,
            step: (one / spacing).round_ties_even() as i64,
            entries: std::array::from_fn(|i| {
                let value = ideal.between(f64::from(start) + i as f64 * spacing);
                // A float-to-integer cast saturates.
                (value * unit).round_ties_even() as i16
            }),
        }
    }

    fn eval(&self, q: i32, fraction_bits: u32) -> i64 {
        const ONE: i64 = 1 << INTERPOLATION_BITS;
        let position = round_shift(i64::from(q - self.start) * self.step, STEP_BITS);
        let at = (position / ONE).clamp(0, ENTRIES as i64 - 2);
        // At the far end the fraction is a whole one.
        let fraction = (position - at * ONE).min(ONE);
        let [left, right] = [self.entries[at as usize], self.entries[at as usize + 1]];
        let blend = i64::from(left) * (ONE - fraction) + i64::from(right) * fraction;
        round_shift(blend, INTERPOLATION_BITS + fraction_bits)
    }
}

impl Tail {
    fn build(ideal: &Ideal, origin: i32, far: i32) -> Self {
        let one = f64::from(1u32 << SLOPE_BITS);
        let value = ideal.at(origin);
        // A tail without length is never evaluated.
        let slope = if far == origin {
            0.0
        } else {
            (ideal.at(far) - value) / f64::from(far - origin)
        };
        Self {
            origin,
            value: (value * one).round_ties_even() as i64,
            slope: (slope * one).round_ties_even() as i64,
        }
    }

    fn eval(&self, q: i32) -> i64 {
        round_shift(
            self.value + i64::from(q - self.origin) * self.slope,
            SLOPE_BITS,
        )
    }
}

for_each_isa! {
    /// The table's value for each input.
    pub(super) fn apply<A: QInt, Y: QInt>(x: &[A], table: &SegmentLut, y: &mut [Y]) {
        portable: eval_each,
        vector: eval_each,
    }
}

/// Scalar reference.
#[inline(always)]
fn eval_each<A: QInt, Y: QInt>(x: &[A], table: &SegmentLut, y: &mut [Y]) {
    for (y, q) in y.iter_mut().zip(x) {
        *y = Y::saturate_i32(table.eval(q.to_i32()));
    }
}

/// `value / 2^bits`, rounded half up.
fn round_shift(value: i64, bits: u32) -> i64 {
    (value + (1 << (bits - 1))) >> bits
}

//! Sums over two float tensors side by side, a float one and a quantized one: no part of the chip, but of
//! what is said of it, and a good part of the time that a job takes.

use crate::simd::{Isa, for_each_isa};

/// Lanes that are summed apart, which breaks the chain of additions: element i belongs to lane `i % LANES`.
pub const LANES: usize = 4;

/// Sums over pairs of a reference and of what was got, lane by lane, in f64.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ErrorLanes {
    /// Σ reference².
    pub reference_squares: [f64; LANES],
    /// Σ got².
    pub got_squares: [f64; LANES],
    /// Σ reference · got.
    pub products: [f64; LANES],
    /// Σ |got - reference|.
    pub error_abs: [f64; LANES],
    /// Σ (got - reference)².
    pub error_squares: [f64; LANES],
    /// Largest |got - reference|.
    pub error_max: [f64; LANES],
}

/// The sums of finite values; of slices of different lengths, of as many as the shorter has.
pub fn error_lanes(reference: &[f32], got: &[f32]) -> ErrorLanes {
    error_lanes_on(Isa::best(), reference, got)
}

for_each_isa! {
    /// [`error_lanes`] on an instruction set of the caller's choice.
    pub fn error_lanes_on(reference: &[f32], got: &[f32]) -> ErrorLanes {
        portable: scalar::error_lanes,
        vector: scalar::error_lanes,
    }
}

/// How many values a quantization takes away: those that are 0 and were not, and those at an end of the
/// range that were beyond it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lost {
    /// 0 now.
    pub zero: u64,
    /// At an end now.
    pub clipped: u64,
}

/// Counts what was lost between floats and their quantized values, given the ends of the range.
pub fn lost(float: &[f32], quantized: &[f32], ends: (f32, f32)) -> Lost {
    lost_on(Isa::best(), float, quantized, ends)
}

for_each_isa! {
    /// [`lost`] on an instruction set of the caller's choice.
    pub fn lost_on(float: &[f32], quantized: &[f32], ends: (f32, f32)) -> Lost {
        portable: scalar::lost,
        vector: scalar::lost,
    }
}

/// Smallest and largest of the finite ones among some values; +inf and -inf where there are none.
pub fn extremes(values: &[f32]) -> (f32, f32) {
    extremes_on(Isa::best(), values)
}

for_each_isa! {
    /// [`extremes`] on an instruction set of the caller's choice.
    pub fn extremes_on(values: &[f32]) -> (f32, f32) {
        portable: scalar::extremes,
        vector: scalar::extremes,
    }
}

/// The loops.
mod scalar {
    use super::{ErrorLanes, LANES, Lost};

    /// Extremes that are kept apart: those of a wide register, twice.
    const WIDE: usize = 32;

    #[inline(always)]
    pub(super) fn extremes(values: &[f32]) -> (f32, f32) {
        let (mut min, mut max) = ([f32::INFINITY; WIDE], [f32::NEG_INFINITY; WIDE]);
        let (chunks, rest) = values.as_chunks::<WIDE>();
        for chunk in chunks {
            for ((min, max), &x) in min.iter_mut().zip(&mut max).zip(chunk) {
                (*min, *max) = beyond(*min, *max, x);
            }
        }
        let all = min.into_iter().zip(max);
        let ends = all.fold((f32::INFINITY, f32::NEG_INFINITY), |ends, own| {
            (ends.0.min(own.0), ends.1.max(own.1))
        });
        rest.iter().fold(ends, |(min, max), &x| beyond(min, max, x))
    }

    #[inline(always)]
    fn beyond(min: f32, max: f32, x: f32) -> (f32, f32) {
        // No comparison with a NaN holds.
        let x = if x.is_finite() { x } else { f32::NAN };
        (if x < min { x } else { min }, if x > max { x } else { max })
    }

    #[inline(always)]
    pub(super) fn error_lanes(reference: &[f32], got: &[f32]) -> ErrorLanes {
        let length = reference.len().min(got.len());
        let (reference, rest) = reference[..length].as_chunks::<LANES>();
        let (got, got_rest) = got[..length].as_chunks::<LANES>();
        let mut sums = ErrorLanes::default();
        for (reference, got) in reference.iter().zip(got) {
            for lane in 0..LANES {
                add(&mut sums, lane, reference[lane], got[lane]);
            }
        }
        for (lane, (&reference, &got)) in rest.iter().zip(got_rest).enumerate() {
            add(&mut sums, lane, reference, got);
        }
        sums
    }

    #[inline(always)]
    fn add(sums: &mut ErrorLanes, lane: usize, reference: f32, got: f32) {
        let (reference, got) = (f64::from(reference), f64::from(got));
        let error = got - reference;
        let magnitude = error.abs();
        sums.reference_squares[lane] += reference * reference;
        sums.got_squares[lane] += got * got;
        sums.products[lane] += reference * got;
        sums.error_abs[lane] += magnitude;
        sums.error_squares[lane] += error * error;
        // One instruction, unlike `max`, which minds NaN.
        let largest = sums.error_max[lane];
        sums.error_max[lane] = if magnitude > largest {
            magnitude
        } else {
            largest
        };
    }

    /// So many fit a counter of 32 bits, of which a register holds twice as many as of 64.
    const BLOCK: usize = 1 << 16;

    #[inline(always)]
    pub(super) fn lost(float: &[f32], quantized: &[f32], (least, most): (f32, f32)) -> Lost {
        let mut lost = Lost::default();
        for (float, quantized) in float.chunks(BLOCK).zip(quantized.chunks(BLOCK)) {
            let (mut zero, mut clipped) = (0u32, 0u32);
            for (&float, &quantized) in float.iter().zip(quantized) {
                zero += u32::from((quantized == 0.0) & (float != 0.0));
                let below = (quantized <= least) & (float < least);
                let above = (quantized >= most) & (float > most);
                clipped += u32::from(below | above);
            }
            lost.zero += u64::from(zero);
            lost.clipped += u64::from(clipped);
        }
        lost
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Lengths around multiples of the lanes and of a register.
    fn pairs() -> impl Strategy<Value = Vec<(f32, f32)>> {
        prop::collection::vec((-4.0f32..4.0, -4.0f32..4.0), 0..70)
    }

    proptest! {
        #[test]
        fn every_instruction_set_sums_and_counts_the_same_bits(pairs in pairs()) {
            let (a, b): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
            let b: Vec<f32> = b.iter().map(|b| b.round()).collect();
            let ends = (-3.0, 3.0);
            let expected = (error_lanes_on(Isa::PORTABLE, &a, &b), lost_on(Isa::PORTABLE, &a, &b, ends));
            for isa in Isa::available() {
                prop_assert_eq!(&(error_lanes_on(isa, &a, &b), lost_on(isa, &a, &b, ends)), &expected);
            }
            for isa in Isa::available() {
                let mut values = a.clone();
                values.extend([f32::NAN, f32::INFINITY, f32::NEG_INFINITY]);
                values.extend(&b);
                let of = |start: f32, f: fn(f32, f32) -> f32| a.iter().chain(&b).copied().fold(start, f);
                let ends = (of(f32::INFINITY, f32::min), of(f32::NEG_INFINITY, f32::max));
                prop_assert_eq!(extremes_on(isa, &values), ends);
            }
            // The plain definitions.
            let lane = |lane: usize| a.iter().zip(&b).skip(lane).step_by(LANES);
            for at in 0..LANES {
                let squares = lane(at).fold(0.0, |sum, (&a, &b)| {
                    sum + (f64::from(b) - f64::from(a)) * (f64::from(b) - f64::from(a))
                });
                prop_assert_eq!(expected.0.error_squares[at], squares);
                let most = lane(at).fold(0.0f64, |most, (&a, &b)| most.max((f64::from(b) - f64::from(a)).abs()));
                prop_assert_eq!(expected.0.error_max[at], most);
            }
            let zero = a.iter().zip(&b).filter(|(a, b)| **b == 0.0 && **a != 0.0).count() as u64;
            let clipped = a.iter().zip(&b).filter(|&(&a, &b)| (b <= -3.0 && a < -3.0) || (b >= 3.0 && a > 3.0));
            prop_assert_eq!(expected.1, Lost { zero, clipped: clipped.count() as u64 });
        }
    }
}

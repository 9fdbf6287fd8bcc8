//! How the float values of an operator lie about the integers that stand for them: counts by magnitude in
//! octaves of the step. What lies below half a step becomes 0, what lies above the largest integer is
//! clipped. Knows no operator and no plan.

use serde::{Deserialize, Serialize};

/// The first octave holds magnitudes in steps below 2^(FIRST + 1), the last those from 2^(FIRST + COUNT - 1) on.
pub(crate) const FIRST: i32 = -8;
/// Octaves: up to 2^20 steps, far beyond int16.
const COUNT: usize = 29;

/// Counts of finite values by sign and magnitude; empty of what has no step.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Octaves {
    /// Values that are 0.
    pub(crate) zeros: u64,
    /// By octave, those below 0.
    pub(crate) negative: Vec<u64>,
    /// By octave, those above 0.
    pub(crate) positive: Vec<u64>,
}

impl Octaves {
    /// Of float values and the step, > 0, of their integers.
    pub(crate) fn of(values: &[f32], step: f32) -> Self {
        // Neighbours are often in the same place, and are counted apart, for the second would wait for the first.
        let mut counts = [[0u64; PLACES]; 2];
        let mut places = [0u8; BLOCK];
        for block in values.chunks(BLOCK) {
            // A loop of its own, of which the compiler makes vectors.
            for (place, &value) in places.iter_mut().zip(block) {
                *place = place_of(value, step);
            }
            for pair in places[..block.len()].chunks(2) {
                for (counts, &place) in counts.iter_mut().zip(pair) {
                    counts[usize::from(place) % PLACES] += 1;
                }
            }
        }
        let [counts, others] = counts;
        let count = |place: usize| counts[place] + others[place];
        Octaves {
            zeros: count(ZERO),
            negative: (0..COUNT).map(|octave| count(NEGATIVE + octave)).collect(),
            positive: (0..COUNT).map(count).collect(),
        }
    }

    /// Adds the counts of other values of the same step.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.zeros += other.zeros;
        for (mine, others) in [
            (&mut self.negative, &other.negative),
            (&mut self.positive, &other.positive),
        ] {
            mine.resize(mine.len().max(others.len()), 0);
            mine.iter_mut()
                .zip(others)
                .for_each(|(mine, other)| *mine += other);
        }
    }

    /// Whether nothing was counted.
    pub(crate) fn is_empty(&self) -> bool {
        self.zeros == 0 && self.negative.iter().chain(&self.positive).all(|&n| n == 0)
    }
}

/// Places of [`Octaves::of`]: the octaves of what is above 0, those of what is below, 0, and what is not finite.
const PLACES: usize = 64;
const NEGATIVE: usize = COUNT;
const ZERO: usize = 2 * COUNT;
const NOT_FINITE: usize = 2 * COUNT + 1;
/// Values that are placed before they are counted.
const BLOCK: usize = 256;

/// Where a value is counted.
#[inline(always)]
fn place_of(value: f32, step: f32) -> u8 {
    let steps = f64::from(value.abs()) / f64::from(step);
    // The exponent of a normal f64, which the quotient of two positive f32 is: exact, without a logarithm.
    let exponent = ((steps.to_bits() >> 52) & 0x7ff) as i32 - 1023;
    let octave = (exponent - FIRST).clamp(0, COUNT as i32 - 1) as usize;
    let of_sign = octave + if value < 0.0 { NEGATIVE } else { 0 };
    let of_finite = if value == 0.0 { ZERO } else { of_sign };
    let place = if value.is_finite() {
        of_finite
    } else {
        NOT_FINITE
    };
    place as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn magnitudes_are_counted_by_octaves_of_the_step_and_ends_take_what_is_beyond() {
        let values = [
            0.0,
            0.5,
            -0.5,
            0.75,
            1.0,
            f32::MAX,
            f32::from_bits(1),
            f32::NAN,
        ];
        let octaves = Octaves::of(&values, 0.5);
        let place = |exponent: i32| (exponent - FIRST) as usize;
        assert_eq!(octaves.zeros, 1);
        assert_eq!(octaves.negative[place(0)], 1);
        assert_eq!(octaves.positive[place(0)], 2, "one step and one and a half");
        assert_eq!(octaves.positive[place(1)], 1);
        assert_eq!(
            (octaves.positive[0], octaves.positive[COUNT - 1]),
            (1, 1),
            "the ends"
        );
        assert_eq!(octaves.positive.iter().sum::<u64>(), 5);
    }

    #[test]
    fn merging_is_counting_all_at_once() {
        let values = [0.0, 3.0, -7.0, 1e9, 1e-9];
        let mut merged = Octaves::default();
        assert!(merged.is_empty());
        for part in values.chunks(2) {
            merged.merge(&Octaves::of(part, 0.1));
        }
        assert_eq!(merged, Octaves::of(&values, 0.1));
        assert!(!merged.is_empty());
    }
}

//! Where the six inner segments lie: evenly, or by curvature `[pub]`; over the observed range, or
//! without the ends that the tails carry just as well `[our]`. All four are built, and the one with
//! the smallest measured error wins `[our]`, the first of equals.

use super::Ideal;
use super::segment::{SEGMENTS, SegmentLut};

/// How the inner range is divided into segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Division {
    /// Segments of equal width.
    Even,
    /// Segments of equal cumulative |second difference| of 256 samples.
    Curvature,
    /// Segments where the inputs that were seen need them; stated with the table.
    Seen,
}

/// Samples that curvature is taken from `[pub]`.
const SAMPLES: usize = 256;

/// A tail may be this far, in output LSB, from the function.
const TAIL_TOLERANCE: f64 = 0.5;

pub(super) type Bounds = [i32; SEGMENTS + 1];

/// The candidate with the smallest error over `domain`, and that error in output LSB.
pub(super) fn best(ideal: &Ideal, domain: (i32, i32)) -> (SegmentLut, f64) {
    let measure = |division: Division, inner: (i32, i32)| {
        let bounds = match division {
            Division::Even | Division::Seen => even(inner),
            Division::Curvature => by_curvature(ideal, inner),
        };
        let table = SegmentLut::build(ideal, division, &bounds);
        let error = ideal.max_error(domain, |q| table.eval(q));
        (table, error)
    };
    let trimmed = trim(ideal, domain);
    let first = measure(Division::Even, domain);
    let rest = [
        (Division::Curvature, domain),
        (Division::Even, trimmed),
        (Division::Curvature, trimmed),
    ];
    rest.into_iter().fold(first, |best, (division, inner)| {
        let next = measure(division, inner);
        if next.1 < best.1 { next } else { best }
    })
}

pub(super) fn even((low, high): (i32, i32)) -> Bounds {
    std::array::from_fn(|i| low + (high - low) * i as i32 / SEGMENTS as i32)
}

pub(super) fn by_curvature(ideal: &Ideal, inner: (i32, i32)) -> Bounds {
    let (low, high) = (f64::from(inner.0), f64::from(inner.1));
    let spacing = (high - low) / (SAMPLES - 1) as f64;
    let sample = |i: usize| ideal.between(low + i as f64 * spacing);
    let samples: Vec<f64> = (0..SAMPLES).map(sample).collect();
    // cumulative[i] = curvature up to sample i; the second difference at a sample counts from there.
    let mut cumulative = vec![0.0; SAMPLES];
    for i in 1..SAMPLES - 1 {
        let second = samples[i - 1] - 2.0 * samples[i] + samples[i + 1];
        cumulative[i + 1] = cumulative[i] + second.abs();
    }
    let total = cumulative[SAMPLES - 1];
    if total <= 0.0 {
        return even(inner);
    }
    let mut bounds = even(inner);
    for (j, bound) in bounds.iter_mut().enumerate().take(SEGMENTS).skip(1) {
        let share = total * j as f64 / SEGMENTS as f64;
        // The first sample at or beyond the share, and the fraction of the step before it.
        let after = cumulative
            .partition_point(|&c| c < share)
            .clamp(1, SAMPLES - 1);
        let (from, to) = (cumulative[after - 1], cumulative[after]);
        let fraction = if to > from {
            (share - from) / (to - from)
        } else {
            0.0
        };
        *bound = (low + (after as f64 - 1.0 + fraction) * spacing).round_ties_even() as i32;
    }
    separate(&mut bounds);
    bounds
}

/// Makes bounds strictly increasing without moving the ends; these are at least SEGMENTS apart.
pub(super) fn separate(bounds: &mut Bounds) {
    for j in 1..SEGMENTS {
        bounds[j] = bounds[j].max(bounds[j - 1] + 1);
    }
    for j in (1..SEGMENTS).rev() {
        bounds[j] = bounds[j].min(bounds[j + 1] - 1);
    }
}

/// The domain without the ends on which a straight line is within tolerance.
pub(super) fn trim(ideal: &Ideal, (low, high): (i32, i32)) -> (i32, i32) {
    let width = SEGMENTS as i32;
    let (qmin, qmax) = (ideal.spec.input.qmin(), ideal.spec.input.qmax());
    let left = farthest(high - width - low, |steps| {
        is_straight(ideal, qmin, low + steps)
    });
    let low = low + left;
    let right = farthest(high - low - width, |steps| {
        is_straight(ideal, high - steps, qmax)
    });
    (low, high - right)
}

/// By bisection, a number of steps in [0, limit] that holds, 0 if none was found.
pub(super) fn farthest(limit: i32, holds: impl Fn(i32) -> bool) -> i32 {
    let (mut good, mut bad) = (0, limit + 1);
    while bad - good > 1 {
        let middle = good + (bad - good) / 2;
        if holds(middle) {
            good = middle;
        } else {
            bad = middle;
        }
    }
    good
}

fn is_straight(ideal: &Ideal, from: i32, to: i32) -> bool {
    let start = ideal.at(from);
    let slope = (ideal.at(to) - start) / f64::from((to - from).max(1));
    (from..=to).all(|q| (start + slope * f64::from(q - from) - ideal.at(q)).abs() <= TAIL_TOLERANCE)
}

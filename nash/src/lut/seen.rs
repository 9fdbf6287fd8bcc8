//! Division by where the inputs are `[our]`: segments are worth most where a model's inputs lie, which
//! neither equal widths nor curvature know.
//!
//! Linear interpolation over steps of h is off by f'' h² / 12 in the mean and by (f'' h²)² / 120 in the
//! mean square. Weighted by how often each input was seen, both add up over segments, so the best six
//! between ends on a grid follow by dynamic programming. What they promise is then measured beside the
//! divisions that a table has by itself, rounding included, and the best of all is taken.

use super::division::{self, Bounds};
use super::segment::{ENTRIES, SEGMENTS, SegmentLut};
use super::{Division, Ideal};

/// Ends of segments lie on a grid of so many even positions, and as many quantiles of each weight.
const GRID: usize = 64;

/// What the mean over a segment is taken of.
#[derive(Clone, Copy)]
enum Moment {
    /// |f''| h² / 12: what a sum over many elements gathers.
    Mean,
    /// (f'' h²)² / 120: the energy of elements by themselves.
    Square,
}

/// The inputs that were seen, of a function in units of the output's LSB.
struct Seen<'a> {
    ideal: &'a Ideal,
    /// (input, weight) of those with a weight, in order.
    inputs: Vec<(i32, f64)>,
    total: f64,
}

/// The ends of the segments with the smallest error over the inputs that were seen: `weights` are by
/// input from qmin up, finite, none below 0. The error is the mean square of what the table gives less
/// the function rounded, and the square of its mean times `summed`, for so many elements at a time are
/// added by what reads the table. Without any weight, the division that the table has by itself.
pub(super) fn best(
    ideal: &Ideal,
    domain: (i32, i32),
    weights: &[f64],
    summed: usize,
) -> (SegmentLut, f64) {
    let qmin = ideal.spec.input.qmin();
    let inputs = weights
        .iter()
        .enumerate()
        .filter(|(_, weight)| **weight > 0.0);
    let inputs: Vec<(i32, f64)> = inputs
        .map(|(at, &weight)| (qmin + at as i32, weight))
        .collect();
    let total: f64 = inputs.iter().map(|(_, weight)| weight).sum();
    let own = division::best(ideal, domain).0;
    let (Some(&(first, _)), Some(&(last, _))) = (inputs.first(), inputs.last()) else {
        return (own, 0.0);
    };
    let seen = Seen {
        ideal,
        inputs,
        total,
    };
    let width = SEGMENTS as i32;
    let low = first.min(ideal.spec.input.qmax() - width);
    let all = (low, last.max(low + width));
    let mut best = (seen.error(&own, summed), own);
    for inner in [all, division::trim(ideal, all), seen.trim(all)] {
        let candidates = [
            division::even(inner),
            division::by_curvature(ideal, inner),
            seen.divide(inner, Moment::Square),
            seen.divide(inner, Moment::Mean),
        ];
        for bounds in candidates {
            let table = SegmentLut::build(ideal, Division::Seen, &bounds);
            let error = seen.error(&table, summed);
            if error < best.0 {
                best = (error, table);
            }
        }
    }
    (best.1, best.0)
}

impl Seen<'_> {
    /// Mean square of table - function, and `summed` times the square of its mean.
    fn error(&self, table: &SegmentLut, summed: usize) -> f64 {
        let (mut sum, mut squares) = (0.0, 0.0);
        for &(q, weight) in &self.inputs {
            let error = f64::from(table.eval(q)) - self.ideal.at(q).round_ties_even();
            sum += weight * error;
            squares += weight * error * error;
        }
        let mean = sum / self.total;
        squares / self.total + summed as f64 * mean * mean
    }

    /// The range without the ends on which a straight line rounds to what the function rounds to.
    fn trim(&self, (low, high): (i32, i32)) -> (i32, i32) {
        let width = SEGMENTS as i32;
        let input = self.ideal.spec.input;
        let left = division::farthest(high - width - low, |steps| {
            self.is_same(low + steps, input.qmin())
        });
        let low = low + left;
        let right = division::farthest(high - low - width, |steps| {
            self.is_same(high - steps, input.qmax())
        });
        (low, high - right)
    }

    fn is_same(&self, origin: i32, far: i32) -> bool {
        let start = self.ideal.at(origin);
        let slope = (self.ideal.at(far) - start) / f64::from((far - origin).abs().max(1));
        let (from, to) = (origin.min(far), origin.max(far));
        let inputs = &self.inputs;
        let first = inputs.partition_point(|(q, _)| *q < from);
        let beyond = inputs[first..].iter().take_while(|(q, _)| *q <= to);
        beyond.map(|&(q, _)| q).all(|q| {
            let line = start + slope * f64::from((q - origin).abs());
            (line + 0.5).floor() == self.ideal.at(q).round_ties_even()
        })
    }

    /// The best six segments between ends on a grid, by the expected error of interpolation.
    fn divide(&self, (low, high): (i32, i32), moment: Moment) -> Bounds {
        let qmin = self.ideal.spec.input.qmin();
        let second = |q: i32| {
            let at = |q: i32| self.ideal.at(q.clamp(qmin, self.ideal.spec.input.qmax()));
            (at(q - 1) - 2.0 * at(q) + at(q + 1)).abs()
        };
        let term = |q: i32, weight: f64| match moment {
            Moment::Mean => weight * second(q) / 12.0,
            Moment::Square => weight * second(q) * second(q) / 120.0,
        };
        // below[i]: what all inputs below low + i add at steps of 1.
        let mut below = vec![0.0; (high - low) as usize + 2];
        for &(q, weight) in self.inputs.iter().filter(|(q, _)| (low..=high).contains(q)) {
            below[(q - low) as usize + 1] = term(q, weight);
        }
        for i in 1..below.len() {
            below[i] += below[i - 1];
        }
        let grid = self.grid((low, high), &below);
        let power = match moment {
            Moment::Mean => 2,
            Moment::Square => 4,
        };
        let cost = |from: usize, to: usize| {
            let steps = f64::from(grid[to] - grid[from]) / (ENTRIES - 1) as f64;
            match steps <= 1.0 {
                true => 0.0,
                false => {
                    let inside =
                        below[(grid[to] - low) as usize] - below[(grid[from] - low) as usize];
                    inside * steps.powi(power)
                }
            }
        };
        let ends = grid.len();
        // least[to] = (cost, from) of so many segments that end there.
        let mut least: Vec<f64> = (0..ends).map(|to| cost(0, to)).collect();
        let mut chosen: Vec<Vec<usize>> = Vec::new();
        for _ in 1..SEGMENTS {
            let next = (0..ends).map(|to| {
                let froms = 0..to;
                let all = froms.map(|from| (least[from] + cost(from, to), from));
                all.fold((f64::INFINITY, 0), |best, one| match one.0 < best.0 {
                    true => one,
                    false => best,
                })
            });
            let (costs, from): (Vec<f64>, Vec<usize>) = next.unzip();
            least = costs;
            chosen.push(from);
        }
        let mut bounds = [low; SEGMENTS + 1];
        let mut at = ends - 1;
        bounds[SEGMENTS] = high;
        for (end, from) in (1..SEGMENTS).zip(&chosen).rev() {
            at = from[at];
            bounds[end] = grid[at];
        }
        division::separate(&mut bounds);
        bounds
    }

    /// Positions from low to high, strictly increasing: even ones, and quantiles of the inputs and of
    /// what they add.
    fn grid(&self, (low, high): (i32, i32), below: &[f64]) -> Vec<i32> {
        let span = i64::from(high - low);
        let even = (0..=GRID as i64).map(|i| low + (span * i / GRID as i64) as i32);
        let mut grid: Vec<i32> = even.collect();
        let share = |i: usize| i as f64 / GRID as f64;
        let all = below.last().copied().unwrap_or(0.0);
        for i in 1..GRID {
            let at = below.partition_point(|&sum| sum < all * share(i));
            grid.push((low + at as i32).min(high));
        }
        let (mut sum, mut i) = (0.0, 1);
        for &(q, weight) in &self.inputs {
            sum += weight;
            while i < GRID && sum >= self.total * share(i) {
                grid.push(q.clamp(low, high));
                i += 1;
            }
        }
        grid.sort_unstable();
        grid.dedup();
        grid
    }
}

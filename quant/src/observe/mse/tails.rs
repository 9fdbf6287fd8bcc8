//! What one pass over the values tells about the error of any scale: a lower bound, close enough that
//! few candidates need a pass of their own. It knows scales and dtypes, not candidates.
//!
//! Of the values with one sign, y = |x|, quantized to the levels 0, s, ..., L s at best, the squared
//! error of one is `min_k (y - k s)^2`. Since `(y - (k-1) s)^2 - (y - k s)^2 = 2 s (y - (k - 1/2) s)`,
//! the sum over all of them is
//!
//! ```text
//! sum y^2 - 2 s sum_{k=1}^{L} H((k - 1/2) s)    with the excess H(m) = sum max(y - m, 0).
//! ```
//!
//! H is convex, so a chord between two edges of a histogram lies above it, and the sum with chords
//! lies below the error; what is lost falls with the square of the bin width. With more levels than
//! bins (int16) that is nothing to go by. There the error of what is clipped alone decides,
//! `C(t) = sum max(y - t, 0)^2` at t = L s: convex too, with derivative -2 H, so a tangent lies below
//! it.

use dual16_nash::{dtype::IntDtype, scale::Scale};

use super::candidate::BLOCK;

/// Bins for each sign, over [0, 2^e) where 2^e is the power of two above the largest magnitude: at
/// least 32 bins for the widest step of int8.
const BINS: usize = 1 << BIN_BITS;
const BIN_BITS: u32 = 13;

/// Places of a value inside its bin are counted in 2^-20 of the width.
const TICK_BITS: u32 = 20;
const TICKS: f64 = (1u64 << TICK_BITS) as f64;

/// While it is filled, a bin is one word, so that a value costs one addition: the number of values
/// above this bit, the sum of their places below it.
const COUNT_SHIFT: u32 = 42;

/// Most values that fit such a word: 22 bits for the count, 20 + 22 for the places.
const WORD_VALUES: usize = (1 << (64 - COUNT_SHIFT)) - 1;

/// Half a unit in the last place of 1: the relative error of one rounding.
const HALF_ULP_F32: f64 = 1.0 / (1u64 << 24) as f64;
const HALF_ULP_F64: f64 = HALF_ULP_F32 / (1u64 << 29) as f64;

/// The tails of a set of values, for bounds on errors of quantization.
#[derive(Debug)]
pub(super) struct Tails {
    /// Tails of |x| over the values >= 0, then over those < 0.
    sides: [Vec<Edge>; 2],
    /// Sum of x^2.
    energy: f64,
    /// Width of a bin, a power of two.
    width: f64,
    /// Bound on the relative error of every sum of terms that are not negative.
    rounding: f64,
}

/// What lies above the lower edge of a bin, lengths in widths of a bin.
#[derive(Debug, Clone, Copy, Default)]
struct Edge {
    /// H at the edge lies in `[excess_low, excess_high]`.
    excess_low: f64,
    excess_high: f64,
    /// C at the edge is not below this.
    clipped_low: f64,
}

/// Values of a bin: their number, and the sum of their places in ticks.
#[derive(Debug, Clone, Copy, Default)]
struct Bin {
    count: u64,
    ticks: u64,
}

impl Tails {
    /// Of finite values.
    pub(super) fn new(values: &[f32]) -> Self {
        // Magnitudes are ordered as their bits, whose maximum vectorizes.
        let amax = values.iter().map(|x| x.abs().to_bits()).max().unwrap_or(0);
        // amax = fraction * 2^exponent with fraction < 1.
        let (_, exponent) = libm::frexpf(f32::from_bits(amax));
        let width = libm::ldexp(1.0, exponent - BIN_BITS as i32);
        let bins = fill(values, TICKS / width);
        let (positive, negative) = bins.split_at(BINS);
        // Terms of a sum: one for each block and those inside of one, four for each bin, and one for
        // each level of int8; the rest is a margin.
        let terms = values.len() / BLOCK + 4 * BINS + BLOCK;
        Self {
            sides: [edges(positive), edges(negative)],
            energy: energy(values),
            width,
            rounding: terms as f64 * HALF_ULP_F64,
        }
    }

    /// A number that the sum of squared errors of fake quantization, as it is computed, is not below.
    ///
    /// The tails bound `d^2`, d the norm of the exact error of the nearest level. The f32 arithmetic
    /// may choose another level, which only adds to it. It rounds the product q s and the difference
    /// to x, each by a relative 2^-24 at most, so by the triangle inequality the norm that it finds
    /// is at least `(1 - 2^-24) (d - 2^-24 |q s|)`, where `|q s| <= |x| + d` (norms throughout).
    pub(super) fn least_squares(&self, scale: Scale, dtype: IntDtype) -> f64 {
        let squares = match dtype {
            IntDtype::Int8 => self.rounded(scale.to_f64(), dtype),
            IntDtype::Int16 => self.clipped(scale.to_f64(), dtype),
        };
        let exact = squares.max(0.0).sqrt();
        let shift = HALF_ULP_F32 * (exact + self.energy.sqrt() * (1.0 + self.rounding));
        let computed = (1.0 - HALF_ULP_F32) * (exact - shift).max(0.0);
        // The sum that it is compared with rounds too.
        computed * computed * (1.0 - 2.0 * self.rounding)
    }

    /// At most the squared error to the nearest level.
    fn rounded(&self, step: f64, dtype: IntDtype) -> f64 {
        let mut excess = 0.0;
        for (edges, levels) in self.sides.iter().zip(levels(dtype)) {
            for level in 1..=levels {
                let (bin, place) = self.position((f64::from(level) - 0.5) * step);
                let (Some(lower), Some(upper)) = (edges.get(bin), edges.get(bin + 1)) else {
                    break;
                };
                excess += lower.excess_high * (1.0 - place) + upper.excess_high * place;
            }
        }
        let gain = 2.0 * step * self.width * excess;
        self.energy - gain - 2.0 * self.rounding * (self.energy + gain)
    }

    /// At most the squared error of the values beyond the last level.
    fn clipped(&self, step: f64, dtype: IntDtype) -> f64 {
        let mut squares = 0.0;
        for (edges, levels) in self.sides.iter().zip(levels(dtype)) {
            let (bin, place) = self.position(f64::from(levels) * step);
            if let Some(upper) = edges.get(bin + 1) {
                squares += upper.clipped_low + 2.0 * upper.excess_low * (1.0 - place);
            }
        }
        squares * self.width * self.width * (1.0 - 2.0 * self.rounding)
    }

    /// The bin that a magnitude lies in, and where in it, in [0, 1).
    fn position(&self, magnitude: f64) -> (usize, f64) {
        // Edges lie half a tick below the multiples of the width, see `fill`.
        let widths = (magnitude / self.width + 0.5 / TICKS).min(BINS as f64);
        (widths as usize, widths.fract())
    }
}

/// Levels above 0 of the values >= 0, then of those below.
fn levels(dtype: IntDtype) -> [i32; 2] {
    [dtype.qmax(), -dtype.qmin()]
}

/// Counts values into [`BINS`] bins for those with a positive sign, then as many for the others.
///
/// |x| is rounded to whole ticks t, so it lies in `[t - 1/2, t + 1/2]`: with every edge half a tick
/// below its multiple of the width, a value of bin k lies in it, between its place and its place + 1.
fn fill(values: &[f32], ticks_per_unit: f64) -> Vec<Bin> {
    /// Adding it leaves no fraction bits and the rounded integer in the low mantissa bits.
    const MAGIC: f64 = (1u64 << 52) as f64;
    // Exact product: the factor is a power of two.
    let ticks_of = |x: f32| (f64::from(x.abs()) * ticks_per_unit + MAGIC).to_bits();
    let mut bins = vec![Bin::default(); 2 * BINS];
    let mut words = vec![0u64; 2 * BINS];
    for part in values.chunks(WORD_VALUES) {
        let mut count = |x: f32, ticks: u64| {
            let bin = (ticks >> TICK_BITS) as usize % BINS;
            let side = (x.to_bits() >> 31) as usize * BINS;
            if let Some(word) = words.get_mut(side + bin) {
                *word += ticks % (1 << TICK_BITS) + (1 << COUNT_SHIFT);
            }
        };
        // Eight conversions at once vectorize; the additions are scattered and cannot.
        let (octets, rest) = part.as_chunks::<8>();
        for octet in octets {
            let ticks = octet.map(ticks_of);
            for (&x, ticks) in octet.iter().zip(ticks) {
                count(x, ticks);
            }
        }
        for &x in rest {
            count(x, ticks_of(x));
        }
        for (bin, word) in bins.iter_mut().zip(&mut words) {
            let word = std::mem::take(word);
            bin.count += word >> COUNT_SHIFT;
            bin.ticks += word % (1 << COUNT_SHIFT);
        }
    }
    bins
}

/// One edge below each bin, and one above the last.
fn edges(bins: &[Bin]) -> Vec<Edge> {
    let mut edges = vec![Edge::default(); bins.len() + 1];
    let (mut above, mut upper) = (0.0, Edge::default());
    for (edge, bin) in edges.iter_mut().zip(bins).rev() {
        let count = bin.count as f64;
        let low = bin.ticks as f64 / TICKS;
        // From the upper edge down, what lies above it gains one width; what is in the bin is new.
        *edge = Edge {
            excess_low: upper.excess_low + above + low,
            excess_high: upper.excess_high + above + low + count / TICKS,
            // The squares of n places are not below n times the square of their mean.
            clipped_low: upper.clipped_low
                + 2.0 * upper.excess_low
                + above
                + low * low / count.max(1.0),
        };
        upper = *edge;
        above += count;
    }
    edges
}

/// Sum of x^2, block by block; every square is exact.
fn energy(values: &[f32]) -> f64 {
    let square = |x: f32| f64::from(x) * f64::from(x);
    let of_block = |block: &[f32]| {
        let mut lanes = [0.0; 8];
        let (octets, rest) = block.as_chunks::<8>();
        for octet in octets {
            for (lane, &x) in lanes.iter_mut().zip(octet) {
                *lane += square(x);
            }
        }
        lanes.iter().sum::<f64>() + rest.iter().map(|&x| square(x)).sum::<f64>()
    };
    values.chunks(BLOCK).map(of_block).sum()
}

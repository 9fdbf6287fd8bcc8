//! Histogram of |x| whose bins are a power of two wide.
//!
//! Bin k of exponent e counts the values with `k * 2^e <= |x| < (k + 1) * 2^e`. Joining neighbours in
//! pairs gives exactly the histogram of exponent e + 1, and the exponent of a histogram is the
//! smallest at which its largest value falls into the first [`BINS`] bins. So a histogram is a
//! function of the multiset of its values alone: merging is lossless, and any order, sharding or
//! chunking gives the same one as the direct way.

use serde::{Deserialize, Serialize};

/// Bins of a histogram. The largest value lies in the upper half of them (unless it is subnormal), so
/// a bin is at most 1/2048 of it wide.
pub const BINS: usize = 4096;

/// Where every f32 is a multiple of the bin width: the smallest subnormal is 2^-149.
const MIN_EXPONENT: i16 = -149;

/// The largest f32 is just below 2^128.
const MAX_EXPONENT: i16 = 128 - BINS.ilog2() as i16;

/// Exact counts of |x|; see the module's text. Counts are kept without trailing zeros and take 1 to
/// 10 bytes each in postcard, mostly 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Raw")]
pub struct Histogram {
    exponent: i16,
    counts: Vec<u64>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            exponent: MIN_EXPONENT,
            counts: Vec::new(),
        }
    }
}

impl Histogram {
    /// Counts finite values (others must have been refused before).
    pub fn add(&mut self, values: &[f32]) {
        let amax = values.iter().fold(0.0, |amax: f32, v| amax.max(v.abs()));
        self.coarsen(exponent_of(amax));
        if self.counts.len() < BINS {
            self.counts.resize(BINS, 0);
        }
        // A power of two in f64, so the product is exact and the cast truncates the true quotient.
        let per_bin = 1.0 / self.bin_width();
        for value in values {
            let bin = (f64::from(value.abs()) * per_bin) as usize;
            if let Some(count) = self.counts.get_mut(bin) {
                *count += 1;
            }
        }
    }

    /// Adds the counts of another histogram.
    pub fn merge(&mut self, other: &Self) {
        self.coarsen(other.exponent);
        let shift = self.exponent.abs_diff(other.exponent);
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (bin, &count) in other.counts.iter().enumerate() {
            if let Some(sum) = self.counts.get_mut(coarse(bin, shift)) {
                *sum = sum.saturating_add(count);
            }
        }
        self.trim();
    }

    /// Width of a bin: 2^exponent, exact.
    pub fn bin_width(&self) -> f64 {
        libm::ldexp(1.0, self.exponent.into())
    }

    /// Upper end of a bin. With 12 significant bits it is exact in f32, save for the one beyond the
    /// largest f32, which is given as that.
    pub(super) fn upper_edge(&self, bin: usize) -> f32 {
        ((bin + 1) as f64 * self.bin_width()).min(f32::MAX.into()) as f32
    }

    /// Counts from bin 0 on; what is missing up to [`BINS`] is 0.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// Number of values.
    pub fn total(&self) -> u64 {
        self.counts
            .iter()
            .fold(0, |sum, &count| sum.saturating_add(count))
    }

    /// Drops trailing zeros, which makes equal histograms equal values.
    pub(super) fn trim(&mut self) {
        let len = self
            .counts
            .iter()
            .rposition(|&count| count > 0)
            .map_or(0, |last| last + 1);
        self.counts.truncate(len);
        // Sketches are kept until their file is done.
        self.counts.shrink_to_fit();
    }

    /// Joins bins until the exponent is at least `exponent`.
    fn coarsen(&mut self, exponent: i16) {
        if exponent <= self.exponent {
            return;
        }
        let shift = exponent.abs_diff(self.exponent);
        self.exponent = exponent;
        let fine = std::mem::take(&mut self.counts);
        self.counts.resize(fine.len(), 0);
        for (bin, count) in fine.into_iter().enumerate() {
            if let Some(sum) = self.counts.get_mut(coarse(bin, shift)) {
                *sum = sum.saturating_add(count);
            }
        }
    }
}

/// The bin that takes in `bin` when 2^shift neighbours are joined.
fn coarse(bin: usize, shift: u16) -> usize {
    bin.checked_shr(shift.into()).unwrap_or(0)
}

/// Smallest exponent e with `amax < BINS * 2^e`.
fn exponent_of(amax: f32) -> i16 {
    // amax = fraction * 2^exponent with fraction in [0.5, 1), so amax < 2^exponent, and tightly so.
    let (_, exponent) = libm::frexpf(amax);
    let exponent = exponent as i16 - BINS.ilog2() as i16;
    if amax == 0.0 {
        MIN_EXPONENT
    } else {
        exponent.clamp(MIN_EXPONENT, MAX_EXPONENT)
    }
}

/// What is on the wire, unchecked.
#[derive(Deserialize)]
struct Raw {
    exponent: i16,
    counts: Vec<u64>,
}

impl TryFrom<Raw> for Histogram {
    type Error = String;

    fn try_from(Raw { exponent, counts }: Raw) -> Result<Self, String> {
        if counts.len() > BINS || !(MIN_EXPONENT..=MAX_EXPONENT).contains(&exponent) {
            return Err(format!(
                "histogram of {} bins with exponent {exponent}; expected at most {BINS} bins and an \
                 exponent in [{MIN_EXPONENT}, {MAX_EXPONENT}]",
                counts.len()
            ));
        }
        let mut histogram = Self { exponent, counts };
        histogram.trim();
        Ok(histogram)
    }
}

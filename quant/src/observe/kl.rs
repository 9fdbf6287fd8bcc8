//! KL observer: entropy calibration to the 128 magnitudes of int8, after S. Migacz, "8-bit inference
//! with TensorRT" (GTC 2017).
//!
//! For every clip after bin i >= 128, P is the histogram of |x| cut there with the tail added to its
//! last bin, Q the same bins without the tail, merged into 128 levels and spread evenly over those
//! bins that P occupies. The clip with the least KL(P || Q) wins, ties go to the wider one. Where
//! the talk is silent `[our]`: level g takes the bins `[g i / 128, (g + 1) i / 128)` in whole numbers,
//! and a level that holds nothing but the tail counts as [`EMPTY`] values, for the ratio to be finite.

use dual16_nash::dtype::IntDtype;

use super::{
    Histogram, MergeMode, ObserveError, Observer, RangeChoice, Statistics, Wants, minmax::MinMax,
};

/// Why KL at int16 gives what MinMax gives.
const KL_IS_INT8: &str = "observer 'kl' is defined for int8 only; 'minmax' was used";

#[derive(Debug)]
pub(super) struct Kl;

impl Observer for Kl {
    fn wants(&self, dtype: IntDtype) -> Wants {
        Wants {
            histogram: dtype == IntDtype::Int8,
            ..Wants::default()
        }
    }

    fn range(
        &self,
        seen: &Statistics,
        dtype: IntDtype,
        merge: MergeMode,
    ) -> Result<RangeChoice, ObserveError> {
        match dtype {
            IntDtype::Int8 => {
                let range = seen.clipped("kl", merge, kl_threshold)?;
                Ok(RangeChoice::of(range))
            }
            IntDtype::Int16 => Ok(RangeChoice {
                fell_back: Some(KL_IS_INT8),
                ..MinMax.range(seen, dtype, merge)?
            }),
        }
    }
}

/// Levels that P is merged into: the magnitudes of int8.
pub const KL_LEVELS: usize = 128;

/// What an empty level that P occupies is taken to hold.
const EMPTY: f64 = 1e-4;

/// Threshold of |x| that loses the least information at int8: an upper edge of a bin. `None` for a
/// histogram of nothing. Histograms of up to 128 bins lose nothing and are not clipped.
///
/// Takes 128 logarithms per candidate: over a level Q is constant, so sum P ln(P/Q) needs
/// only prefix sums of P, of P ln P and of the number of occupied bins.
pub fn kl_threshold(histogram: &Histogram) -> Option<f32> {
    let counts = histogram.counts();
    let last = counts.len().checked_sub(1)?;
    let sums = Prefix::of(counts);
    let mut best = (f64::INFINITY, last);
    for clip in KL_LEVELS..=counts.len() {
        if let Some(divergence) = sums.divergence(clip)
            && divergence <= best.0
        {
            best = (divergence, clip - 1);
        }
    }
    Some(histogram.upper_edge(best.1))
}

/// Sums over bins `0..j`, for every j.
struct Prefix {
    count: Vec<f64>,
    entropy: Vec<f64>,
    occupied: Vec<f64>,
}

impl Prefix {
    fn of(counts: &[u64]) -> Self {
        let prefix = |f: fn(f64) -> f64| {
            let mut sum = 0.0;
            let rest = counts.iter().map(move |&count| {
                sum += f(count as f64);
                sum
            });
            std::iter::once(0.0).chain(rest).collect()
        };
        Self {
            count: prefix(|count| count),
            entropy: prefix(count_log_count),
            occupied: prefix(|count| if count > 0.0 { 1.0 } else { 0.0 }),
        }
    }

    /// KL(P || Q) of the clip after `clip` bins, >= 0 up to rounding; `None` if nothing is inside.
    fn divergence(&self, clip: usize) -> Option<f64> {
        let total = *self.count.last()?;
        let inside = *self.count.get(clip)?;
        if inside <= 0.0 {
            return None;
        }
        let tail = total - inside;
        let last = inside - self.count.get(clip - 1)?;
        // sum P ln Q, level by level; P and Q are counts here, normalized at the end.
        let mut cross = 0.0;
        for level in 0..KL_LEVELS {
            let bins = level * clip / KL_LEVELS..(level + 1) * clip / KL_LEVELS;
            let mut occupied = within(&self.occupied, &bins)?;
            let q = within(&self.count, &bins)?;
            let mut p = q;
            if level + 1 == KL_LEVELS && tail > 0.0 {
                p += tail;
                occupied += if last > 0.0 { 0.0 } else { 1.0 };
            }
            if p > 0.0 {
                cross += p * libm::log(q.max(EMPTY) / occupied);
            }
        }
        let own = self.entropy.get(clip - 1)? + count_log_count(last + tail);
        Some((own - cross) / total - libm::log(total / inside))
    }
}

/// Sum over a run of bins.
fn within(prefix: &[f64], bins: &std::ops::Range<usize>) -> Option<f64> {
    Some(prefix.get(bins.end)? - prefix.get(bins.start)?)
}

/// n ln n, and 0 for 0. `libm`, so that every machine picks the same clip.
fn count_log_count(count: f64) -> f64 {
    if count > 0.0 {
        count * libm::log(count)
    } else {
        0.0
    }
}

//! Percentile observer: where to clip so that a given share of all |x| lies inside.
//!
//! The vendor's observer clips |x|, not the two tails apart `[pub]`; the nearest-rank definition and
//! the bound below are `[our]`.

use dual16_nash::dtype::IntDtype;

use super::{
    Histogram, MergeMode, ObserveError, Observer, Percentile, RangeChoice, Statistics, Wants,
};

impl Observer for Percentile {
    fn wants(&self, _: IntDtype) -> Wants {
        Wants {
            histogram: true,
            ..Wants::default()
        }
    }

    fn range(
        &self,
        seen: &Statistics,
        _: IntDtype,
        merge: MergeMode,
    ) -> Result<RangeChoice, ObserveError> {
        let threshold = |histogram: &Histogram| percentile_threshold(histogram, *self);
        let range = seen.clipped("percentile", merge, threshold)?;
        Ok(RangeChoice::of(range))
    }
}

/// Upper edge of the bin that holds the value of nearest rank, the `ceil(p / 100 * n)`-th smallest
/// |x|. It is never below that value and above it by one bin at most, which is 1/2048 of the largest
/// |x|. `None` for a histogram of nothing.
///
/// Clip an observed range with it ([`super::Range::clip`]); at 100 % the range stays as it was.
pub fn percentile_threshold(histogram: &Histogram, percentile: Percentile) -> Option<f32> {
    let total = histogram.total();
    // Above 2^53 values the rank is rounded by less than one value in 10^15.
    let rank = ((percentile.get() / 100.0 * total as f64).ceil() as u64).clamp(1, total.max(1));
    let mut seen = 0u64;
    let bin = histogram.counts().iter().position(|&count| {
        seen = seen.saturating_add(count);
        seen >= rank
    })?;
    Some(histogram.upper_edge(bin))
}

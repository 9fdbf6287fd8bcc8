//! MinMax observer: the smallest and the largest value.

use dual16_nash::dtype::IntDtype;

use super::{MergeMode, ObserveError, Observer, RangeChoice, Statistics, Wants};

#[derive(Debug)]
pub(super) struct MinMax;

impl Observer for MinMax {
    fn wants(&self, _: IntDtype) -> Wants {
        Wants::default()
    }

    fn range(
        &self,
        seen: &Statistics,
        _: IntDtype,
        merge: MergeMode,
    ) -> Result<RangeChoice, ObserveError> {
        seen.whole(merge).map(RangeChoice::of)
    }
}

//! All batches of one value: what `statistics.csv` shows and what scales are derived from.

use serde::{Deserialize, Serialize};

use dual16_nash::dtype::IntDtype;

use super::{
    Histogram, Masked, MergeMode, Moments, MseChoice, ObserveError, ObserverKind, Range, Sketch,
};

/// A range, and what was used in place of what was asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RangeChoice {
    /// The range.
    pub range: Range,
    /// One sentence on the fallback, where there was one.
    pub fell_back: Option<&'static str>,
}

impl RangeChoice {
    /// What was asked for.
    pub(super) const fn of(range: Range) -> Self {
        Self {
            range,
            fell_back: None,
        }
    }
}

/// The batches of one value, in batch order.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Statistics {
    /// Of the first batch that holds an element, or of the first.
    shape: Option<Vec<usize>>,
    masked: Option<Masked>,
    /// Values that are NaN or infinite, in all batches.
    left_out: u64,
    moments: Moments,
    batches: Vec<Batch>,
    histograms: Histograms,
}

/// What is kept of a batch that holds at least one element.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Batch {
    range: Range,
    mse_int8: Option<MseChoice>,
    mse_int16: Option<MseChoice>,
}

/// Histograms of the batches, as far as every batch has one.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
enum Histograms {
    #[default]
    Missing,
    Summed(Histogram),
    PerBatch(Vec<Histogram>),
}

impl Statistics {
    /// Folds the sketches of all batches, which must come in batch order; see [`Self::push`].
    pub fn fold(sketches: impl IntoIterator<Item = Sketch>, merge: MergeMode) -> Self {
        let mut statistics = Self::default();
        for sketch in sketches {
            statistics.push(sketch, merge);
        }
        statistics
    }

    /// Takes in the next batch's sketch.
    ///
    /// Under merge `exact` the histograms are summed as they come, so memory does not grow with the
    /// number of batches but for some ten numbers each. Merge `ema` needs every batch's histogram:
    /// statistics folded for it keep them all, and serve `exact` as well.
    pub fn push(&mut self, sketch: Sketch, merge: MergeMode) {
        // An empty batch says nothing of the others' shapes.
        let told = self.shape.take().filter(|shape| !shape.contains(&0));
        self.shape = told.or(Some(sketch.shape));
        self.masked = match (self.masked, sketch.masked) {
            (Some(seen), Some(masked)) => Some(seen.union(masked)),
            (seen, masked) => seen.or(masked),
        };
        self.left_out = self.left_out.saturating_add(sketch.left_out);
        // A batch without elements says nothing of ranges.
        let Some(range) = sketch.range else { return };
        let first = self.batches.is_empty();
        self.histograms.push(sketch.histogram, first, merge);
        self.moments.merge(&sketch.moments);
        self.batches.push(Batch {
            range,
            mse_int8: sketch.mse_int8,
            mse_int16: sketch.mse_int16,
        });
    }

    /// The range that an observer gives under a merge.
    ///
    /// Under `exact`, MinMax and MSE take the union of the batches' ranges, Percentile and KL clip that
    /// union by the summed histogram. Under `ema`, every batch's own range is taken first, then
    /// [`Range::ema_step`] folds them in batch order.
    ///
    /// # Errors
    /// [`ObserveError::Empty`] where no batch held an element, the others where the sketches or the
    /// fold left out what is needed.
    pub fn range(
        &self,
        kind: ObserverKind,
        dtype: IntDtype,
        merge: MergeMode,
    ) -> Result<RangeChoice, ObserveError> {
        kind.observer().range(self, dtype, merge)
    }

    /// What was observed, merged.
    pub(super) fn whole(&self, merge: MergeMode) -> Result<Range, ObserveError> {
        self.merged(merge, |batch| Ok(batch.range))
    }

    /// What the MSE search of each batch chose, merged.
    pub(super) fn least_error(
        &self,
        observer: &'static str,
        dtype: IntDtype,
        merge: MergeMode,
    ) -> Result<Range, ObserveError> {
        self.merged(merge, |batch| batch.mse_range(observer, dtype))
    }

    /// Shape in the first batch that holds an element; another may be shorter.
    pub fn shape(&self) -> &[usize] {
        self.shape.as_deref().unwrap_or_default()
    }

    /// Number of elements that the moments are of: all of all batches, but for those of
    /// [`Sketch::of_range`], whose values were never formed.
    pub const fn count(&self) -> u64 {
        self.moments.count()
    }

    /// Masked elements of all batches, of which nothing else here knows.
    pub const fn masked(&self) -> Option<Masked> {
        self.masked
    }

    /// Values that are NaN or infinite and were left out.
    pub const fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Smallest and largest value of all batches; `None` where there was no element.
    pub fn observed(&self) -> Option<Range> {
        self.batches
            .iter()
            .map(|batch| batch.range)
            .reduce(Range::union)
    }

    /// Histogram of |x| over all batches, where one was taken of each and they were summed.
    pub(crate) const fn histogram(&self) -> Option<&Histogram> {
        match &self.histograms {
            Histograms::Summed(histogram) => Some(histogram),
            _ => None,
        }
    }

    /// Arithmetic mean over the counted elements; 0 where there are none.
    pub const fn mean(&self) -> f64 {
        self.moments.mean()
    }

    /// Population variance (divisor n) over the counted elements; 0 where there are none.
    pub fn variance(&self) -> f64 {
        self.moments.variance()
    }

    /// Merges one range per batch.
    fn merged(
        &self,
        merge: MergeMode,
        range_of: impl Fn(&Batch) -> Result<Range, ObserveError>,
    ) -> Result<Range, ObserveError> {
        merge_ranges(merge, self.batches.iter().map(range_of))
    }

    /// Merges ranges clipped by a threshold of |x| taken from a histogram.
    pub(super) fn clipped(
        &self,
        observer: &'static str,
        merge: MergeMode,
        threshold: impl Fn(&Histogram) -> Option<f32>,
    ) -> Result<Range, ObserveError> {
        let observed = self.observed().ok_or(ObserveError::Empty)?;
        let clip = |range: Range, histogram: &Histogram| {
            threshold(histogram)
                .map(|t| range.clip(t))
                .ok_or(ObserveError::Empty)
        };
        match (&self.histograms, merge) {
            (Histograms::Missing, _) => Err(ObserveError::Missing {
                part: "histogram",
                observer,
            }),
            (Histograms::Summed(histogram), MergeMode::Exact) => clip(observed, histogram),
            (Histograms::PerBatch(all), MergeMode::Exact) => {
                let mut sum = Histogram::default();
                all.iter().for_each(|histogram| sum.merge(histogram));
                clip(observed, &sum)
            }
            (Histograms::Summed(_), MergeMode::Ema) => Err(ObserveError::NotPerBatch { observer }),
            (Histograms::PerBatch(all), MergeMode::Ema) => {
                let batches = self.batches.iter().zip(all);
                merge_ranges(
                    merge,
                    batches.map(|(batch, histogram)| clip(batch.range, histogram)),
                )
            }
        }
    }
}

impl Batch {
    fn mse_range(&self, observer: &'static str, dtype: IntDtype) -> Result<Range, ObserveError> {
        let (choice, part) = match dtype {
            IntDtype::Int8 => (self.mse_int8, "mse choice for int8"),
            IntDtype::Int16 => (self.mse_int16, "mse choice for int16"),
        };
        choice
            .map(|choice| choice.range)
            .ok_or(ObserveError::Missing { part, observer })
    }
}

impl Histograms {
    /// Takes in the next batch's; one that is missing makes all of no use.
    fn push(&mut self, histogram: Option<Histogram>, first: bool, merge: MergeMode) {
        *self = match (std::mem::take(self), histogram, merge) {
            (Self::Missing, Some(histogram), MergeMode::Exact) if first => Self::Summed(histogram),
            (Self::Missing, Some(histogram), MergeMode::Ema) if first => {
                Self::PerBatch(vec![histogram])
            }
            (Self::Summed(mut sum), Some(histogram), _) => {
                sum.merge(&histogram);
                Self::Summed(sum)
            }
            (Self::PerBatch(mut all), Some(histogram), _) => {
                all.push(histogram);
                Self::PerBatch(all)
            }
            _ => Self::Missing,
        };
    }
}

/// Union, or moving average in the order given.
fn merge_ranges(
    merge: MergeMode,
    ranges: impl IntoIterator<Item = Result<Range, ObserveError>>,
) -> Result<Range, ObserveError> {
    let step = match merge {
        MergeMode::Exact => Range::union,
        MergeMode::Ema => Range::ema_step,
    };
    let mut ranges = ranges.into_iter();
    let first = ranges.next().ok_or(ObserveError::Empty)??;
    ranges.try_fold(first, |merged, range| Ok(step(merged, range?)))
}

//! What one batch leaves of one value: some ten numbers, and a few KiB where a histogram is wanted,
//! whatever the size of the batch.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use dual16_nash::dtype::IntDtype;

use super::{Histogram, Masked, Moments, MseChoice, MseSearch, NonFiniteAt, ObserverKind, Range};

/// Values handled at a time: small enough to stay in the L1 cache over several passes.
const BLOCK: usize = 2048;

/// Which optional parts of a sketch are taken. Range, moments and shape always are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Wants {
    /// Histogram of |x|, for percentile and kl.
    pub histogram: bool,
    /// MSE search at int8.
    pub mse_int8: bool,
    /// MSE search at int16.
    pub mse_int16: bool,
}

impl Wants {
    /// Every part: any observer can be chosen later.
    pub const ALL: Self = Self {
        histogram: true,
        mse_int8: true,
        mse_int16: true,
    };

    /// What `kind` needs for a value of this dtype.
    pub fn of(kind: ObserverKind, dtype: IntDtype) -> Self {
        kind.observer().wants(dtype)
    }

    /// What either needs.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self {
            histogram: self.histogram || other.histogram,
            mse_int8: self.mse_int8 || other.mse_int8,
            mse_int16: self.mse_int16 || other.mse_int16,
        }
    }
}

/// What one batch leaves of one value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sketch {
    pub(super) shape: Vec<usize>,
    pub(super) range: Option<Range>,
    pub(super) moments: Moments,
    pub(super) histogram: Option<Histogram>,
    pub(super) mse_int8: Option<MseChoice>,
    pub(super) mse_int16: Option<MseChoice>,
    pub(super) left_out: u64,
    pub(super) masked: Option<Masked>,
}

impl Sketch {
    /// Of a whole tensor with this shape, in row-major order. What is NaN or infinite is left out
    /// and counted.
    pub fn of(values: &[f32], shape: &[usize], wants: Wants) -> Self {
        let mut builder = SketchBuilder::new(shape, wants.histogram);
        let finite = finite(values);
        builder.sketch.left_out = (values.len() - finite.len()) as u64;
        builder.take(&finite);
        let mut sketch = builder.finish();
        if let Some(range) = sketch.range {
            let search = MseSearch::new(&finite, range);
            sketch.mse_int8 = wants.mse_int8.then(|| search.choose(IntDtype::Int8));
            sketch.mse_int16 = wants.mse_int16.then(|| search.choose(IntDtype::Int16));
        }
        sketch
    }

    /// Of a value whose extremes are known without forming it, such as the products of mul_sum
    /// (their extremes come from those of the factors). It has a range, the int16 choice of a
    /// [`SketchBuilder`], no histogram, and moments of nothing: its count is 0. An end that is
    /// infinite becomes the last finite value on its side.
    pub fn of_range(shape: &[usize], min: f32, max: f32) -> Self {
        let mut builder = SketchBuilder::new(shape, false);
        let end = |value: f32| value.clamp(f32::MIN, f32::MAX);
        builder.sketch.range = Range::new(end(min), end(max)).filter(|_| !shape.contains(&0));
        builder.finish()
    }

    /// The same with masked elements, which were left out of the values that it is of.
    #[must_use]
    pub fn beside(self, masked: Option<Masked>) -> Self {
        Self { masked, ..self }
    }

    /// Shape of the value in this batch.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Values that are NaN or infinite, of which nothing else here knows.
    pub const fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Smallest and largest value; `None` where the batch holds no finite element.
    pub const fn range(&self) -> Option<Range> {
        self.range
    }

    /// Count, mean and variance; of nothing where the values were never formed.
    pub const fn moments(&self) -> &Moments {
        &self.moments
    }

    /// Histogram of |x|, if it was taken.
    pub const fn histogram(&self) -> Option<&Histogram> {
        self.histogram.as_ref()
    }

    /// Outcome of the MSE search, if it was made.
    pub const fn mse(&self, dtype: IntDtype) -> Option<MseChoice> {
        match dtype {
            IntDtype::Int8 => self.mse_int8,
            IntDtype::Int16 => self.mse_int16,
        }
    }
}

/// Makes a [`Sketch`] of a value that arrives in chunks and is never whole in memory, such as the
/// products of mul_sum. The sketch does not depend on where the chunks were cut.
///
/// The MSE search needs the final range before it can start, so it cannot be made over a stream:
/// at int16 the choice is i = 0, as a search would give (rounding is negligible against any
/// clipping), with no loss measured; at int8 there is none.
#[derive(Debug, Clone)]
pub struct SketchBuilder {
    sketch: Sketch,
    /// Values of a block that is not full yet.
    pending: Vec<f32>,
}

impl SketchBuilder {
    /// Of a value with this shape; `histogram` tells whether one is taken.
    pub fn new(shape: &[usize], histogram: bool) -> Self {
        let sketch = Sketch {
            shape: shape.to_vec(),
            range: None,
            moments: Moments::default(),
            histogram: histogram.then(Histogram::default),
            mse_int8: None,
            mse_int16: None,
            left_out: 0,
            masked: None,
        };
        Self {
            sketch,
            pending: Vec::new(),
        }
    }

    /// Takes the next values, in row-major order. What is NaN or infinite is left out and counted.
    pub fn update(&mut self, values: &[f32]) {
        let finite = finite(values);
        self.sketch.left_out += (values.len() - finite.len()) as u64;
        self.take(&finite);
    }

    fn take(&mut self, mut values: &[f32]) {
        if !self.pending.is_empty() {
            let (head, tail) = values.split_at(values.len().min(BLOCK - self.pending.len()));
            self.pending.extend_from_slice(head);
            values = tail;
            if self.pending.len() < BLOCK {
                return;
            }
            let full = std::mem::take(&mut self.pending);
            self.absorb(&full);
        }
        let mut blocks = values.chunks_exact(BLOCK);
        for block in &mut blocks {
            self.absorb(block);
        }
        self.pending.extend_from_slice(blocks.remainder());
    }

    /// The sketch of everything taken.
    pub fn finish(mut self) -> Sketch {
        let pending = std::mem::take(&mut self.pending);
        self.absorb(&pending);
        if let Some(histogram) = &mut self.sketch.histogram {
            histogram.trim();
        }
        self.sketch.mse_int16 = self.sketch.range.map(MseChoice::unclipped);
        self.sketch
    }

    fn absorb(&mut self, block: &[f32]) {
        let Some(range) = range_of(block) else { return };
        let sketch = &mut self.sketch;
        sketch.range = Some(sketch.range.map_or(range, |seen| seen.union(range)));
        sketch.moments.merge(&Moments::of_block(block));
        if let Some(histogram) = &mut sketch.histogram {
            histogram.add(block);
        }
    }
}

/// The finite ones of some values; a copy only where there are others.
fn finite(values: &[f32]) -> Cow<'_, [f32]> {
    match NonFiniteAt::check(values) {
        Ok(()) => Cow::Borrowed(values),
        Err(_) => values.iter().copied().filter(|v| v.is_finite()).collect(),
    }
}

/// Smallest and largest of finite values, `None` of nothing; eight lanes, so that it vectorizes.
fn range_of(block: &[f32]) -> Option<Range> {
    let (mut mins, mut maxs) = ([f32::INFINITY; 8], [f32::NEG_INFINITY; 8]);
    for octet in block.chunks(8) {
        for ((min, max), &v) in mins.iter_mut().zip(&mut maxs).zip(octet) {
            *min = if v < *min { v } else { *min };
            *max = if v > *max { v } else { *max };
        }
    }
    let min = mins.into_iter().fold(f32::INFINITY, f32::min);
    let max = maxs.into_iter().fold(f32::NEG_INFINITY, f32::max);
    Range::new(min, max)
}

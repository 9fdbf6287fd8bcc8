//! Scales from what was observed: one rule for every tensor of the plan.

use std::collections::BTreeMap;

use dual16_nash::{dtype::IntDtype, scale::scale_from_range};
use serde::{Deserialize, Serialize};

use super::{Floor, QParams, Request, Slot};
use crate::{
    Error, Result,
    error::KernelContext,
    graph::{Graph, Op, ValueId, ValueKind},
    observe::{Masked, MergeMode, ObserveError, ObserverKind, Range, Sketch, Statistics},
    settings::Settings,
};

/// What statistics are of: a value of the graph, or a tensor inside a Linear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Key {
    /// By [`ValueId`].
    Value(usize),
    /// By node index of the Linear.
    Slot(usize, Slot),
    /// Elements of a value that are 0 or above, by [`ValueId`], where a table reads it.
    Above(usize),
    /// Its elements below 0.
    Below(usize),
}

/// Statistics of every observed tensor, merged over the calibration batches.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Calibration {
    /// By tensor.
    pub statistics: BTreeMap<Key, Statistics>,
    /// Where masked elements end, by [`ValueId`] of every value that holds some.
    pub floors: BTreeMap<usize, Floor>,
    /// What each input column of a Linear is to be divided by where what makes its input takes that in
    /// ([`Remedy::Equalize`](crate::remedy::Remedy)), with its node index; in the order in which they were
    /// found, so that places keep their numbers when more are.
    pub columns: Vec<(usize, Vec<f64>)>,
}

impl Calibration {
    /// Of no batch at all: every scale is the smallest. A plan made of it has the dtypes and the ways of
    /// the plan to come, and no scale worth anything.
    pub(crate) fn unseen(graph: &Graph) -> Self {
        Self::of_each(graph, &Statistics::default())
    }

    /// Of no batch at all, as if every tensor had been seen to be of any size that matters to a remedy: far
    /// below 0, and above it. What remedies the model has places for follows, and no constant of theirs.
    pub(crate) fn supposed(graph: &Graph) -> Self {
        let mut seen = Statistics::default();
        seen.push(Sketch::of_range(&[1], -100.0, 1.0), MergeMode::Exact);
        Self::of_each(graph, &seen)
    }

    fn of_each(graph: &Graph, statistics: &Statistics) -> Self {
        let values = (0..graph.values.len()).map(Key::Value);
        let slots = graph
            .linears()
            .flat_map(|(id, ..)| Slot::ALL.map(|slot| Key::Slot(id.0, slot)));
        let same = |key| (key, statistics.clone());
        Calibration {
            statistics: values.chain(slots).map(same).collect(),
            floors: BTreeMap::new(),
            columns: Vec::new(),
        }
    }
}

const NOT_OBSERVED: &str = "it was not observed in calibration: the job measured no way of its layer that needs \
                            it; quantize with --keep-statistics to have everything observed";

/// Derives scales on demand.
#[derive(Clone, Copy)]
pub struct ScaleSource<'a> {
    /// The model.
    pub graph: &'a Graph,
    /// What was asked.
    pub settings: &'a Settings,
    /// The same, by tensor.
    pub request: &'a Request,
    /// What was observed.
    pub calibration: &'a Calibration,
}

impl ScaleSource<'_> {
    /// Parameters of a value in a dtype.
    pub fn value(&self, id: ValueId, dtype: IntDtype) -> Result<QParams> {
        let request = &self.request.values[id.0];
        if let Some(scale) = request.fixed_scale {
            return Ok(QParams { dtype, scale });
        }
        let range = self.value_range(id, request.observer, dtype)?;
        let range = match request.room == 1.0 {
            true => range,
            false => {
                Range::new(range.min() * request.room, range.max() * request.room).unwrap_or(range)
            }
        };
        self.params(&self.graph.value(id).name, range, dtype)
    }

    /// Parameters of a value as one operand takes it, in another dtype than the value's own.
    pub fn operand(&self, id: ValueId, dtype: IntDtype) -> Result<QParams> {
        let range = self.value_range(id, self.request.values[id.0].observer, dtype)?;
        self.params(&self.graph.value(id).name, range, dtype)
    }

    /// Parameters of a tensor inside a Linear. `range` is the exact one where the tensor is a
    /// parameter; the observed one is used where it is `None`.
    pub fn slot(&self, linear: usize, slot: Slot, range: Option<Range>) -> Result<QParams> {
        let name = format!("{}.{}", self.graph.nodes[linear].name, slot.suffix());
        let request = self.request.slot(linear, slot);
        let dtype = IntDtype::Int16;
        if let Some(scale) = request.fixed_scale {
            return Ok(QParams { dtype, scale });
        }
        let range = match range {
            Some(range) => range,
            None => {
                let observer = request.observer.unwrap_or(self.settings.observer);
                let range = self.observed(&name, Key::Slot(linear, slot), observer, dtype)?;
                let room = match &self.graph.nodes[linear].op {
                    Op::Linear(linear) => linear.room(),
                    _ => 1.0,
                };
                Range::new(range.min() * room, range.max() * room).unwrap_or(range)
            }
        };
        self.params(&name, range, dtype)
    }

    /// Parameters of a Linear's input in the dtype of its way.
    pub fn linear_input(&self, linear: usize, dtype: IntDtype) -> Result<QParams> {
        let id = self.graph.nodes[linear].inputs[0];
        let request = self.request.slot(linear, Slot::Input);
        if let Some(scale) = request.fixed_scale {
            return Ok(QParams { dtype, scale });
        }
        let own = &self.request.values[id.0];
        if let Some(scale) = own.fixed_scale.filter(|_| own.dtype == dtype) {
            return Ok(QParams { dtype, scale });
        }
        let range = self.value_range(id, request.observer.unwrap_or(own.observer), dtype)?;
        self.params(&self.graph.nodes[linear].name, range, dtype)
    }

    /// Scale of an int16 tensor inside a node, by its largest magnitude.
    pub(crate) fn int16_scale(&self, name: &str, largest: f32) -> Result<f32> {
        let range = Range::new(-largest, largest).unwrap_or(Range::ZERO);
        self.params(name, range, IntDtype::Int16)
            .map(|params| params.scale)
    }

    /// What was observed of a value, as (min, max), where anything was.
    pub fn observed_range(&self, id: ValueId) -> Option<(f32, f32)> {
        let statistics = self
            .calibration
            .statistics
            .get(&Key::Value(self.graph.origin(id).0))?;
        statistics
            .observed()
            .map(|range| (range.min(), range.max()))
    }

    /// How often a table's input had each integer, from qmin up, as far as histograms tell; 0 throughout
    /// where it was not observed.
    pub(super) fn inputs_seen(&self, id: ValueId, params: QParams) -> Vec<f64> {
        let (qmin, qmax) = (params.dtype.qmin(), params.dtype.qmax());
        let mut seen = vec![0.0; (qmax - qmin) as usize + 1];
        for (key, sign) in [(Key::Above(id.0), 1.0), (Key::Below(id.0), -1.0)] {
            let statistics = self.calibration.statistics.get(&key);
            let Some(histogram) = statistics.and_then(Statistics::histogram) else {
                continue;
            };
            let width = histogram.bin_width() / f64::from(params.scale);
            for (bin, &count) in histogram
                .counts()
                .iter()
                .enumerate()
                .filter(|(_, n)| **n > 0)
            {
                // A bin's values are spread evenly over the integers that it covers.
                let end =
                    |edge: usize| (sign * edge as f64 * width).clamp(qmin.into(), qmax.into());
                let ends = [end(bin), end(bin + 1)].map(|end| end.round_ties_even() as i32);
                let (from, to) = (ends[0].min(ends[1]), ends[0].max(ends[1]));
                let each = count as f64 / f64::from(to - from + 1);
                let covered = (from - qmin) as usize..=(to - qmin) as usize;
                seen[covered].iter_mut().for_each(|seen| *seen += each);
            }
        }
        seen
    }

    fn value_range(&self, id: ValueId, observer: ObserverKind, dtype: IntDtype) -> Result<Range> {
        let id = self.graph.origin(id);
        let value = self.graph.value(id);
        let unmasked = match &value.kind {
            ValueKind::Constant(_) => self.unmasked_range(id),
            _ => self.observed(&value.name, Key::Value(id.0), observer, dtype)?,
        };
        let end = match self.calibration.floors.get(&id.0) {
            Some(floor) => Range::new(floor.end, floor.end),
            // Nothing but a Softmax takes an element for a mask.
            None => self.masked(id).and_then(|masked| masked.range()),
        };
        Ok(end.map_or(unmasked, |end| unmasked.union(end)))
    }

    /// Smallest and largest of a value's elements that are not masked, [0, 0] of none.
    pub(super) fn unmasked_range(&self, id: ValueId) -> Range {
        let id = self.graph.origin(id);
        let masked = |x: f32| {
            let side = self.graph.mask_side(id);
            side.is_some_and(|side| side.is_masked(x))
        };
        match &self.graph.value(id).kind {
            ValueKind::Constant(tensor) => exact_range(tensor.iter().filter(|&&x| !masked(x))),
            _ => {
                let statistics = self.calibration.statistics.get(&Key::Value(id.0));
                let observed = statistics.and_then(Statistics::observed);
                observed.unwrap_or(Range::ZERO)
            }
        }
    }

    /// Masked elements of a value.
    pub(crate) fn masked(&self, id: ValueId) -> Option<Masked> {
        let id = self.graph.origin(id);
        match &self.graph.value(id).kind {
            ValueKind::Constant(tensor) => {
                let side = self.graph.mask_side(id)?;
                let tensor = tensor.as_standard_layout();
                let elements = tensor.as_slice().unwrap_or_default();
                Masked::part(elements, |x| side.is_masked(x)).1
            }
            _ => {
                let statistics = self.calibration.statistics.get(&Key::Value(id.0))?;
                statistics.masked()
            }
        }
    }

    fn observed(
        &self,
        name: &str,
        key: Key,
        observer: ObserverKind,
        dtype: IntDtype,
    ) -> Result<Range> {
        let missing = |reason: String| Error::Setting {
            setting: format!("scale of '{name}'"),
            reason,
        };
        let statistics = self
            .calibration
            .statistics
            .get(&key)
            .ok_or_else(|| missing(NOT_OBSERVED.to_owned()))?;
        let choice = statistics.range(observer, dtype, self.settings.merge);
        match choice {
            Ok(choice) => Ok(choice.range),
            // Nothing finite was ever seen: any scale is as good as another.
            Err(ObserveError::Empty) => Ok(Range::ZERO),
            Err(error) => Err(missing(error.to_string())),
        }
    }

    fn params(&self, name: &str, range: Range, dtype: IntDtype) -> Result<QParams> {
        let Settings {
            scale_rule,
            power_of_two,
            ..
        } = *self.settings;
        scale_from_range(range.min(), range.max(), dtype, scale_rule, power_of_two)
            .map(|scale| QParams {
                dtype,
                scale: scale.get(),
            })
            .of(name)
    }
}

/// Smallest and largest of a parameter's finite values; [0, 0] of none.
pub(crate) fn exact_range<'v>(values: impl Iterator<Item = &'v f32>) -> Range {
    let points = values.filter_map(|&x| Range::new(x, x));
    points.reduce(Range::union).unwrap_or(Range::ZERO)
}

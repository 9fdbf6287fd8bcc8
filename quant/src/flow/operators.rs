//! Every operator of one batch: what its own quantization alone does to what it makes, and how far that
//! is from float in the whole quantized model.

use std::collections::BTreeMap;

use dual16_nash::compare::lost;

use crate::{
    Result,
    graph::{Graph, ValueId},
    measured::{
        octaves::Octaves,
        operators::{Channels, OperatorSums, Spread, rows},
    },
    metrics::{ErrorSums, OutputError},
    plan::Plan,
    sensitivity::{Analysis, FloatValues},
    tensor::{Datum, Tensor},
};

/// The operators of one batch.
pub(super) struct BatchOperators<'a> {
    analysis: &'a Analysis<'a>,
    values: &'a FloatValues,
    sums: BTreeMap<usize, OperatorSums>,
}

impl<'a> BatchOperators<'a> {
    /// Each operator alone.
    pub(super) fn alone(
        graph: &Graph,
        plan: &Plan,
        analysis: &'a Analysis<'a>,
        values: &'a FloatValues,
    ) -> Self {
        let mut sums: BTreeMap<usize, OperatorSums> = BTreeMap::new();
        for (node, value) in rows(graph) {
            let Some(Datum::F32(float)) = values.datum(value) else {
                continue;
            };
            let of = sums.entry(value.0).or_default();
            of.total = float.len() as u64;
            of.float = Spread::of(float);
            let params = plan.params(value);
            of.octaves = params.map_or_else(Octaves::default, |params| {
                let float = float.as_standard_layout();
                Octaves::of(float.as_slice().unwrap_or_default(), params.scale)
            });
            // One that cannot run has no figures; the whole run says why.
            let Ok(alone) = analysis.alone(values, node, value) else {
                continue;
            };
            add(&mut of.isolated, float, &alone);
            of.alive = [float, &alone].map(Channels::not_zero);
            let ends = params.map(|params| {
                let end = |q: i32| q as f32 * params.scale;
                (end(params.dtype.qmin()), end(params.dtype.qmax()))
            });
            // Without a scale nothing is clipped.
            let ends = ends.unwrap_or((f32::NEG_INFINITY, f32::INFINITY));
            of_slices(float, &alone, |float, alone| {
                let lost = lost(float, alone, ends);
                of.zero += lost.zero;
                of.clipped += lost.clipped;
            });
        }
        BatchOperators {
            analysis,
            values,
            sums,
        }
    }

    /// Takes in a value of a run of the whole quantized model.
    pub(super) fn compare(&mut self, id: ValueId, value: &Tensor, converted: bool) -> Result<()> {
        let (Some(sums), Some(Datum::F32(float))) =
            (self.sums.get_mut(&id.0), self.values.datum(id))
        else {
            return Ok(());
        };
        match converted {
            true => add(&mut sums.converted, float, value),
            false => {
                let name = &self.analysis.graph().value(id).name;
                sums.validation = OutputError::of_tensors(name, float, value)?;
                sums.quantized = Spread::of(value);
            }
        }
        Ok(())
    }

    /// A value in float, as far as there is one.
    pub(super) fn float(&self, id: ValueId) -> Option<&'a Tensor> {
        self.values.datum(id)?.as_f32()
    }

    /// By value, in ascending order.
    pub(super) fn finish(self) -> Vec<(usize, OperatorSums)> {
        self.sums.into_iter().collect()
    }
}

/// Values of another shape than in float have no figures here.
fn add(sums: &mut ErrorSums, reference: &Tensor, got: &Tensor) {
    of_slices(reference, got, |reference, got| {
        let _ = sums.update(reference, got);
    });
}

/// Shows the elements of two tensors in the same order.
fn of_slices(a: &Tensor, b: &Tensor, show: impl FnOnce(&[f32], &[f32])) {
    let (a, b) = (a.as_standard_layout(), b.as_standard_layout());
    if let (Some(a), Some(b)) = (a.as_slice(), b.as_slice()) {
        show(a, b);
    }
}

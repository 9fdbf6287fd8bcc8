//! The files a job leaves. Each is a pure function of a [`Report`]: equal jobs leave equal bytes,
//! so no file holds a time, a path, a host or a job's random name.

pub(crate) mod cost_json;
pub mod graph_json;
pub mod outputs;
pub mod per_layer;
pub mod plan_json;
pub mod result_json;
pub mod statistics;
pub(crate) mod statistics_bin;
pub mod ways;
pub mod weights;

use std::collections::BTreeMap;

use crate::{
    graph::Graph,
    job::{JobInput, ModelInput},
    measured::{Measured, PairedSums, Sums, linear_scale, operators},
    metrics::Metrics,
    plan::Calibration,
    report::{LayerMeasured, OperatorMeasured},
    settings::OperatorChoice,
    ways::RunCounts,
};

/// How an operator runs that a setting or a search changed.
pub(crate) struct OperatorPlan {
    /// Index of its node in the model as it is.
    pub(crate) node: usize,
    pub(crate) requested: OperatorChoice,
    pub(crate) effective: OperatorChoice,
}

/// Everything that the files are written from.
pub(crate) struct Report<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) job: &'a JobInput,
    /// Names of the model's outputs as the ONNX graph has them.
    pub(crate) output_names: &'a [String],
    pub(crate) measured: &'a Measured,
    pub(crate) operators: &'a [OperatorPlan],
    pub(crate) calibration: &'a Calibration,
}

/// Errors of both kinds of run.
#[derive(Debug, Clone, serde::Serialize)]
pub(crate) struct Paired {
    pub(crate) validation: Metrics,
    pub(crate) converted: Metrics,
}

impl Paired {
    pub(crate) fn of<S: Sums>(sums: &PairedSums<S>, scale: Option<f32>) -> Self {
        Paired {
            validation: sums.metrics(false, scale),
            converted: sums.metrics(true, scale),
        }
    }
}

/// One Linear as the tables show it.
pub(crate) struct LayerRow<'a> {
    /// Index of its node.
    pub(crate) node: usize,
    pub(crate) layer: &'a LayerMeasured,
    pub(crate) accumulated: Paired,
    pub(crate) counts: RunCounts,
}

impl Report<'_> {
    /// The model's file name.
    pub(crate) fn model_name(&self) -> &str {
        match &self.job.model {
            ModelInput::Onnx { model, .. } => &model.name,
            ModelInput::Layers { weights } => &weights.name,
        }
    }

    /// Every operator in graph order.
    pub(crate) fn operators(&self) -> Vec<OperatorMeasured> {
        operators::measured(
            self.graph,
            &self.measured.planned.plan,
            &self.measured.operators,
        )
    }

    /// Every Linear in execution order.
    pub(crate) fn layers(&self) -> impl Iterator<Item = LayerRow<'_>> {
        let measured = self.measured.linears.iter();
        let measured: BTreeMap<_, _> = measured
            .map(|(id, sums, counts)| (*id, (sums, counts)))
            .collect();
        self.measured
            .planned
            .layers
            .iter()
            .filter_map(move |(id, layer)| {
                let (sums, counts) = *measured.get(id)?;
                let scale = linear_scale(&self.measured.planned.plan, *id);
                Some(LayerRow {
                    node: *id,
                    layer,
                    accumulated: Paired::of(sums, scale),
                    counts: *counts,
                })
            })
    }
}

impl LayerRow<'_> {
    pub(crate) fn zero_fraction(&self) -> f64 {
        self.counts.zero as f64 / self.counts.total.max(1) as f64
    }

    pub(crate) fn clip_fraction(&self) -> f64 {
        self.counts.clipped as f64 / self.counts.total.max(1) as f64
    }
}

//! `result.json`: what was measured.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{
    Paired, Report,
    cost_json::{CostJson, EstimateJson},
};
use crate::{
    Result,
    cost::PlanCost,
    error::{KernelContext, json_error},
    metrics::Metrics,
    report::{LayerMeasured, MendStep, Notice, WayMeasured},
};

#[derive(Serialize)]
struct ResultJson<'a> {
    format: &'static str,
    /// Digest of the job's spec: equal for equal work, whatever the job is called.
    job: &'a str,
    model: &'a str,
    outputs: Vec<OutputJson<'a>>,
    layers: Vec<LayerJson<'a>>,
    /// What was changed for the outputs' sake, in order; absent where nothing was tried.
    #[serde(skip_serializing_if = "<[MendStep]>::is_empty")]
    mended: &'a [MendStep],
    /// What costs the outputs most, where they could not be made good enough.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    in_the_way: &'a [String],
    /// What the plan costs.
    estimate: CostJson<'a>,
    notices: &'a [Notice],
}

#[derive(Serialize)]
struct OutputJson<'a> {
    name: &'a str,
    #[serde(flatten)]
    errors: Paired,
}

#[derive(Serialize)]
struct LayerJson<'a> {
    name: &'a str,
    op: &'a str,
    way: String,
    requested: &'a str,
    effective: String,
    reason: &'a str,
    isolated: Map<String, Value>,
    /// The same of the fits that were accepted.
    #[serde(skip_serializing_if = "Map::is_empty")]
    fits: Map<String, Value>,
    accumulated: Paired,
    accumulator_bits: u32,
    zero_fraction: f64,
    clip_fraction: f64,
    /// Of the layer as the plan has it.
    estimate: EstimateJson,
}

/// The file's text.
pub(crate) fn text(report: &Report<'_>) -> Result<String> {
    let plan = &report.measured.planned.plan;
    let outputs = report
        .graph
        .outputs
        .iter()
        .zip(report.output_names)
        .zip(&report.measured.outputs)
        .map(|((&id, name), sums)| OutputJson {
            name,
            errors: Paired::of(sums, plan.params(id).map(|params| params.scale)),
        });
    let chip = report.job.settings.chip().of("result.json")?;
    let cost = PlanCost::of(report.graph, plan, &chip);
    let layers = report.layers().map(|row| LayerJson {
        estimate: EstimateJson::of(&cost.nodes[row.node].estimate),
        name: &row.layer.layer,
        op: &row.layer.op,
        way: row.layer.effective_name(),
        requested: &row.layer.requested,
        effective: row.layer.effective_name(),
        reason: &row.layer.reason,
        isolated: ways(row.layer, |way| way.fitted.is_none()),
        fits: ways(row.layer, |way| way.fitted.is_some()),
        accumulator_bits: row.counts.accumulator_bits(),
        zero_fraction: row.zero_fraction(),
        clip_fraction: row.clip_fraction(),
        accumulated: row.accumulated,
    });
    let result = ResultJson {
        format: "dual16 result 1",
        job: &report.job.digest,
        model: report.model_name(),
        outputs: outputs.collect(),
        layers: layers.collect(),
        mended: &report.measured.planned.steps,
        in_the_way: &report.measured.planned.in_the_way,
        estimate: CostJson::whole(&cost, report.graph, &chip),
        notices: &report.measured.planned.notices,
    };
    let mut text =
        serde_json::to_string_pretty(&result).map_err(|e| json_error("result.json", &e))?;
    text.push('\n');
    Ok(text)
}

fn ways(layer: &LayerMeasured, which: impl Fn(&&WayMeasured) -> bool) -> Map<String, Value> {
    layer.ways.iter().filter(which).map(isolated).collect()
}

/// Errors of a way, with what tells whether it may and should run.
fn isolated(way: &WayMeasured) -> (String, Value) {
    let Metrics {
        sqnr_db,
        cosine,
        l1,
        mse,
        atol,
        lsb,
        reason,
        left_out,
    } = &way.metrics;
    let reason = match way.reason.as_str() {
        "" => reason,
        _ => &way.reason,
    };
    let mut value = json!({
        "sqnr_db": sqnr_db,
        "cosine": cosine,
        "l1": l1,
        "mse": mse,
        "atol": atol,
        "lsb": lsb,
        "legal": way.legal,
        "reason": reason,
        "left_out": left_out,
        "macs": way.macs,
        "weight_bytes": way.weight_bytes,
        "accumulator_bits": way.accumulator_bits,
        "zero_fraction": way.zero_fraction,
        "clip_fraction": way.clip_fraction,
        "estimate": EstimateJson::of(&way.cost.estimate),
    });
    if let Some(fitted) = &way.fitted {
        value["fit"] = json!(fitted.fit.made);
        value["held_out_gain_db"] = json!(fitted.gain_db);
    }
    (way.name(), value)
}

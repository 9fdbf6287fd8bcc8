//! `plan.json`: dtype and scale of every tensor, the way of every Linear, requested beside
//! effective.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Report;
use crate::{
    Result,
    error::json_error,
    graph::{Op, ValueId, ValueKind},
    plan::{InnerParams, LinearPlan, QParams, ValuePlan},
    report::Notice,
    settings::Settings,
};

/// The request in words, for files.
#[derive(Serialize)]
pub(crate) struct RequestJson {
    template: String,
    observer: String,
    merge: String,
    toolchain: String,
    march: String,
    rounding: String,
    scale_rule: String,
    power_of_two: bool,
    min_layer_sqnr: f64,
    min_output_sqnr: f64,
}

impl RequestJson {
    pub(crate) fn of(settings: &Settings) -> Self {
        RequestJson {
            template: settings.template.to_string(),
            observer: settings.observer.to_string(),
            merge: settings.merge.to_string(),
            toolchain: settings.toolchain.to_string(),
            march: settings.march.to_string(),
            rounding: settings.rounding.to_string(),
            scale_rule: settings.scale_rule.to_string(),
            power_of_two: settings.power_of_two,
            min_layer_sqnr: settings.min_layer_sqnr,
            min_output_sqnr: settings.min_output_sqnr,
        }
    }
}

#[derive(Serialize)]
struct PlanJson<'a> {
    format: &'static str,
    model: &'a str,
    request: RequestJson,
    /// By name; execution order is that of `layers` and of the model.
    tensors: BTreeMap<&'a str, TensorJson<'a>>,
    layers: Vec<LayerJson<'a>>,
    /// Other operators that do not run as the model has them, or were asked not to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    operators: Vec<OperatorJson<'a>>,
    /// Operands that a node reads in another dtype than their producer writes.
    operands: Vec<OperandJson<'a>>,
    /// Tables whose segments do not lie as the table's own division has them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tables: Vec<TableJson<'a>>,
    float_islands: Vec<IslandJson<'a>>,
    notices: &'a [Notice],
}

#[derive(Serialize)]
struct TensorJson<'a> {
    kind: &'static str,
    requested: String,
    effective: String,
    scale: Option<f32>,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
}

#[derive(Serialize)]
struct LayerJson<'a> {
    name: &'a str,
    op: &'static str,
    shape: [usize; 2],
    requested: &'a str,
    effective: String,
    /// How its integers were fitted, with the figures that were taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    fit: Option<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
    input: ParamsJson,
    /// `null` is a high-precision output.
    output: Option<ParamsJson>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    inner_scales: BTreeMap<&'static str, f32>,
    /// The layer whose weight, in `converted.safetensors`, is this one's as well.
    #[serde(skip_serializing_if = "Option::is_none")]
    weight_of: Option<&'a str>,
}

#[derive(Serialize)]
struct OperatorJson<'a> {
    name: &'a str,
    op: &'a str,
    requested: &'static str,
    effective: &'static str,
}

#[derive(Serialize)]
struct ParamsJson {
    dtype: String,
    scale: f32,
}

#[derive(Serialize)]
struct OperandJson<'a> {
    node: &'a str,
    operand: usize,
    tensor: &'a str,
    requested: String,
    effective: String,
    scale: Option<f32>,
    reason: &'a str,
}

#[derive(Serialize)]
struct TableJson<'a> {
    node: &'a str,
    function: &'static str,
    /// First input of each inner segment, last input of the last one; integers.
    segments: [i32; 7],
    reason: &'static str,
}

#[derive(Serialize)]
struct IslandJson<'a> {
    node: &'a str,
    op_type: &'a str,
}

/// The file's text. `aliases` are layers whose weight is written under the name of another.
pub(crate) fn text(report: &Report<'_>, aliases: &BTreeMap<String, String>) -> Result<String> {
    let plan = &report.measured.planned.plan;
    let graph = report.graph;
    let running = plan.values.iter().enumerate();
    let running = running.filter(|(index, _)| graph.is_running(ValueId(*index)));
    let tensors = running.map(|(index, value)| {
        let own = graph.value(ValueId(index));
        let kind = match own.kind {
            ValueKind::Input => "input",
            ValueKind::Constant(_) => "constant",
            ValueKind::Activation => "activation",
            ValueKind::Exact => "exact",
        };
        (own.name.as_str(), tensor(kind, value))
    });
    let layers = plan.linears.iter().filter_map(|(&id, linear)| {
        let node = graph.nodes.get(id)?;
        let Op::Linear(own) = &node.op else {
            return None;
        };
        Some(LayerJson {
            weight_of: aliases.get(&node.name).map(String::as_str),
            ..layer(&node.name, own.weight.dim().into(), linear)
        })
    });
    let operators = report.operators.iter().filter_map(|operator| {
        let node = graph.nodes.get(operator.node)?;
        Some(OperatorJson {
            name: &node.name,
            op: node.op.name(),
            requested: operator.requested.name(),
            effective: operator.effective.name(),
        })
    });
    let operands = plan.operands.iter().filter_map(|(&(id, operand), value)| {
        let node = graph.nodes.get(id)?;
        let tensor = &graph.value(*node.inputs.get(operand)?).name;
        Some(OperandJson {
            node: &node.name,
            operand,
            tensor,
            requested: value.requested.to_string(),
            effective: effective(value.effective),
            scale: value.effective.map(|params| params.scale),
            reason: &value.reason,
        })
    });
    let islands = graph.running().filter_map(|(_, node)| match &node.op {
        Op::Island(island) => Some(IslandJson {
            node: &node.name,
            op_type: &island.op_type,
        }),
        _ => None,
    });
    let tables = plan.divisions.iter().filter_map(|(&id, &segments)| {
        let node = graph.nodes.get(id)?;
        let Op::Lut(function) = node.op else {
            return None;
        };
        Some(TableJson {
            node: &node.name,
            function: function.name(),
            segments,
            reason: "divided by the inputs that calibration saw",
        })
    });
    let plan = PlanJson {
        format: "dual16 plan 1",
        model: report.model_name(),
        request: RequestJson::of(&report.job.settings),
        tensors: tensors.collect(),
        layers: layers.collect(),
        operators: operators.collect(),
        operands: operands.collect(),
        tables: tables.collect(),
        float_islands: islands.collect(),
        notices: &report.measured.planned.notices,
    };
    let mut text = serde_json::to_string_pretty(&plan).map_err(|e| json_error("plan.json", &e))?;
    text.push('\n');
    Ok(text)
}

fn tensor<'a>(kind: &'static str, value: &'a ValuePlan) -> TensorJson<'a> {
    TensorJson {
        kind,
        requested: value.requested.to_string(),
        effective: effective(value.effective),
        scale: value.effective.map(|params| params.scale),
        reason: &value.reason,
    }
}

fn effective(params: Option<QParams>) -> String {
    params.map_or_else(|| "float".to_owned(), |params| params.dtype.to_string())
}

fn layer<'a>(name: &'a str, shape: [usize; 2], plan: &'a LinearPlan) -> LayerJson<'a> {
    let params = |params: QParams| ParamsJson {
        dtype: params.dtype.to_string(),
        scale: params.scale,
    };
    let inner_scales = match plan.params.inner {
        InnerParams::Gemm => BTreeMap::new(),
        InnerParams::MulSum {
            weight,
            product,
            sum,
            bias,
        } => {
            let mut scales = BTreeMap::from([("weight", weight), ("mul", product), ("sum", sum)]);
            scales.extend(bias.map(|bias| ("bias", bias)));
            scales
        }
        InnerParams::LowRank {
            main,
            inner,
            branch,
        } => BTreeMap::from([
            ("main", main),
            ("lowrank_inner", inner),
            ("lowrank", branch),
        ]),
        InnerParams::Split { high, low } => BTreeMap::from([("hi", high), ("lo", low)]),
    };
    LayerJson {
        name,
        op: "Linear",
        shape,
        requested: &plan.requested,
        effective: plan.way_name(),
        fit: plan.params.fit.as_ref().map(|fit| fit.made.as_str()),
        reason: &plan.reason,
        input: params(plan.params.input),
        output: plan.params.output.map(params),
        inner_scales,
        weight_of: None,
    }
}

//! `graph.json`: which operator reads which, and how the values of those that lose most lie about their
//! integers. With the other files it is all that a picture of the model needs. Knows no picture.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::Report;
use crate::{
    Result,
    error::json_error,
    graph::{Graph, ValueId},
    measured::{octaves, operators::rows},
};

/// Operators whose values are told of: those that lose most.
const WORST: usize = 24;

#[derive(Serialize)]
struct GraphJson<'a> {
    format: &'static str,
    model: &'a str,
    /// In execution order: the inputs, and what every operator that computes makes.
    operators: Vec<OperatorJson<'a>>,
    /// Float values of the operators that lose most dB, the worst first, over the measured batches; none
    /// where operators were not measured.
    values: Vec<ValuesJson<'a>>,
}

#[derive(Serialize)]
struct OperatorJson<'a> {
    /// As in `per_layer.csv` and `plan.json`.
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    module: &'a str,
    op: &'a str,
    /// Places in this list of what it reads, through whatever only moves values.
    inputs: Vec<usize>,
    /// Names of the model's outputs that it makes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    outputs: Vec<&'a str>,
}

#[derive(Serialize)]
struct ValuesJson<'a> {
    name: &'a str,
    dtype: String,
    /// Value of one step.
    scale: f32,
    /// Largest integer; beyond it values are clipped.
    largest: i32,
    /// Magnitudes in the first octave are below 2^(first_octave + 1) steps.
    first_octave: i32,
    zeros: u64,
    negative: &'a [u64],
    positive: &'a [u64],
}

/// The file's text.
pub(crate) fn text(report: &Report<'_>) -> Result<String> {
    written(
        report.model_name(),
        report.graph,
        report.output_names,
        values(report),
    )
}

/// The text for a job that measures no operators. `outputs` are their names in the ONNX graph.
pub(crate) fn of_graph(model: &str, graph: &Graph, outputs: &[String]) -> Result<String> {
    written(model, graph, outputs, Vec::new())
}

fn written(
    model: &str,
    graph: &Graph,
    outputs: &[String],
    values: Vec<ValuesJson<'_>>,
) -> Result<String> {
    let mut place_of: HashMap<ValueId, usize> = HashMap::new();
    let mut operators: Vec<OperatorJson<'_>> = Vec::new();
    for (node, value) in rows(graph) {
        let node = node.map(|node| graph.node(node));
        let mut inputs: Vec<usize> = Vec::new();
        for input in node.iter().flat_map(|node| &node.inputs) {
            let place = place_of.get(&graph.origin(*input)).copied();
            // A square reads its input twice; one line says it.
            inputs.extend(place.filter(|place| !inputs.contains(place)));
        }
        place_of.insert(value, operators.len());
        operators.push(OperatorJson {
            name: &graph.value(value).name,
            module: node.map_or("", |node| &node.names.module),
            op: node.map_or("Input", |node| node.op.name()),
            inputs,
            outputs: Vec::new(),
        });
    }
    for (output, name) in graph.outputs.iter().zip(outputs) {
        let place = place_of.get(&graph.origin(*output)).copied();
        if let Some(operator) = place.and_then(|place| operators.get_mut(place)) {
            operator.outputs.push(name);
        }
    }
    let file = GraphJson {
        format: "dual16 graph 1",
        model,
        operators,
        values,
    };
    // On one line: it is read by programs, and half of it would be spaces.
    let mut text = serde_json::to_string(&file).map_err(|e| json_error("graph.json", &e))?;
    text.push('\n');
    Ok(text)
}

fn values<'a>(report: &Report<'a>) -> Vec<ValuesJson<'a>> {
    let plan = &report.measured.planned.plan;
    let sums: BTreeMap<&str, _> = report
        .measured
        .operators
        .iter()
        .map(|(id, sums)| {
            let id = ValueId(*id);
            (report.graph.value(id).name.as_str(), (id, sums))
        })
        .collect();
    let mut worst = report.operators();
    // A stable sort: those that lose the same stay in execution order.
    let lost = |drop: Option<f64>| drop.unwrap_or(f64::NEG_INFINITY);
    worst.sort_by(|a, b| lost(b.drop_db).total_cmp(&lost(a.drop_db)));
    let told = worst.iter().filter_map(|row| {
        let (&name, &(id, sums)) = sums.get_key_value(row.name.as_str())?;
        let params = plan.params(id)?;
        (!sums.octaves.is_empty()).then(|| ValuesJson {
            name,
            dtype: params.dtype.to_string(),
            scale: params.scale,
            largest: params.dtype.qmax(),
            first_octave: octaves::FIRST,
            zeros: sums.octaves.zeros,
            negative: &sums.octaves.negative,
            positive: &sums.octaves.positive,
        })
    });
    told.take(WORST).collect()
}

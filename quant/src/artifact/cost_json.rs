//! What a plan costs, as `result.json` and a dry run's `plan.json` have it. Every time is an estimate,
//! and says so.

use std::collections::BTreeMap;

use dual16_nash::cost::{Chip, Elements, Estimate, Macs, Work};
use serde::Serialize;

use crate::{
    cost::{OpCost, PlanCost},
    graph::Graph,
};

const NOTE: &str = "an estimate for one batch, by the parameters below; what a float island computes is \
                    not in it (docs/cost.md)";

/// A whole plan.
#[derive(Serialize)]
pub(crate) struct CostJson<'a> {
    note: &'static str,
    march: String,
    #[serde(flatten)]
    total: OpCostJson,
    /// In the order of the graph; what costs nothing is left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    operators: Vec<OperatorJson<'a>>,
    parameters: BTreeMap<&'static str, ParameterJson>,
}

#[derive(Serialize)]
struct OperatorJson<'a> {
    name: &'a str,
    op: &'a str,
    #[serde(flatten)]
    cost: OpCostJson,
}

#[derive(Serialize)]
struct ParameterJson {
    value: f64,
    source: String,
}

/// One operator, or all of them.
#[derive(Serialize)]
pub(crate) struct OpCostJson {
    #[serde(flatten)]
    estimate: EstimateJson,
    /// By the toolchain's names.
    macs: BTreeMap<&'static str, u64>,
    vector_elements: ElementsJson,
    lut_elements: ElementsJson,
    fp16_elements: u64,
    moved_bytes: u64,
    requantized_bytes: u64,
    loaded_bytes: u64,
    stored_bytes: u64,
    float_islands: u64,
    dequantized_bytes: u64,
    quantized_bytes: u64,
}

/// Times.
#[derive(Serialize)]
pub(crate) struct EstimateJson {
    latency_us: f64,
    compute_us: f64,
    load_us: f64,
    store_us: f64,
    bound: &'static str,
}

#[derive(Serialize)]
struct ElementsJson {
    int8: u64,
    int16: u64,
}

impl<'a> CostJson<'a> {
    /// The totals alone.
    pub(crate) fn totals(cost: &PlanCost, chip: &Chip) -> Self {
        let parameter = |(key, own): (dual16_nash::cost::Key, &dual16_nash::cost::Parameter)| {
            let parameter = ParameterJson {
                value: own.value,
                source: own.source.clone(),
            };
            (key.name(), parameter)
        };
        CostJson {
            note: NOTE,
            march: chip.march().to_string(),
            total: OpCostJson::of(&cost.total),
            operators: Vec::new(),
            parameters: chip.parameters().map(parameter).collect(),
        }
    }

    /// Totals and every operator.
    pub(crate) fn whole(cost: &PlanCost, graph: &'a Graph, chip: &Chip) -> Self {
        let costly = graph.nodes.iter().zip(&cost.nodes);
        let costly = costly.filter(|(_, cost)| cost.work != Work::default());
        let operators = costly.map(|(node, cost)| OperatorJson {
            name: &node.name,
            op: node.op.name(),
            cost: OpCostJson::of(cost),
        });
        CostJson {
            operators: operators.collect(),
            ..Self::totals(cost, chip)
        }
    }
}

impl OpCostJson {
    fn of(OpCost { work, estimate }: &OpCost) -> Self {
        OpCostJson {
            estimate: EstimateJson::of(estimate),
            macs: Macs::NAMES.into_iter().zip(work.macs.counts()).collect(),
            vector_elements: ElementsJson::of(work.vector),
            lut_elements: ElementsJson::of(work.lut),
            fp16_elements: work.fp16_elements,
            moved_bytes: work.moved_bytes,
            requantized_bytes: work.requantized_bytes,
            loaded_bytes: work.loaded_bytes,
            stored_bytes: work.stored_bytes,
            float_islands: work.float_islands,
            dequantized_bytes: work.dequantized_bytes,
            quantized_bytes: work.quantized_bytes,
        }
    }
}

impl EstimateJson {
    pub(crate) fn of(estimate: &Estimate) -> Self {
        EstimateJson {
            latency_us: estimate.latency_us,
            compute_us: estimate.compute_us,
            load_us: estimate.load_us,
            store_us: estimate.store_us,
            bound: estimate.bound.name(),
        }
    }
}

impl ElementsJson {
    fn of(Elements { int8, int16 }: Elements) -> Self {
        ElementsJson { int8, int16 }
    }
}

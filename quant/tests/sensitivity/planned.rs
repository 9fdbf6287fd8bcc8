//! A plan made by hand: every tensor by the largest of its magnitudes in one batch.

use std::collections::BTreeMap;

use dual16_nash::{IntDtype, Way};
use dual16_quant::{
    exec::{Calibration, Carried, Integers, Prepared, walk},
    fit::Fits,
    graph::{Graph, Op, ValueId, ValueKind},
    plan::{InnerParams, LinearParams, LinearPlan, Plan, QParams, ValuePlan},
    sensitivity::{Analysis, FloatValues},
    settings::Settings,
    tensor::Tensor,
};

use crate::shared::Sample;

/// A sample with a plan for it.
pub struct Planned {
    pub sample: Sample,
    pub plan: Plan,
    pub prepared: Prepared,
}

impl Planned {
    /// Every activation int16 and every Linear a16w8; values that feed the outputs alone stay float
    /// where they are made by a product, as the product's plans have it.
    pub fn new(sample: Sample) -> Planned {
        Planned::of(sample, IntDtype::Int16)
    }

    pub fn of(sample: Sample, activations: IntDtype) -> Planned {
        let graph = &sample.graph;
        let values = floats(&sample);
        let mut plan = Plan::default();
        for (index, value) in graph.values.iter().enumerate() {
            let origin = graph.origin(ValueId(index));
            let own = value.kind.is_float();
            plan.values.push(ValuePlan {
                requested: activations,
                effective: values
                    .get(&origin)
                    .filter(|_| own)
                    .map(|value| params(value, activations)),
                reason: String::new(),
            });
        }
        for (id, node, _) in graph.linears() {
            let (input, output) = (node.inputs[0], node.outputs[0]);
            if graph.is_output(output) {
                plan.values[output.0].effective = None;
            }
            let way = match activations {
                IntDtype::Int8 => Way::A8W8,
                IntDtype::Int16 => Way::A16W8,
            };
            let linear = LinearPlan {
                requested: way.to_string(),
                way,
                reason: String::new(),
                params: LinearParams {
                    input: plan.params(input).unwrap(),
                    output: plan.params(output),
                    inner: InnerParams::Gemm,
                    fit: None,
                },
            };
            plan.linears.insert(id.0, linear);
        }
        for (index, node) in graph.nodes.iter().enumerate() {
            if matches!(node.op, Op::MatMul) {
                let operand = node.inputs[1];
                let plan_of = ValuePlan {
                    requested: IntDtype::Int16,
                    effective: Some(params(&values[&operand], IntDtype::Int8)),
                    reason: "one int16 operand".to_owned(),
                };
                plan.operands.insert((index, 1), plan_of);
            }
        }
        let prepared = Prepared::new(graph, &plan, &Fits::new(), &Settings::default()).unwrap();
        Planned {
            plan,
            prepared,
            sample,
        }
    }

    pub fn analysis(&self) -> Analysis<'_> {
        let Sample { graph, float, .. } = &self.sample;
        Analysis::new(graph, float, &self.plan, &self.prepared, Integers::Frozen)
    }

    pub fn values(&self, analysis: &Analysis<'_>) -> FloatValues {
        FloatValues::new(analysis, self.sample.probe.clone()).unwrap()
    }

    pub fn graph(&self) -> &Graph {
        &self.sample.graph
    }
}

/// Every float tensor of the sample's batch.
pub fn floats(sample: &Sample) -> BTreeMap<ValueId, Tensor> {
    let graph = &sample.graph;
    let constants = graph.values.iter().enumerate();
    let mut values: BTreeMap<ValueId, Tensor> = constants
        .filter_map(|(index, value)| match &value.kind {
            ValueKind::Constant(tensor) => Some((ValueId(index), tensor.as_ref().clone())),
            _ => None,
        })
        .collect();
    let mut machine = Calibration::new(graph, &sample.probe);
    let keep = |id, value: &Carried<Tensor>| {
        if let Carried::Value(tensor) = value {
            values.insert(id, tensor.clone());
        }
        Ok(())
    };
    let (float, probe) = (&sample.float, &sample.probe);
    walk(graph, float, probe, Integers::Frozen, &mut machine, keep).unwrap();
    values
}

fn params(tensor: &Tensor, dtype: IntDtype) -> QParams {
    let finite = tensor.iter().filter(|x| x.is_finite());
    let amax = finite.fold(1e-6f32, |amax, x| amax.max(x.abs()));
    let steps = match dtype {
        IntDtype::Int8 => 127.5,
        IntDtype::Int16 => 32767.5,
    };
    QParams {
        dtype,
        scale: amax / steps,
    }
}

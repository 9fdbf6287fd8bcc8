//! Dtypes and scales of a whole model, given the way of each Linear.

use std::collections::BTreeMap;

use dual16_nash::{
    dtype::IntDtype,
    legality::Rules,
    lut::{Lut, LutFunction},
    ways::Way,
};

use super::{
    InnerParams, LinearFit, LinearParams, LinearPlan, Plan, QParams, ScaleSource, Slot, ValuePlan,
    request::feeds_only_outputs, scales::exact_range,
};
use crate::{
    Result,
    graph::{Graph, Linear, Node, NodeId, Op, ReduceKind, ValueId},
    notice::Notice,
};

/// The way of one Linear, and how it came to it.
#[derive(Debug, Clone)]
pub struct Chosen {
    /// What runs.
    pub way: Way,
    /// The integers that were fitted for it, where it runs with those.
    pub fit: Option<LinearFit>,
    /// What was asked for: a way or "auto".
    pub requested: String,
    /// Why they differ; empty where they do not.
    pub reason: String,
}

impl Plan {
    /// Gives every tensor its dtype and scale. `chosen` is by node index of each Linear. The
    /// notices say where a tensor did not get what was asked for.
    pub fn build(
        source: &ScaleSource<'_>,
        chosen: &BTreeMap<usize, Chosen>,
    ) -> Result<(Plan, Vec<Notice>)> {
        let graph = source.graph;
        let empty = Plan::default();
        let mut builder = Builder {
            source,
            plan: empty,
            notices: Vec::new(),
        };
        builder.start_values(chosen)?;
        for (NodeId(index), node) in graph.running() {
            match &node.op {
                Op::Linear(linear) => {
                    if let Some(chosen) = chosen.get(&index) {
                        builder.linear(index, node, linear, chosen)?;
                    }
                }
                Op::MatMul => {
                    builder.product(index, node)?;
                    if feeds_only_outputs(graph, node.outputs[0]) {
                        builder.plan.values[node.outputs[0].0].effective = None;
                    }
                }
                Op::Dot { .. } => builder.product(index, node)?,
                Op::Move(_)
                | Op::Reduce {
                    kind: ReduceKind::Max,
                    ..
                } => builder.keep_scale(node),
                Op::LayerNormFp16 { .. } => builder.fp16(node),
                &Op::Lut(function) => builder.table(index, node, function)?,
                _ => {}
            }
        }
        builder.unused_settings();
        Ok((builder.plan, builder.notices))
    }
}

struct Builder<'a> {
    source: &'a ScaleSource<'a>,
    plan: Plan,
    notices: Vec<Notice>,
}

impl Builder<'_> {
    /// Every value by its own request, raised to int16 where a Linear's way reads int16.
    fn start_values(&mut self, chosen: &BTreeMap<usize, Chosen>) -> Result<()> {
        let graph = self.source.graph;
        let raised = raised_to_int16(self.source, chosen);
        for index in 0..graph.values.len() {
            let request = &self.source.request.values[index];
            let id = ValueId(index);
            let (dtype, reason) = match raised.get(&index) {
                Some(reason) => (IntDtype::Int16, reason.clone()),
                None => (request.dtype, String::new()),
            };
            let effective = match observed_own_scale(graph, id) {
                true => Some(self.source.value(id, dtype)?),
                false => None,
            };
            self.plan.values.push(ValuePlan {
                requested: request.dtype,
                effective,
                reason,
            });
        }
        Ok(())
    }

    fn linear(
        &mut self,
        index: usize,
        node: &Node,
        linear: &Linear,
        chosen: &Chosen,
    ) -> Result<()> {
        let input = self.linear_input(index, node, chosen)?;
        let output_id = node.outputs[0];
        let high_precision = self
            .source
            .request
            .linears
            .get(&index)
            .is_some_and(|request| request.high_precision);
        if high_precision && keeps_high_precision(chosen.way, chosen.fit.as_ref()) {
            self.plan.values[output_id.0].effective = None;
            self.plan.values[output_id.0].reason =
                "high-precision output: feeds only the model's output".to_owned();
        }
        let params = LinearParams {
            input,
            output: self.plan.params(output_id),
            inner: inner_params(self.source, index, linear, chosen.way, chosen.fit.as_ref())?,
            fit: chosen.fit.clone(),
        };
        let plan = LinearPlan {
            requested: chosen.requested.clone(),
            way: chosen.way,
            reason: chosen.reason.clone(),
            params,
        };
        self.plan.linears.insert(index, plan);
        Ok(())
    }

    /// The input as the way takes it: the value's own parameters, or a requantized operand.
    fn linear_input(&mut self, index: usize, node: &Node, chosen: &Chosen) -> Result<QParams> {
        let way = chosen.way;
        let wanted = way.activation_dtype();
        let own = self.plan.params(node.inputs[0]);
        let clip = chosen.fit.as_ref().map_or(1.0, |fit| fit.clip);
        let overridden = self
            .source
            .request
            .slot(index, Slot::Input)
            .fixed_scale
            .is_some();
        if let Some(own) = own.filter(|own| own.dtype == wanted && !overridden && clip == 1.0) {
            return Ok(own);
        }
        let mut params = self.source.linear_input(index, wanted)?;
        params.scale *= clip;
        let (graph, x) = (self.source.graph, node.inputs[0]);
        let alone = graph.consumers(x).len() == 1 && graph.origin(x) == x && !graph.is_output(x);
        if own.is_some_and(|own| own.dtype == wanted) && !overridden && alone {
            // Clipped where it is made: to finer steps than it was made with, nothing is gained.
            self.plan.values[x.0].effective = Some(params);
            self.plan.values[x.0].reason = format!("clipped to {clip} of its range");
            return Ok(params);
        }
        let requested = own.map_or(wanted, |own| own.dtype);
        let reason = match clip == 1.0 {
            true => format!("{way} reads {wanted}"),
            false => format!("{way} reads {wanted}, clipped to {clip} of its range"),
        };
        self.operand(
            index,
            0,
            ValuePlan {
                requested,
                effective: Some(params),
                reason,
            },
        );
        Ok(params)
    }

    /// A GEMM of two activations: where the toolchain allows one int16 operand, the second one
    /// is taken as int8.
    fn product(&mut self, index: usize, node: &Node) -> Result<()> {
        let settings = self.source.settings;
        let rules = Rules::of(settings.march, settings.toolchain);
        let int16 = |id: &ValueId| {
            self.plan
                .params(*id)
                .is_some_and(|params| params.dtype == IntDtype::Int16)
        };
        let wide = node.inputs.iter().filter(|id| int16(id)).count();
        if wide > rules.max_int16_gemm_operands as usize && node.inputs.len() == 2 {
            let params = self.source.operand(node.inputs[1], IntDtype::Int8)?;
            let reason = format!(
                "{} allows {} int16 operand in a GEMM",
                settings.toolchain, rules.max_int16_gemm_operands
            );
            // Where nobody asked for int16 by name, it is how such a GEMM runs there and no news.
            let asked = self.source.graph.origin(node.inputs[1]);
            self.notices.push(Notice {
                warning: self.source.request.values[asked.0].explicit,
                code: "DTYPE_FALLBACK".to_owned(),
                subject: node.name.clone(),
                message: format!("its second operand was requested int16 and runs int8: {reason}"),
            });
            let requested = IntDtype::Int16;
            self.operand(
                index,
                1,
                ValuePlan {
                    requested,
                    effective: Some(params),
                    reason,
                },
            );
        }
        Ok(())
    }

    /// Where a table's segments are worth most, and where they lie if that was asked for.
    fn table(&mut self, index: usize, node: &Node, function: LutFunction) -> Result<()> {
        let source = self.source;
        let range = source.observed_range(node.inputs[0]);
        self.plan
            .table_ranges
            .extend(range.map(|range| (index, range)));
        let id = NodeId(index);
        if !source.request.divided.contains(&index) {
            return Ok(());
        }
        let (Some(params), Some(spec)) = (
            self.plan.operand(source.graph, id, 0),
            self.plan.table(source.graph, id, function)?,
        ) else {
            return Ok(());
        };
        let seen = source.inputs_seen(node.inputs[0], params);
        let summed = summed(source.graph, node.outputs[0]);
        // A function that no table stands for is told of when it is to run.
        if let Ok(Some(division)) = Lut::division_for(&spec, &seen, summed) {
            self.plan.divisions.insert(index, division);
        }
        Ok(())
    }

    /// Says of an operator what is known of it.
    fn fp16(&mut self, node: &Node) {
        self.notices.push(Notice {
            warning: true,
            code: "FP16".to_owned(),
            subject: node.name.clone(),
            message: "it runs in fp16 (--allow-fp16): that the chip has it is an assumption from public \
                      notes, every step is rounded as this simulation chooses, and its cost is a guess"
                .to_owned(),
        });
    }

    /// Settings of inner tensors that the chosen way does not have. A glob means what is there: that it
    /// also matches the inner tensors of other ways is nothing that anybody asked for.
    fn unused_settings(&mut self) {
        let slots = self.source.request.slots.iter();
        for (&(index, slot), _) in slots.filter(|(_, request)| request.named) {
            let (Some(linear), Some(node)) = (
                self.plan.linears.get(&index),
                self.source.graph.nodes.get(index),
            ) else {
                continue;
            };
            if !slot.is_in(linear.way) {
                self.notices.push(Notice {
                    warning: true,
                    code: "UNUSED_SETTING".to_owned(),
                    subject: format!("{}.{}", node.name, slot.suffix()),
                    message: format!("the layer runs as {}, which has no such tensor", linear.way),
                });
            }
        }
    }

    /// Outputs of a move or a maximum take the parameters of what they are made from.
    fn keep_scale(&mut self, node: &Node) {
        let from = self.plan.params(node.inputs[0]);
        for output in &node.outputs {
            self.plan.values[output.0].effective = from;
        }
    }

    fn operand(&mut self, node: usize, operand: usize, plan: ValuePlan) {
        self.plan.operands.insert((node, operand), plan);
    }
}

/// How many elements of a value are added at a time by a reduction that reads it; 1 where none does.
fn summed(graph: &Graph, id: ValueId) -> usize {
    let shape = &graph.value(id).shape;
    let of = |&node: &NodeId| match &graph.node(node).op {
        Op::Reduce {
            kind: ReduceKind::Sum | ReduceKind::Mean,
            axes,
            ..
        } => axes.iter().filter_map(|&axis| shape.get(axis)).product(),
        _ => 1,
    };
    graph.consumers(id).iter().map(of).max().unwrap_or(1).max(1)
}

/// Values asked to be int8 that are made int16, and why: a Linear reads them as int16, and
/// requantizing int8 could not bring back what it lost; or they hold masked elements, whose distance
/// would leave the scores a few of the 256 steps.
fn raised_to_int16(
    source: &ScaleSource<'_>,
    chosen: &BTreeMap<usize, Chosen>,
) -> BTreeMap<usize, String> {
    let graph = source.graph;
    let may = |id: usize| {
        let request = &source.request.values[id];
        request.dtype == IntDtype::Int8 && !request.explicit
    };
    let mut raised = BTreeMap::new();
    for (id, node, _) in graph.linears() {
        let wants = |chosen: &Chosen| chosen.way.activation_dtype() == IntDtype::Int16;
        let from = graph.origin(node.inputs[0]);
        if may(from.0) && chosen.get(&id.0).is_some_and(wants) {
            let reason = || format!("{} reads int16", node.name);
            raised.entry(from.0).or_insert_with(reason);
        }
    }
    for &id in source.calibration.floors.keys().filter(|id| may(**id)) {
        let reason = || "it holds masked elements".to_owned();
        raised.entry(id).or_insert_with(reason);
    }
    raised
}

/// Whether a value is there and has a scale of its own, rather than that of what it was moved from.
fn observed_own_scale(graph: &Graph, id: ValueId) -> bool {
    graph.is_running(id) && graph.origin(id) == id && graph.value(id).kind.is_float()
}

/// Whether a Linear's output need not be requantized: a low-rank branch ends in an int16 Add.
pub(crate) fn keeps_high_precision(way: Way, fit: Option<&LinearFit>) -> bool {
    way.can_keep_high_precision() && fit.is_none_or(|fit| fit.inside.is_none())
}

/// Scales of the tensors inside a way.
pub(crate) fn inner_params(
    source: &ScaleSource<'_>,
    index: usize,
    linear: &Linear,
    way: Way,
    fit: Option<&LinearFit>,
) -> Result<InnerParams> {
    if let Some(inside) = fit.and_then(|fit| fit.inside) {
        let name = &source.graph.nodes[index].name;
        let scale = |largest| source.int16_scale(name, largest);
        let [main, inner, branch] = inside;
        let room = linear.room();
        let (main, branch) = (main * room, branch * room);
        return Ok(InnerParams::LowRank {
            main: scale(main)?,
            inner: scale(inner)?,
            branch: scale(branch)?,
        });
    }
    let scale = |slot, range| source.slot(index, slot, range).map(|params| params.scale);
    Ok(match way {
        Way::A8W8 | Way::A16W8 | Way::A8W16 | Way::A16W16 => InnerParams::Gemm,
        Way::MulSum => InnerParams::MulSum {
            weight: scale(Slot::Weight, Some(exact_range(linear.weight.iter())))?,
            product: scale(Slot::Product, None)?,
            sum: scale(Slot::Sum, None)?,
            bias: match &linear.bias {
                Some(bias) => Some(scale(Slot::Bias, Some(exact_range(bias.iter())))?),
                None => None,
            },
        },
        Way::Split => InnerParams::Split {
            high: scale(Slot::High, None)?,
            low: scale(Slot::Low, None)?,
        },
    })
}

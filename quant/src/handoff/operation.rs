//! Operations of the graph that are no Linear as ONNX nodes.

use std::f32::consts::{FRAC_1_SQRT_2, PI};

use dual16_nash::{dtype::IntDtype, lut::LutFunction};
use ndarray::{ArrayD, IxDyn, arr0};

use super::emit::{Dialect, Emitter};
use crate::{
    canonical::{float_attribute, int_attribute},
    graph::{Move, Node, NodeId, Op, ReduceKind},
};

impl Emitter<'_, '_> {
    /// Writes a node whose output is `target`.
    pub(super) fn operation(
        &mut self,
        id: NodeId,
        node: &Node,
        op: &Op,
        inputs: &[String],
        target: &str,
    ) {
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let Some(&x) = inputs.first() else {
            return self.refuse(node, "it has no operand");
        };
        let part = |suffix: &str| format!("{}.{suffix}", node.name);
        match op {
            Op::Add => self.writer.node_to("Add", &inputs, vec![], target),
            Op::Sub => self.writer.node_to("Sub", &inputs, vec![], target),
            Op::Mul => self.writer.node_to("Mul", &inputs, vec![], target),
            Op::MatMul => self.writer.node_to("MatMul", &inputs, vec![], target),
            Op::Relu => self.writer.node_to("Relu", &inputs, vec![], target),
            Op::Concat { axis } => {
                let axis = vec![int_attribute("axis", *axis as i64)];
                self.writer.node_to("Concat", &inputs, axis, target);
            }
            Op::Reduce {
                kind,
                axes,
                keepdims,
            } => {
                let op = match kind {
                    ReduceKind::Sum => "ReduceSum",
                    ReduceKind::Mean => "ReduceMean",
                    ReduceKind::Max => "ReduceMax",
                };
                self.reduce(op, x, axes, *keepdims, target);
            }
            &Op::Clip { min, max } => {
                let low = match min == f32::MIN {
                    true => String::new(),
                    false => self.writer.float(&part("least"), min),
                };
                let high = match max == f32::MAX {
                    true => String::new(),
                    false => self.writer.float(&part("most"), max),
                };
                self.writer
                    .node_to("Clip", &[x, &low, &high], vec![], target);
            }
            &Op::ToInt8 { step } => self.requantized(x, step, target),
            Op::Lut(function) => self.function(id, *function, x, &node.name, target),
            Op::Dot {
                mean,
                axes,
                keepdims,
            } => self.dot(node, &inputs, *mean, axes, *keepdims, target),
            &Op::LayerNormFp16 { axes, eps } => {
                let shape = node
                    .outputs
                    .first()
                    .map(|id| &self.source.graph.value(*id).shape);
                let shape = shape.map_or(&[][..], Vec::as_slice);
                let last = shape.get(shape.len() - axes.min(shape.len())..);
                let ones = ArrayD::<f32>::ones(IxDyn(last.unwrap_or_default()));
                let ones = self.writer.floats(&part("ones"), ones.view());
                let attributes = vec![
                    int_attribute("axis", -(axes as i64)),
                    float_attribute("epsilon", eps as f32),
                ];
                self.writer
                    .node_to("LayerNormalization", &[x, &ones], attributes, target);
            }
            Op::Move(Move::Unsqueeze { axis }) => {
                let axes = self.writer.ints(&[*axis as i64]);
                self.writer
                    .node_to("Unsqueeze", &[x, &axes], vec![], target);
            }
            Op::Move(_) => self.refuse(node, "no node of the model moves so"),
            Op::Linear(_) | Op::Island(_) => self.refuse(node, "it has no node of the model"),
        }
    }

    fn reduce(&mut self, op: &str, x: &str, axes: &[usize], keepdims: bool, target: &str) {
        let axes: Vec<i64> = axes.iter().map(|&axis| axis as i64).collect();
        let axes = self.writer.ints(&axes);
        let kept = vec![int_attribute("keepdims", keepdims.into())];
        self.writer.node_to(op, &[x, &axes], kept, target);
    }

    /// The nearest of 256 steps. A requantization, which QuantizeLinear and DequantizeLinear are in every
    /// operator set; the fake quant of the result, at the same scale, leaves it as it is.
    fn requantized(&mut self, x: &str, step: f32, target: &str) {
        let scale = self
            .writer
            .floats(&format!("{target}.step"), arr0(step).into_dyn().view());
        let zero = self.zero(IntDtype::Int8);
        let wanted = format!("{target}.int8");
        let q = self
            .writer
            .node("QuantizeLinear", &[x, &scale, &zero], vec![], &wanted);
        self.writer
            .node_to("DequantizeLinear", &[&q, &scale, &zero], vec![], target);
    }

    /// Sums of products: along the last axis a batch of `[1, K] x [K, 1]`, else products and their sum.
    fn dot(
        &mut self,
        node: &Node,
        inputs: &[&str],
        mean: bool,
        axes: &[usize],
        keepdims: bool,
        target: &str,
    ) {
        let &[a, b] = inputs else {
            return self.refuse(node, "it has two operands");
        };
        let part = |suffix: &str| format!("{}.{suffix}", node.name);
        let shape = node
            .inputs
            .first()
            .map(|id| &self.source.graph.value(*id).shape);
        let shape = shape.cloned().unwrap_or_default();
        if axes != [shape.len().saturating_sub(1)] || shape.is_empty() {
            let products = self.writer.node("Mul", &[a, b], vec![], &part("mul"));
            let op = if mean { "ReduceMean" } else { "ReduceSum" };
            return self.reduce(op, &products, axes, keepdims, target);
        }
        let (before, after) = (self.writer.ints(&[-2]), self.writer.ints(&[-1]));
        let row = self
            .writer
            .node("Unsqueeze", &[a, &before], vec![], &part("row"));
        let column = self
            .writer
            .node("Unsqueeze", &[b, &after], vec![], &part("column"));
        let product = self
            .writer
            .node("MatMul", &[&row, &column], vec![], &part("product"));
        let gone = match keepdims {
            true => after,
            false => self.writer.ints(&[-2, -1]),
        };
        if !mean {
            return self
                .writer
                .node_to("Squeeze", &[&product, &gone], vec![], target);
        }
        let length = shape.last().copied().unwrap_or(1).max(1);
        let share = self.writer.float(&part("share"), 1.0 / length as f32);
        let sum = self
            .writer
            .node("Squeeze", &[&product, &gone], vec![], &part("total"));
        self.writer.node_to("Mul", &[&sum, &share], vec![], target);
    }

    /// A function of one variable; where it is singular, what its table has there.
    fn function(&mut self, id: NodeId, function: LutFunction, x: &str, name: &str, target: &str) {
        let part = |suffix: &str| format!("{name}.{suffix}");
        let guarded = self.guarded(id, function, x, name);
        let x = guarded.as_str();
        let plain = match function {
            LutFunction::Sigmoid => "Sigmoid",
            LutFunction::Tanh => "Tanh",
            LutFunction::Exp => "Exp",
            LutFunction::Reciprocal => "Reciprocal",
            LutFunction::Sqrt => "Sqrt",
            LutFunction::Log => "Log",
            LutFunction::Erf => "Erf",
            LutFunction::Softplus => "Softplus",
            _ => "",
        };
        if !plain.is_empty() {
            return self.writer.node_to(plain, &[x], vec![], target);
        }
        let writer = &mut self.writer;
        match function {
            LutFunction::Silu => {
                let gate = writer.node("Sigmoid", &[x], vec![], &part("sigmoid"));
                writer.node_to("Mul", &[x, &gate], vec![], target);
            }
            LutFunction::Rsqrt { eps } => {
                let eps = writer.float(&part("eps"), eps as f32);
                let sum = writer.node("Add", &[x, &eps], vec![], &part("add"));
                let root = writer.node("Sqrt", &[&sum], vec![], &part("sqrt"));
                writer.node_to("Reciprocal", &[&root], vec![], target);
            }
            LutFunction::Gelu | LutFunction::GeluTanh => {
                let (one, half) = (
                    writer.float(&part("one"), 1.0),
                    writer.float(&part("half"), 0.5),
                );
                let bent = match function {
                    LutFunction::Gelu => {
                        let root = writer.float(&part("root"), FRAC_1_SQRT_2);
                        let scaled = writer.node("Mul", &[x, &root], vec![], &part("scaled"));
                        writer.node("Erf", &[&scaled], vec![], &part("erf"))
                    }
                    _ => {
                        let cube = writer.float(&part("cube"), 0.044_715);
                        let root = writer.float(&part("root"), (2.0 / PI).sqrt());
                        let square = writer.node("Mul", &[x, x], vec![], &part("square"));
                        let third = writer.node("Mul", &[&square, x], vec![], &part("third"));
                        let small = writer.node("Mul", &[&third, &cube], vec![], &part("small"));
                        let sum = writer.node("Add", &[x, &small], vec![], &part("sum"));
                        let scaled = writer.node("Mul", &[&sum, &root], vec![], &part("scaled"));
                        writer.node("Tanh", &[&scaled], vec![], &part("tanh"))
                    }
                };
                let share = writer.node("Add", &[&bent, &one], vec![], &part("share"));
                let halved = writer.node("Mul", &[x, &half], vec![], &part("halved"));
                writer.node_to("Mul", &[&halved, &share], vec![], target);
            }
            _ => {
                let node = self.source.graph.node(id);
                self.refuse(node, "ONNX has no such function");
            }
        }
    }

    /// The argument of a function, moved off the points at which the function is singular.
    fn guarded(&mut self, id: NodeId, function: LutFunction, x: &str, name: &str) -> String {
        let input = self.source.plan.operand(self.source.graph, id, 0);
        let (Dialect::Quantized, Some(input)) = (self.dialect, input) else {
            return x.to_owned();
        };
        let part = |suffix: &str| format!("{name}.{suffix}");
        let step = input.scale;
        let (test, bound, instead) = match function {
            LutFunction::Log => ("LessOrEqual", 0.0, step),
            LutFunction::Reciprocal => ("Equal", 0.0, step),
            LutFunction::Sqrt => ("Less", 0.0, 0.0),
            LutFunction::Rsqrt { eps } if eps > 0.0 => ("LessOrEqual", -eps as f32, 0.0),
            LutFunction::Rsqrt { eps } => ("LessOrEqual", -eps as f32, step - eps as f32),
            _ => return x.to_owned(),
        };
        let writer = &mut self.writer;
        let bound = writer.float(&part("bound"), bound);
        let instead = writer.float(&part("instead"), instead);
        let singular = writer.node(test, &[x, &bound], vec![], &part("singular"));
        writer.node("Where", &[&singular, &instead, x], vec![], &part("guarded"))
    }
}

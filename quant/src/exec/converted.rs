//! CONVERTED: integers only, float islands and high-precision outputs aside.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
};

use dual16_nash::linear::AccumulatorPeak;

use crate::{
    Error, Result,
    exec::{Machine, Prepared, Trouble, ops_f32, ops_int, validation::unplanned},
    graph::{Graph, Node, NodeId, Op, ReduceKind, ValueId},
    plan::Plan,
    qtensor::QTensor,
    tensor::{Datum, Tensor},
    ways::{LinearOutput, RunCounts},
};

/// What flows between operations.
#[derive(Debug, Clone)]
pub enum Flow {
    /// Integers.
    Quantized(QTensor),
    /// A high-precision output on its way out of the model.
    Float(Tensor),
}

impl Flow {
    /// The float tensor it stands for.
    pub fn to_float(&self) -> Tensor {
        match self {
            Flow::Quantized(tensor) => tensor.dequantize(),
            Flow::Float(tensor) => tensor.clone(),
        }
    }
}

/// A CONVERTED run of a plan. What it counted can be read afterwards.
pub struct Converted<'a> {
    graph: &'a Graph,
    plan: &'a Plan,
    prepared: &'a Prepared,
    /// Counts of each Linear, by node index.
    pub counts: BTreeMap<usize, RunCounts>,
    /// Largest accumulator of each MatMul, by node index.
    pub peaks: BTreeMap<usize, AccumulatorPeak>,
    /// What it did not stop at.
    pub trouble: Trouble,
}

impl<'a> Converted<'a> {
    /// A run of `plan`, whose weights and tables are in `prepared`.
    pub fn new(graph: &'a Graph, plan: &'a Plan, prepared: &'a Prepared) -> Self {
        Converted {
            graph,
            plan,
            prepared,
            counts: BTreeMap::new(),
            peaks: BTreeMap::new(),
            trouble: Trouble::default(),
        }
    }

    /// Operands as the node takes them: integers, in the dtype it reads.
    fn operands<'t>(
        &self,
        id: NodeId,
        node: &Node,
        inputs: &[&'t Flow],
    ) -> Result<Vec<Cow<'t, QTensor>>> {
        let quantized = |(operand, &input): (usize, &&'t Flow)| {
            let Flow::Quantized(tensor) = input else {
                return Err(Error::FloatRun {
                    node: node.name.clone(),
                    reason: "it reads a high-precision output, which has no integers".to_owned(),
                });
            };
            match self
                .plan
                .operands
                .get(&(id.0, operand))
                .and_then(|plan| plan.effective)
            {
                Some(params) => tensor.requantize(&node.name, params).map(Cow::Owned),
                None => Ok(Cow::Borrowed(tensor)),
            }
        };
        inputs.iter().enumerate().map(quantized).collect()
    }

    fn linear(&mut self, id: NodeId, node: &Node, inputs: &[Cow<'_, QTensor>]) -> Result<Flow> {
        let linear = self.prepared.linear(id, node)?;
        let x = inputs.first().ok_or_else(|| unplanned(node))?;
        let run = linear.run(x)?;
        let counts = self.counts.entry(id.0).or_default();
        *counts = counts.merge(run.counts);
        Ok(match run.output {
            LinearOutput::Quantized(tensor) => Flow::Quantized(tensor),
            LinearOutput::Float(tensor) => Flow::Float(tensor),
        })
    }

    /// A node whose one output has a scale of its own.
    fn arithmetic(&mut self, id: NodeId, node: &Node, inputs: &[Cow<'_, QTensor>]) -> Result<Flow> {
        let inputs: Vec<&QTensor> = inputs.iter().map(AsRef::as_ref).collect();
        let output = node
            .outputs
            .first()
            .and_then(|&output| self.plan.params(output));
        let peak = self.peaks.entry(id.0).or_default();
        match (&node.op, output) {
            (Op::Lut(_), Some(output)) => {
                let table = &self.prepared.table(id, node)?.lut;
                let x = ops_f32::operand(node, &inputs, 0)?;
                ops_int::look_up(node, x, table, output).map(Flow::Quantized)
            }
            (&Op::LayerNormFp16 { axes, eps }, Some(params)) => {
                let x = ops_f32::operand(node, &inputs, 0)?;
                let made = ops_int::layer_norm_fp16(node, x, (axes, eps))?;
                let rounding = self.prepared.rounding;
                let (made, found) = QTensor::quantize(&node.name, &made, params, rounding)?;
                self.trouble.quantized(node.outputs[0], found);
                Ok(Flow::Quantized(made))
            }
            (_, Some(output)) => {
                ops_int::arithmetic(node, &inputs, output, peak).map(Flow::Quantized)
            }
            (Op::MatMul, None) => {
                ops_int::matmul_high_precision(node, &inputs, peak).map(Flow::Float)
            }
            (_, None) => Err(unplanned(node)),
        }
    }
}

impl Machine for Converted<'_> {
    type Value = Flow;

    fn enter(&mut self, id: ValueId, tensor: &Tensor) -> Result<Flow> {
        let name = &self.graph.value(id).name;
        match self.plan.params(id) {
            Some(params) => {
                let rounding = self.prepared.rounding;
                let (quantized, found) = QTensor::quantize(name, tensor, params, rounding)?;
                self.trouble.quantized(id, found);
                Ok(Flow::Quantized(quantized))
            }
            None => Ok(Flow::Float(tensor.clone())),
        }
    }

    fn leave(&self, value: &Flow) -> Tensor {
        value.to_float()
    }

    fn island_ran(&mut self, node: &Node, operands: &HashMap<String, Datum>, results: &[Datum]) {
        self.trouble.island(self.graph, node, operands, results);
    }

    fn failed(&mut self, node: &Node, error: Error) -> Result<()> {
        self.trouble.failed(node, error)
    }

    fn run(
        &mut self,
        id: NodeId,
        node: &Node,
        inputs: &[&Flow],
        shapes: &[Option<&[usize]>],
    ) -> Result<Vec<Flow>> {
        let keeps_scale = matches!(
            node.op,
            Op::Move(_)
                | Op::Reduce {
                    kind: ReduceKind::Max,
                    ..
                }
        );
        if keeps_scale && let Some(Flow::Float(tensor)) = inputs.first() {
            let moved = ops_f32::run(node, &[tensor], shapes)?;
            return Ok(moved.into_iter().map(Flow::Float).collect());
        }
        let operands = self.operands(id, node, inputs)?;
        match &node.op {
            Op::Linear(_) => self.linear(id, node, &operands).map(|flow| vec![flow]),
            _ if keeps_scale => {
                let x = operands.first().ok_or_else(|| unplanned(node))?;
                let kept = ops_int::keep_scale(node, x, shapes)?;
                Ok(kept.into_iter().map(Flow::Quantized).collect())
            }
            _ => self.arithmetic(id, node, &operands).map(|flow| vec![flow]),
        }
    }
}

//! VALIDATION: f32 with `q * s` after every quantized operation.

use std::collections::HashMap;

use dual16_nash::{
    LutFunction,
    quantize::{NonFinite, fake_quantize_in_place},
    scale::Scale,
};

use crate::{
    Error, Result,
    error::KernelContext,
    exec::{Machine, Prepared, Trouble, ops_f32},
    graph::{Graph, Node, NodeId, Op, ValueId},
    plan::{Plan, QParams},
    tensor::{Datum, Tensor},
};

/// A VALIDATION run of a plan.
pub struct Validation<'a> {
    graph: &'a Graph,
    plan: &'a Plan,
    prepared: &'a Prepared,
    /// What it did not stop at.
    pub trouble: Trouble,
}

impl<'a> Validation<'a> {
    /// A run of `plan`, whose weights are in `prepared`.
    pub fn new(graph: &'a Graph, plan: &'a Plan, prepared: &'a Prepared) -> Self {
        Validation {
            graph,
            plan,
            prepared,
            trouble: Trouble::default(),
        }
    }

    fn fake_quantize(
        &self,
        name: &str,
        tensor: Tensor,
        params: QParams,
    ) -> Result<(Tensor, NonFinite)> {
        let scale = Scale::new(params.scale).of(name)?;
        let mut tensor = into_standard(tensor);
        let rounding = self.prepared.rounding;
        let found = tensor
            .as_slice_mut()
            .map_or(NonFinite::default(), |values| {
                fake_quantize_in_place(values, scale, params.dtype, rounding)
            });
        Ok((tensor, found))
    }

    /// The value as its own parameters leave it.
    fn settle(&mut self, id: ValueId, tensor: Tensor) -> Result<Tensor> {
        let Some(params) = self.plan.params(id) else {
            return Ok(tensor);
        };
        let (tensor, found) = self.fake_quantize(&self.graph.value(id).name, tensor, params)?;
        self.trouble.quantized(id, found);
        Ok(tensor)
    }

    /// A function of one variable; where it is singular, what its table has there.
    fn function(
        &mut self,
        id: NodeId,
        node: &Node,
        function: LutFunction,
        x: &Tensor,
    ) -> Vec<Tensor> {
        let Some(input) = self.plan.operand(self.graph, id, 0) else {
            return vec![x.mapv(|x| function.eval_f32(x))];
        };
        let mut singular = 0;
        let y = x.mapv(|x| {
            singular += u64::from(function.is_singular(x.into()));
            function.eval_on_grid(x.into(), input.scale.into()) as f32
        });
        self.trouble.singular(self.graph, node, singular);
        vec![y]
    }
}

impl Machine for Validation<'_> {
    type Value = Tensor;

    fn enter(&mut self, id: ValueId, tensor: &Tensor) -> Result<Tensor> {
        self.settle(id, tensor.clone())
    }

    fn leave(&self, value: &Tensor) -> Tensor {
        value.clone()
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
        inputs: &[&Tensor],
        shapes: &[Option<&[usize]>],
    ) -> Result<Vec<Tensor>> {
        let mut requantized = Vec::with_capacity(inputs.len());
        for (operand, &input) in inputs.iter().enumerate() {
            let plan = self.plan.operands.get(&(id.0, operand));
            requantized.push(match plan.and_then(|plan| plan.effective) {
                Some(params) => Some(self.fake_quantize(&node.name, input.clone(), params)?.0),
                None => None,
            });
        }
        let inputs: Vec<&Tensor> = inputs
            .iter()
            .zip(&requantized)
            .map(|(&own, new)| new.as_ref().unwrap_or(own))
            .collect();
        let outputs = match &node.op {
            Op::Linear(_) => {
                let linear = self.prepared.linear(id, node)?;
                vec![linear.run_fake_quant(ops_f32::operand(node, &inputs, 0)?)?]
            }
            Op::Lut(function) => {
                let x = ops_f32::operand(node, &inputs, 0)?;
                self.function(id, node, *function, x)
            }
            _ => ops_f32::run(node, &inputs, shapes)?,
        };
        let ids = node.outputs.iter().copied();
        ids.zip(outputs)
            .map(|(id, tensor)| self.settle(id, tensor))
            .collect()
    }
}

pub(super) fn unplanned(node: &Node) -> Error {
    Error::FloatRun {
        node: node.name.clone(),
        reason: "the plan has no way for it".to_owned(),
    }
}

fn into_standard(tensor: Tensor) -> Tensor {
    match tensor.is_standard_layout() {
        true => tensor,
        false => tensor.as_standard_layout().into_owned(),
    }
}

//! VALIDATION: f32 with `q * s` after every quantized operation.

use dual16_nash::{quantize::fake_quantize_in_place, scale::Scale};

use crate::{
    Error, Result,
    error::KernelContext,
    exec::{Machine, Prepared, ops_f32},
    graph::{Graph, Node, NodeId, Op, ValueId},
    plan::{Plan, QParams},
    tensor::Tensor,
};

/// A VALIDATION run of a plan.
pub struct Validation<'a> {
    graph: &'a Graph,
    plan: &'a Plan,
    prepared: &'a Prepared,
}

impl<'a> Validation<'a> {
    /// A run of `plan`, whose weights are in `prepared`.
    pub fn new(graph: &'a Graph, plan: &'a Plan, prepared: &'a Prepared) -> Self {
        Validation {
            graph,
            plan,
            prepared,
        }
    }

    fn fake_quantize(&self, name: &str, tensor: Tensor, params: QParams) -> Result<Tensor> {
        let scale = Scale::new(params.scale).of(name)?;
        let mut tensor = into_standard(tensor);
        if let Some(values) = tensor.as_slice_mut() {
            fake_quantize_in_place(values, scale, params.dtype, self.prepared.rounding).of(name)?;
        }
        Ok(tensor)
    }

    /// The value as its own parameters leave it.
    fn settle(&self, id: ValueId, tensor: Tensor) -> Result<Tensor> {
        match self.plan.params(id) {
            Some(params) => self.fake_quantize(&self.graph.value(id).name, tensor, params),
            None => Ok(tensor),
        }
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
                Some(params) => Some(self.fake_quantize(&node.name, input.clone(), params)?),
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
                let linear = self
                    .prepared
                    .linears
                    .get(&id.0)
                    .ok_or_else(|| unplanned(node))?;
                vec![linear.run_fake_quant(ops_f32::operand(node, &inputs, 0)?)?]
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

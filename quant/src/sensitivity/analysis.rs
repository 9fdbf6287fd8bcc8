//! What is analyzed, and what of the graph follows from it once for all rows: which nodes lead to
//! the outputs, and until when a value is needed.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use dual16_nash::{quantize::fake_quantize_in_place, scale::Scale};

use super::{function::values as values_of, row::in_order, values::FloatValues};
use crate::{
    Error, Result,
    error::KernelContext,
    exec::{Converted, Integers, Machine, Prepared, Validation},
    float::FloatModel,
    graph::{Graph, Node, NodeId, Op, ValueId, ValueKind},
    plan::{Plan, QParams},
    qtensor::QTensor,
    tensor::{Datum, Tensor},
};

/// A model with a plan, whose fake quants are switched on one by one.
pub struct Analysis<'a> {
    pub(super) graph: &'a Graph,
    pub(super) float: &'a FloatModel,
    pub(super) plan: &'a Plan,
    pub(super) prepared: &'a Prepared,
    pub(super) integers: Integers,
    pub(super) outputs: Vec<ValueId>,
    pub(super) constants: BTreeMap<usize, Arc<Datum>>,
    /// Nodes in execution order.
    pub(super) order: Vec<NodeId>,
    /// By value, the position in `order` of the node that makes it.
    pub(super) makers: Vec<Option<usize>>,
    /// By value, the position in `order` of the last node that reads it.
    pub(super) last_uses: Vec<Option<usize>>,
    /// By value, whether any of `outputs` follows from it.
    pub(super) leads: Vec<bool>,
}

impl<'a> Analysis<'a> {
    /// An analysis of all outputs of the graph. `integers` says whether integers and booleans that
    /// follow from activations (the indices of a TopK) are computed from the disturbed values, or
    /// stay the float run's.
    pub fn new(
        graph: &'a Graph,
        float: &'a FloatModel,
        plan: &'a Plan,
        prepared: &'a Prepared,
        integers: Integers,
    ) -> Self {
        let constant = |(index, value): (usize, &crate::graph::Value)| match &value.kind {
            ValueKind::Constant(tensor) => {
                Some((index, Arc::new(Datum::F32(tensor.as_ref().clone()))))
            }
            _ => None,
        };
        let constants = graph.values.iter().enumerate().filter_map(constant);
        let order: Vec<NodeId> = in_order(graph).map(|(id, _)| id).collect();
        let mut makers = vec![None; graph.values.len()];
        let mut last_uses = vec![None; graph.values.len()];
        for (position, &id) in order.iter().enumerate() {
            let node = graph.node(id);
            node.inputs
                .iter()
                .for_each(|input| last_uses[input.0] = Some(position));
            node.outputs
                .iter()
                .for_each(|output| makers[output.0] = Some(position));
        }
        let mut analysis = Analysis {
            graph,
            float,
            plan,
            prepared,
            integers,
            outputs: graph.outputs.clone(),
            constants: constants.collect(),
            order,
            makers,
            last_uses,
            leads: Vec::new(),
        };
        analysis.leads = analysis.leading_to(&analysis.outputs);
        analysis
    }

    /// The same of some of the outputs only, in the order given.
    ///
    /// # Errors
    /// [`Error::UnknownName`] for a value that is no output of the graph.
    pub fn with_outputs(mut self, outputs: Vec<ValueId>) -> Result<Self> {
        if let Some(id) = outputs.iter().find(|id| !self.graph.outputs.contains(id)) {
            let value = self.graph.values.get(id.0);
            let names = self.graph.outputs.iter();
            return Err(Error::UnknownName {
                what: "output",
                name: value.map_or_else(String::new, |value| value.name.clone()),
                near: names.map(|id| self.graph.value(*id).name.clone()).collect(),
            });
        }
        self.leads = self.leading_to(&outputs);
        self.outputs = outputs;
        Ok(self)
    }

    /// The outputs that errors are measured at.
    pub fn outputs(&self) -> &[ValueId] {
        &self.outputs
    }

    /// By value, whether some outputs follow from it.
    pub(super) fn leading_to(&self, outputs: &[ValueId]) -> Vec<bool> {
        let mut leads = vec![false; self.graph.values.len()];
        outputs.iter().for_each(|output| leads[output.0] = true);
        for &id in self.order.iter().rev() {
            let node = self.graph.node(id);
            let follows = |output: &ValueId| leads[output.0] && !self.stays(node, *output);
            if node.outputs.iter().any(follows) {
                node.inputs.iter().for_each(|input| leads[input.0] = true);
            }
        }
        leads
    }

    /// Whether an output of a node is the float run's whatever the node is given.
    pub(super) fn stays(&self, node: &Node, output: ValueId) -> bool {
        let exact = !self.graph.value(output).kind.is_float();
        exact && (self.integers == Integers::Frozen || self.graph.answered_in_float(node))
    }

    /// A value as a fake quant leaves it.
    pub(super) fn fake_quantized(
        &self,
        name: &str,
        tensor: &Tensor,
        params: QParams,
    ) -> Result<Tensor> {
        let scale = Scale::new(params.scale).of(name)?;
        let mut tensor = tensor.as_standard_layout().into_owned();
        if let Some(values) = tensor.as_slice_mut() {
            fake_quantize_in_place(values, scale, params.dtype, self.prepared.rounding);
        }
        Ok(tensor)
    }

    /// What each element that a node makes is in CONVERTED beyond VALIDATION, given its float inputs, which
    /// are quantized for both.
    pub(super) fn beyond_validation(
        &self,
        id: NodeId,
        node: &Node,
        inputs: &[&Tensor],
        shapes: &[Option<&[usize]>],
    ) -> Result<Vec<f32>> {
        let (graph, plan, prepared) = (self.graph, self.plan, self.prepared);
        if let (Op::Lut(_), Some(params)) = (&node.op, plan.operand(graph, id, 0)) {
            let x = crate::exec::ops_f32::operand(node, inputs, 0)?;
            let (x, _) = QTensor::quantize(&node.name, x, params, prepared.rounding)?;
            return Ok(prepared.table(id, node)?.beyond_function(&x));
        }
        let converted = Converted::new(graph, plan, prepared);
        let validation = Validation::new(graph, plan, prepared);
        let converted = self.made_by(converted, id, node, inputs, shapes)?;
        let validation = self.made_by(validation, id, node, inputs, shapes)?;
        let pairs = converted.iter().zip(&validation);
        Ok(pairs
            .map(|(converted, validation)| converted - validation)
            .collect())
    }

    /// What one node makes in a run of this machine.
    fn made_by<M: Machine>(
        &self,
        mut machine: M,
        id: NodeId,
        node: &Node,
        inputs: &[&Tensor],
        shapes: &[Option<&[usize]>],
    ) -> Result<Tensor> {
        let entered = node.inputs.iter().zip(inputs);
        let entered = entered.map(|(&input, x)| machine.enter(input, x));
        let entered = entered.collect::<Result<Vec<_>>>()?;
        let entered: Vec<&M::Value> = entered.iter().collect();
        let made = machine.run(id, node, &entered, shapes)?;
        let first = made.first().map(|made| machine.leave(made));
        first.ok_or_else(|| {
            let output = node.outputs.first().copied().unwrap_or(ValueId(0));
            missing(self.graph, output, "its node did not make it")
        })
    }

    /// Parameters of an operand that the plan requantizes.
    pub(super) fn requantized(&self, id: NodeId, operand: usize) -> Option<QParams> {
        let plan = self.plan.operands.get(&(id.0, operand))?;
        plan.effective
    }

    /// What a value is when only the node that makes it is quantized: its weights, the operands that it
    /// takes in another dtype, and the value itself. An input of the model has no node.
    ///
    /// # Errors
    /// Whatever the operation says, naming the node.
    pub(crate) fn alone(
        &self,
        values: &FloatValues,
        node: Option<NodeId>,
        value: ValueId,
    ) -> Result<Tensor> {
        let mut made = None;
        if let Some(id) = node {
            let node = self.graph.node(id);
            let requantized = |operand: usize| self.requantized(id, operand);
            let any = (0..node.inputs.len()).any(|operand| requantized(operand).is_some());
            if matches!(node.op, Op::Linear(_)) {
                let &x = node
                    .inputs
                    .first()
                    .ok_or_else(|| missing(self.graph, value, "it has no input"))?;
                made = Some(
                    self.prepared
                        .linear(id, node)?
                        .run_fake_quant(values.tensor(self, x)?)?,
                );
            } else if any && !matches!(node.op, Op::Island(_)) {
                let inputs = node.inputs.iter().enumerate().map(|(operand, &input)| {
                    let x = values.tensor(self, input)?;
                    match requantized(operand) {
                        Some(params) => self.fake_quantized(&node.name, x, params).map(Cow::Owned),
                        None => Ok(Cow::Borrowed(x)),
                    }
                });
                let inputs = inputs.collect::<Result<Vec<_>>>()?;
                let inputs: Vec<&Tensor> = inputs.iter().map(AsRef::as_ref).collect();
                let outputs = self.node(id, node, &inputs, &values.shapes(node))?;
                made = outputs.into_iter().next();
            }
        }
        let made = match made {
            Some(made) => Cow::Owned(made),
            None => Cow::Borrowed(values.tensor(self, value)?),
        };
        match self.plan.params(value) {
            Some(params) => self.fake_quantized(&self.graph.value(value).name, &made, params),
            None => Ok(made.into_owned()),
        }
    }

    /// The plan whose fake quants are rows.
    pub(crate) fn plan(&self) -> &Plan {
        self.plan
    }

    /// The graph that is analyzed.
    pub(crate) fn graph(&self) -> &Graph {
        self.graph
    }

    /// One node that is no island, on float operands.
    pub(super) fn node(
        &self,
        id: NodeId,
        node: &Node,
        inputs: &[&Tensor],
        shapes: &[Option<&[usize]>],
    ) -> Result<Vec<Tensor>> {
        match (&node.op, inputs) {
            (Op::Lut(function), &[x]) => {
                let step = self.plan.operand(self.graph, id, 0);
                let step = step.map(|params| params.scale.into());
                let x = x.as_standard_layout();
                let y = values_of(*function, step, x.as_slice().unwrap_or_default());
                let y = Tensor::from_shape_vec(x.raw_dim(), y);
                y.map(|y| vec![y]).map_err(|error| Error::FloatRun {
                    node: node.name.clone(),
                    reason: error.to_string(),
                })
            }
            _ => crate::exec::ops_f32::run(node, inputs, shapes),
        }
    }
}

/// A value that a caller should have given.
pub(super) fn missing(graph: &Graph, id: ValueId, what: &str) -> Error {
    Error::FloatRun {
        node: graph.value(id).name.clone(),
        reason: what.to_owned(),
    }
}

//! The walk over a graph that all three kinds of run share: values are made in order, handed to a
//! visitor, and dropped after their last use. What a value is and how an operation runs is the
//! [`Machine`]'s affair.

use std::collections::{HashMap, HashSet};

use crate::{
    Error, Result,
    float::FloatModel,
    graph::{Graph, Island, Node, NodeId, Op, ValueId, ValueKind},
    place,
    tensor::{Datum, Tensor},
};

/// What a float run of one batch left, by ONNX name: reference tensors, shapes that moves take,
/// and the non-float operands of islands.
pub type Capture = HashMap<String, Datum>;

/// A value that a walk has: of its machine, or integers and booleans as they are.
#[derive(Debug, Clone)]
pub enum Carried<V> {
    /// A float tensor, in whatever form the machine has it.
    Value(V),
    /// Integers or booleans.
    Exact(Datum),
}

/// One way to compute: float, fake-quantized or integer.
pub trait Machine {
    /// What flows between operations.
    type Value;

    /// A float tensor enters: a model input, a constant or an island's output.
    fn enter(&mut self, id: ValueId, tensor: &Tensor) -> Result<Self::Value>;

    /// The float tensor that a value stands for.
    fn leave(&self, value: &Self::Value) -> Tensor;

    /// Runs one node that is no island. `shapes` are those of its outputs in the float run, where
    /// they are known. Returns one value for each output.
    fn run(
        &mut self,
        id: NodeId,
        node: &Node,
        inputs: &[&Self::Value],
        shapes: &[Option<&[usize]>],
    ) -> Result<Vec<Self::Value>>;

    /// Told of an island's float operands, by ONNX name, and of what it made of them.
    fn island_ran(&mut self, _node: &Node, _operands: &HashMap<String, Datum>, _results: &[Datum]) {
    }

    /// A node did not run. `Ok` goes on without its outputs and everything that is made of them.
    fn failed(&mut self, _node: &Node, error: Error) -> Result<()> {
        Err(error)
    }
}

/// How a walk treats integers and booleans that follow from activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Integers {
    /// They are computed from the values of this run.
    Computed,
    /// They are the float run's.
    Frozen,
}

/// Runs a batch through a machine. `visit` sees every input and every output of a node once.
///
/// An island whose results have another shape than in the float run, as a NonZero of other values
/// may, has the float run's: what follows could not be compared otherwise.
///
/// # Errors
/// Whatever the machine, an island or `visit` says.
pub fn walk<M: Machine>(
    graph: &Graph,
    float: &FloatModel,
    capture: &Capture,
    integers: Integers,
    machine: &mut M,
    mut visit: impl FnMut(ValueId, &Carried<M::Value>) -> Result<()>,
) -> Result<()> {
    let last_uses = last_uses(graph);
    let mut live: HashMap<ValueId, Carried<M::Value>> = HashMap::new();
    for &input in &graph.inputs {
        let tensor = captured(graph, capture, input)?;
        let value = Carried::Value(machine.enter(input, tensor)?);
        visit(input, &value)?;
        live.insert(input, value);
    }
    for ((id, node), ended) in graph.running().zip(&last_uses) {
        let walk = Walk {
            graph,
            float,
            capture,
            integers,
        };
        place::at(&node.name);
        let outputs = match walk.node(machine, id, &mut live) {
            Ok(outputs) => outputs,
            Err(error) => {
                machine.failed(node, error)?;
                Vec::new()
            }
        };
        for (&id, value) in node.outputs.iter().zip(outputs) {
            visit(id, &value)?;
            live.insert(id, value);
        }
        for id in ended {
            live.remove(id);
        }
    }
    Ok(())
}

/// Elements that a walk holds at once, at most, in the shapes of the probe batch.
pub(crate) fn peak_elements(graph: &Graph) -> u64 {
    let elements = |id: ValueId| graph.value(id).shape.iter().product::<usize>() as u64;
    let last_uses = last_uses(graph);
    let mut live: HashSet<ValueId> = graph.inputs.iter().copied().collect();
    let mut held: u64 = live.iter().map(|&id| elements(id)).sum();
    let mut peak = 0;
    for ((_, node), ended) in graph.running().zip(&last_uses) {
        for &id in node.inputs.iter().chain(&node.outputs) {
            if live.insert(id) {
                held += elements(id);
            }
        }
        peak = peak.max(held);
        for id in ended.iter().filter(|id| live.remove(id)) {
            held -= elements(*id);
        }
    }
    peak
}

/// What a walk works on.
#[derive(Clone, Copy)]
struct Walk<'a> {
    graph: &'a Graph,
    float: &'a FloatModel,
    capture: &'a Capture,
    integers: Integers,
}

impl<'a> Walk<'a> {
    /// The outputs of one node. Constants that it needs enter first.
    fn node<M: Machine>(
        self,
        machine: &mut M,
        id: NodeId,
        live: &mut HashMap<ValueId, Carried<M::Value>>,
    ) -> Result<Vec<Carried<M::Value>>> {
        let Walk { graph, capture, .. } = self;
        let node = graph.node(id);
        for &input in &node.inputs {
            if let ValueKind::Constant(tensor) = &graph.value(input).kind
                && !live.contains_key(&input)
            {
                let value = machine.enter(input, tensor)?;
                live.insert(input, Carried::Value(value));
            }
        }
        let inputs = node
            .inputs
            .iter()
            .map(|id| live.get(id).ok_or_else(|| not_made(graph, node, *id)))
            .collect::<Result<Vec<_>>>()?;
        if let Op::Island(island) = &node.op {
            return self.island(machine, node, island, &inputs);
        }
        let shapes: Vec<_> = node
            .outputs
            .iter()
            .map(|id| shape(graph, capture, *id))
            .collect();
        let inputs = inputs
            .iter()
            .zip(&node.inputs)
            .map(|(input, &id)| match input {
                Carried::Value(value) => Ok(value),
                Carried::Exact(_) => Err(not_made(graph, node, id)),
            })
            .collect::<Result<Vec<_>>>()?;
        let outputs = machine.run(id, node, &inputs, &shapes)?;
        Ok(outputs.into_iter().map(Carried::Value).collect())
    }

    /// Dequantize, run in float, quantize.
    fn island<M: Machine>(
        self,
        machine: &mut M,
        node: &Node,
        island: &Island,
        inputs: &[&Carried<M::Value>],
    ) -> Result<Vec<Carried<M::Value>>> {
        let is_exact = |id: &ValueId| !self.graph.value(*id).kind.is_float();
        let frozen = self.integers == Integers::Frozen || self.graph.answered_in_float(node);
        let results = match frozen && node.outputs.iter().all(is_exact) {
            true => None,
            false => Some(self.run(machine, node, island, inputs)?),
        };
        let outputs = node.outputs.iter().zip(&island.made);
        outputs
            .map(|(&id, &place)| {
                let made = results.as_ref().and_then(|results| results.get(place));
                let datum = match (made, self.reference(id)) {
                    (Some(made), Some(reference))
                        if frozen && is_exact(&id) || made.shape() != reference.shape() =>
                    {
                        reference
                    }
                    (Some(made), _) => made,
                    (None, Some(reference)) => reference,
                    (None, None) => return Err(not_made(self.graph, node, id)),
                };
                match datum {
                    Datum::F32(tensor) if !is_exact(&id) => {
                        machine.enter(id, tensor).map(Carried::Value)
                    }
                    exact => Ok(Carried::Exact(exact.clone())),
                }
            })
            .collect()
    }

    /// What the ONNX node makes of these operands.
    fn run<M: Machine>(
        self,
        machine: &mut M,
        node: &Node,
        island: &Island,
        inputs: &[&Carried<M::Value>],
    ) -> Result<Vec<Datum>> {
        let mut operands: HashMap<String, Datum> = island
            .from_float_run
            .iter()
            .filter_map(|name| Some((name.clone(), self.capture.get(name)?.clone())))
            .collect();
        for (id, value) in node.inputs.iter().zip(inputs) {
            if let Some(name) = &self.graph.value(*id).onnx {
                let datum = match value {
                    Carried::Value(value) => Datum::F32(machine.leave(value)),
                    Carried::Exact(datum) => datum.clone(),
                };
                operands.insert(name.clone(), datum);
            }
        }
        let results = self.float.run_node(island.onnx_node, &operands)?;
        machine.island_ran(node, &operands, &results);
        Ok(results)
    }

    /// The value in the float run, where that was kept.
    fn reference(&self, id: ValueId) -> Option<&'a Datum> {
        self.capture.get(self.graph.value(id).onnx.as_ref()?)
    }
}

/// By position in the order, the values that nothing needs once that node has run.
fn last_uses(graph: &Graph) -> Vec<Vec<ValueId>> {
    let mut last: Vec<Option<usize>> = vec![None; graph.values.len()];
    for (position, (_, node)) in graph.running().enumerate() {
        for id in node.inputs.iter().chain(&node.outputs) {
            last[id.0] = Some(position);
        }
    }
    let mut ended = vec![Vec::new(); graph.running().count()];
    for (id, position) in last.into_iter().enumerate() {
        if let Some(ended) = position.and_then(|position| ended.get_mut(position)) {
            ended.push(ValueId(id));
        }
    }
    ended
}

fn shape<'c>(graph: &Graph, capture: &'c Capture, id: ValueId) -> Option<&'c [usize]> {
    let name = graph.value(id).onnx.as_ref()?;
    capture.get(name).map(Datum::shape)
}

/// The float tensor of a value in the float run.
pub(crate) fn captured<'c>(graph: &Graph, capture: &'c Capture, id: ValueId) -> Result<&'c Tensor> {
    let value = graph.value(id);
    let datum = value.onnx.as_ref().and_then(|name| capture.get(name));
    datum
        .and_then(Datum::as_f32)
        .ok_or_else(|| Error::FloatRun {
            node: value.name.clone(),
            reason: "the float run did not give this value".to_owned(),
        })
}

fn not_made(graph: &Graph, node: &Node, id: ValueId) -> Error {
    Error::FloatRun {
        node: node.name.clone(),
        reason: format!(
            "value '{}' was not made before it is used",
            graph.value(id).name
        ),
    }
}

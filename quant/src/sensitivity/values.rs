//! Every value of a float run of one batch.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use super::analysis::{Analysis, missing};
use crate::{
    Result,
    exec::Capture,
    graph::{Island, Node, NodeId, Op, ValueId},
    tensor::{Datum, Tensor},
};

/// What every row of one batch is compared with, shared by all rows.
///
/// The values are computed here, from the model's inputs on, by the same operations in f32 that the
/// rows are computed by: a difference is then due to the fake quant alone, and a value that does not
/// depend on it is the same bit for bit. From the capture come the inputs, shapes, and what islands
/// read beside the values of the graph.
pub struct FloatValues {
    values: Vec<Option<Arc<Datum>>>,
    /// Other operands of islands, by ONNX name.
    beside: HashMap<String, Datum>,
}

impl FloatValues {
    /// Computes the values of a batch. `capture` must hold the graph's inputs, the outputs of
    /// reshapes, expands and of islands that make integers, and what islands take from the float run;
    /// what else it holds is dropped.
    ///
    /// # Errors
    /// [`crate::Error::FloatRun`] where the capture lacks something, or an operation cannot run.
    pub fn new(analysis: &Analysis<'_>, mut capture: Capture) -> Result<Self> {
        let graph = analysis.graph;
        let mut values: Vec<Option<Arc<Datum>>> = vec![None; graph.values.len()];
        for (&index, constant) in &analysis.constants {
            values[index] = Some(Arc::clone(constant));
        }
        for &input in &graph.inputs {
            let name = graph.value(input).onnx.as_deref();
            let datum = name.and_then(|name| capture.get(name)).cloned();
            let datum =
                datum.ok_or_else(|| missing(graph, input, "the float run did not give it"))?;
            values[input.0] = Some(Arc::new(datum));
        }
        let beside: BTreeSet<&str> = graph
            .running()
            .filter_map(|(_, node)| match &node.op {
                Op::Island(island) => Some(&island.from_float_run),
                _ => None,
            })
            .flatten()
            .map(String::as_str)
            .collect();
        let mut made = FloatValues {
            values,
            beside: HashMap::new(),
        };
        let held = capture.extract_if(|name, _| beside.contains(name.as_str()));
        made.beside = held.collect();
        for &id in &analysis.order {
            let node = graph.node(id);
            let outputs = match &node.op {
                Op::Island(island) => made.first_island(analysis, node, island, &capture)?,
                _ => made.first(analysis, id, node, &capture)?,
            };
            for (&output, datum) in node.outputs.iter().zip(outputs) {
                made.values[output.0] = Some(Arc::new(datum));
            }
        }
        Ok(made)
    }

    /// Bytes of all values, constants not counted.
    pub fn byte_len(&self, analysis: &Analysis<'_>) -> usize {
        let own = self.values.iter().enumerate();
        let own = own.filter(|(index, _)| !analysis.constants.contains_key(index));
        let own: usize = own
            .filter_map(|(_, value)| value.as_ref())
            .map(|value| value.byte_len())
            .sum();
        own + self.beside.values().map(Datum::byte_len).sum::<usize>()
    }

    /// A value of the float run.
    pub(super) fn get(&self, analysis: &Analysis<'_>, id: ValueId) -> Result<&Datum> {
        let value = self.values.get(id.0).and_then(Option::as_deref);
        value.ok_or_else(|| missing(analysis.graph, id, "it was not made before it is used"))
    }

    /// A float tensor of the float run.
    pub(super) fn tensor(&self, analysis: &Analysis<'_>, id: ValueId) -> Result<&Tensor> {
        let tensor = self.get(analysis, id)?.as_f32();
        tensor.ok_or_else(|| missing(analysis.graph, id, "it is no float tensor"))
    }

    /// A value of the float run, where the graph has made it.
    pub(crate) fn datum(&self, id: ValueId) -> Option<&Datum> {
        self.values.get(id.0)?.as_deref()
    }

    /// What an island is given beside the values of the graph, by ONNX name.
    pub(super) fn beside(&self, name: &str) -> Option<&Datum> {
        self.beside.get(name)
    }

    /// An operand of a node by its ONNX name.
    pub(super) fn operand(
        &self,
        analysis: &Analysis<'_>,
        node: &Node,
        name: &str,
    ) -> Option<&Datum> {
        let is_named = |id: &&ValueId| analysis.graph.value(**id).onnx.as_deref() == Some(name);
        let id = node.inputs.iter().find(is_named)?;
        self.values.get(id.0)?.as_deref()
    }

    /// Shapes of a node's outputs.
    pub(super) fn shapes(&self, node: &Node) -> Vec<Option<&[usize]>> {
        let shape = |id: &ValueId| Some(self.values.get(id.0)?.as_deref()?.shape());
        node.outputs.iter().map(shape).collect()
    }

    /// What an island makes where `changed` gives some of its operands instead of the float run.
    pub(super) fn island<'d>(
        &'d self,
        analysis: &Analysis<'_>,
        node: &Node,
        island: &Island,
        changed: impl Fn(ValueId) -> Option<&'d Datum>,
    ) -> Result<Vec<Datum>> {
        let by_name: HashMap<&str, ValueId> = node
            .inputs
            .iter()
            .filter_map(|&id| Some((analysis.graph.value(id).onnx.as_deref()?, id)))
            .collect();
        analysis.float.run_node_on(island.onnx_node, |name| {
            let Some(&id) = by_name.get(name) else {
                return self.beside.get(name);
            };
            changed(id).or_else(|| self.values.get(id.0)?.as_deref())
        })
    }

    fn first(
        &self,
        analysis: &Analysis<'_>,
        id: NodeId,
        node: &Node,
        capture: &Capture,
    ) -> Result<Vec<Datum>> {
        let inputs = node
            .inputs
            .iter()
            .map(|&input| self.tensor(analysis, input))
            .collect::<Result<Vec<_>>>()?;
        let shape = |id: &ValueId| {
            let name = analysis.graph.value(*id).onnx.as_ref()?;
            capture.get(name).map(Datum::shape)
        };
        let shapes: Vec<_> = node.outputs.iter().map(shape).collect();
        let outputs = analysis.node(id, node, &inputs, &shapes)?;
        Ok(outputs.into_iter().map(Datum::F32).collect())
    }

    fn first_island(
        &self,
        analysis: &Analysis<'_>,
        node: &Node,
        island: &Island,
        capture: &Capture,
    ) -> Result<Vec<Datum>> {
        let graph = analysis.graph;
        let reference = |id: ValueId| {
            let name = graph.value(id).onnx.as_ref()?;
            capture.get(name).or_else(|| self.beside.get(name)).cloned()
        };
        let exact: Option<Vec<Datum>> = node
            .outputs
            .iter()
            .map(|&id| reference(id).filter(|_| !graph.value(id).kind.is_float()))
            .collect();
        if let Some(exact) = exact {
            return Ok(exact);
        }
        let mut made: Vec<Option<Datum>> = self
            .island(analysis, node, island, |_| None)?
            .into_iter()
            .map(Some)
            .collect();
        let outputs = node.outputs.iter().zip(&island.made);
        outputs
            .map(|(&id, &place)| {
                let made = made.get_mut(place).and_then(Option::take);
                made.ok_or_else(|| missing(graph, id, "its island did not make it"))
            })
            .collect()
    }
}

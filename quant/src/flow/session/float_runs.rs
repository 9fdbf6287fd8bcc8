//! Runs of the float model, and which of its values they keep for whom.

use std::collections::BTreeSet;

use super::Session;
use crate::{
    Result,
    batch::Batch,
    exec::Capture,
    flow::checkpoints::BatchId,
    graph::{Move, Node, Op, ValueId},
};

impl Session {
    /// A float run of one batch that keeps the named values beside the batch's own.
    pub(in crate::flow) fn float_run(&self, batch: &Batch, values: &[&str]) -> Result<Capture> {
        let mut capture = self.float.run(batch, values)?;
        for (name, datum) in batch {
            capture.entry(name.clone()).or_insert_with(|| datum.clone());
        }
        Ok(capture)
    }

    /// [`Self::float_run`] of some values that begins where an earlier one of the same batch got to, and
    /// leaves behind how far it got.
    pub(in crate::flow) fn float_run_on(
        &self,
        id: &BatchId,
        batch: &Batch,
        values: &[&str],
    ) -> Result<Capture> {
        let float = &*self.float;
        let given = self.checkpoints.furthest(id, |nodes, holds| {
            let mut values = values.iter();
            values.all(|name| holds(name) || float.is_made_after(nodes, name))
        });
        let reached = float.nodes_to(values);
        let mut handed_on = float.live_after(reached);
        // Sequences are no tensors, and cannot be kept.
        if handed_on.iter().any(|name| !self.tensors.contains(*name)) {
            handed_on.clear();
        }
        let wanted: Vec<&str> = values
            .iter()
            .copied()
            .chain(handed_on.iter().copied())
            .collect();
        let capture = match given {
            Some(mut given) => {
                given.extend(
                    batch
                        .iter()
                        .map(|(name, datum)| (name.clone(), datum.clone())),
                );
                self.float_run(&given, &wanted)?
            }
            None => self.float_run(batch, &wanted)?,
        };
        let kept = handed_on
            .iter()
            .filter_map(|name| Some((*name, capture.get(*name)?)));
        self.checkpoints.keep(id, reached, kept);
        Ok(capture)
    }

    /// ONNX names of everything a walk in CALIBRATION takes from the float run.
    pub(in crate::flow) fn all_values(&self) -> Vec<&str> {
        let float = self.graph.running().flat_map(|(_, node)| &node.outputs);
        let float = float.chain(&self.graph.inputs);
        let float = float.filter_map(|id| self.graph.value(*id).onnx.as_deref());
        unique(float.chain(self.island_operands()))
    }

    /// ONNX names of what VALIDATION and CONVERTED compare with and need: outputs of Linears and of
    /// the model, shapes of moves, non-float operands of islands.
    pub(in crate::flow) fn reference_values(&self) -> Vec<&str> {
        let nodes = self
            .graph
            .running()
            .map(|(_, node)| node)
            .filter(|node| self.needs_reference(node));
        let ids = nodes
            .flat_map(|node| &node.outputs)
            .chain(&self.graph.inputs)
            .chain(&self.graph.outputs);
        let names = ids.filter_map(|id| self.graph.value(*id).onnx.as_deref());
        let given = match self.job.settings.save_outputs {
            true => self.given_outputs(),
            false => Vec::new(),
        };
        let given = given
            .into_iter()
            .filter(|name| self.tensors.contains(*name));
        unique(names.chain(self.island_operands()).chain(given))
    }

    /// ONNX names of the model's outputs that follow from no activation, constants among them. A quantized run
    /// has the float run's.
    pub(in crate::flow) fn given_outputs(&self) -> Vec<&str> {
        let carried = self.graph.outputs.iter().chain(&self.graph.exact_outputs);
        let carried: BTreeSet<&str> = carried
            .filter_map(|id| self.graph.value(*id).onnx.as_deref())
            .collect();
        let outputs = self.model.outputs().iter();
        outputs
            .filter(|name| !carried.contains(name.as_str()))
            .map(String::as_str)
            .collect()
    }

    /// Whether a walk needs a node's outputs in the float run: their errors, their shapes, or, of an
    /// island around integers, what stands in for them where the shapes differ.
    fn needs_reference(&self, node: &Node) -> bool {
        let exact = |id: &ValueId| !self.graph.value(*id).kind.is_float();
        match &node.op {
            Op::Move(Move::Reshape | Move::Expand) | Op::Linear(_) => true,
            Op::Island(_) => node.inputs.iter().chain(&node.outputs).any(exact),
            _ => false,
        }
    }

    /// ONNX names of some values.
    pub(in crate::flow) fn names_of(&self, values: &[ValueId]) -> Vec<&str> {
        unique(
            values
                .iter()
                .filter_map(|id| self.graph.value(*id).onnx.as_deref()),
        )
    }

    /// Operands of islands that are no value of the graph: shapes, indices, masks.
    fn island_operands(&self) -> impl Iterator<Item = &str> {
        let islands = self.graph.running().filter_map(|(_, node)| match &node.op {
            Op::Island(island) => Some(&island.from_float_run),
            _ => None,
        });
        islands.flatten().map(String::as_str)
    }
}

fn unique<'n>(names: impl Iterator<Item = &'n str>) -> Vec<&'n str> {
    names.collect::<BTreeSet<_>>().into_iter().collect()
}

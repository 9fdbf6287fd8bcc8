//! CALIBRATION: floats all the way. Values that the ONNX graph has come from the float run; the
//! inner values of a decomposition are computed here, so that they can be observed.

use crate::{
    Result,
    exec::{Capture, Machine, ops_f32, walk::captured},
    graph::{Graph, Node, NodeId, ValueId},
    tensor::Tensor,
};

/// A float run that takes what it can from rten's.
pub struct Calibration<'a> {
    graph: &'a Graph,
    capture: &'a Capture,
}

impl<'a> Calibration<'a> {
    /// A run beside the float run that `capture` is of.
    pub fn new(graph: &'a Graph, capture: &'a Capture) -> Self {
        Calibration { graph, capture }
    }
}

impl Machine for Calibration<'_> {
    type Value = Tensor;

    fn enter(&mut self, _: ValueId, tensor: &Tensor) -> Result<Tensor> {
        Ok(tensor.clone())
    }

    fn leave(&self, value: &Tensor) -> Tensor {
        value.clone()
    }

    fn run(
        &mut self,
        _: NodeId,
        node: &Node,
        inputs: &[&Tensor],
        shapes: &[Option<&[usize]>],
    ) -> Result<Vec<Tensor>> {
        let known: Result<Vec<Tensor>> = node
            .outputs
            .iter()
            .map(|&id| captured(self.graph, self.capture, id).cloned())
            .collect();
        known.or_else(|_| ops_f32::run(node, inputs, shapes))
    }
}

//! The work of one operator of a plan.

use dual16_nash::{
    cost::{Elements, Macs, Work},
    dtype::IntDtype,
};

use super::{Site, brings_in, elements, linear_site, linear_work};
use crate::graph::{Graph, Move, Node, NodeId, Op, ValueId};

impl Site<'_> {
    /// What a node makes the chip do.
    pub(super) fn work(&self, index: usize) -> Work {
        let node = &self.graph.nodes[index];
        if let Op::Linear(linear) = &node.op {
            let Some(plan) = self.plan.linears.get(&index) else {
                return Work::default();
            };
            let output = self.dtype(node.outputs[0]);
            let input = self.dtype(node.inputs[0]);
            let site = linear_site(
                self.graph,
                (NodeId(index), node, linear),
                input,
                output,
                self.chip,
            );
            let fit = plan.params.fit.as_ref().map(|fit| fit.fit);
            return linear_work(site, plan.way, fit);
        }
        self.own(index, node)
            .plus(self.requantized(index, node))
            .plus(self.memory(NodeId(index), node))
    }

    /// Without operands that are requantized, and without memory.
    fn own(&self, index: usize, node: &Node) -> Work {
        let launched = Work {
            launches: 1,
            ..Work::default()
        };
        match &node.op {
            Op::Linear(_) => Work::default(),
            Op::MatMul | Op::Dot { .. } => Work {
                macs: self.product(index, node),
                ..launched
            },
            Op::Add | Op::Sub | Op::Mul | Op::Relu | Op::Clip { .. } => Work {
                vector: Elements::of(self.widest(node), made(self.graph, node)),
                ..launched
            },
            Op::Reduce { .. } => Work {
                vector: Elements::of(self.widest(node), read(self.graph, node)),
                ..launched
            },
            Op::ToInt8 { .. } => {
                let from = self.inputs_widest(node);
                Work::requantize(from, IntDtype::Int8, made(self.graph, node)).plus(launched)
            }
            // Two sums, a difference, a square and a product.
            Op::LayerNormFp16 { .. } => Work {
                fp16_elements: read(self.graph, node).saturating_mul(5),
                dequantized_bytes: self.sum(node.inputs.iter()),
                quantized_bytes: self.sum(node.outputs.iter()),
                ..launched
            },
            Op::Lut(_) => Work {
                lut: Elements::of(self.widest(node), made(self.graph, node)),
                ..launched
            },
            // The same bytes under another shape.
            Op::Move(Move::Reshape | Move::Unsqueeze { .. }) => Work::default(),
            Op::Concat { .. } | Op::Move(_) => Work {
                moved_bytes: self.sum(node.outputs.iter()).saturating_mul(2),
                ..launched
            },
            Op::Island(_) => {
                let integers =
                    |ids: &[ValueId]| self.sum(ids.iter().filter(|id| self.dtype(**id).is_some()));
                Work {
                    float_islands: 1,
                    dequantized_bytes: integers(&node.inputs),
                    quantized_bytes: integers(&node.outputs),
                    ..launched
                }
            }
        }
    }

    /// a · b; a is the feature, b stands where a weight would.
    fn product(&self, index: usize, node: &Node) -> Macs {
        let taken = |operand| {
            let params = self.plan.operand(self.graph, NodeId(index), operand);
            params.map_or(IntDtype::Int16, |params| params.dtype)
        };
        Macs::of(taken(0), taken(1), self.graph.macs(node))
    }

    /// Operands that the plan takes in another dtype, and int8 operands that meet an int16 one.
    fn requantized(&self, index: usize, node: &Node) -> Work {
        let meets = matches!(node.op, Op::Add | Op::Sub | Op::Mul | Op::Concat { .. });
        let operands = node.inputs.iter().enumerate();
        let of = |(operand, &id): (usize, &ValueId)| {
            let from = self.dtype(id)?;
            let planned = self.plan.operands.get(&(index, operand));
            let to = match planned.and_then(|plan| plan.effective) {
                Some(params) => params.dtype,
                None if meets => self.inputs_widest(node),
                None => from,
            };
            (from != to).then(|| Work::requantize(from, to, elements(self.graph, id)))
        };
        operands.filter_map(of).sum()
    }

    /// What comes from and goes to memory outside the chip.
    fn memory(&self, id: NodeId, node: &Node) -> Work {
        // A new shape touches nothing, wherever the tensor lies.
        let is_shape = matches!(node.op, Op::Move(Move::Reshape | Move::Unsqueeze { .. }));
        let large = |id| !is_shape && self.is_large(id);
        let loads = |input: &&ValueId| brings_in(self.graph, id, **input) || large(**input);
        let stores = |output: &&ValueId| self.graph.is_output(**output) || large(**output);
        Work {
            loaded_bytes: self.sum(node.inputs.iter().filter(loads)),
            stored_bytes: self.sum(node.outputs.iter().filter(stores)),
            ..Work::default()
        }
    }

    fn sum<'v>(&self, ids: impl Iterator<Item = &'v ValueId>) -> u64 {
        ids.fold(0, |sum, id| sum.saturating_add(self.bytes(*id)))
    }

    /// The widest of what a node reads and makes; floats are as wide as int16 here, for no unit of the
    /// chip takes them wider.
    fn widest(&self, node: &Node) -> IntDtype {
        let made = node
            .outputs
            .iter()
            .map(|id| self.dtype(*id).unwrap_or(IntDtype::Int16));
        made.fold(self.inputs_widest(node), IntDtype::max)
    }

    fn inputs_widest(&self, node: &Node) -> IntDtype {
        let dtypes = node.inputs.iter().filter_map(|id| self.dtype(*id));
        dtypes.fold(IntDtype::Int8, IntDtype::max)
    }
}

fn made(graph: &Graph, node: &Node) -> u64 {
    node.outputs
        .iter()
        .map(|id| elements(graph, *id))
        .fold(0, u64::saturating_add)
}

fn read(graph: &Graph, node: &Node) -> u64 {
    node.inputs.first().map_or(0, |id| elements(graph, *id))
}

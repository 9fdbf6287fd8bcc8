//! Masks: numbers that stand for "not this one" in front of a Softmax, such as -inf, the least f32,
//! -1e9 or -1e4. Found here is which values may hold some and on which side of 0: backwards from
//! each Softmax through whatever passes such an element on. Whether one does is seen in the data.

use std::collections::{BTreeMap, BTreeSet};

use dual16_nash::lut::LutFunction;

use super::{Graph, Island, Node, NodeId, Op, ReduceKind, ValueId, ValueKind};

/// Magnitude from which an element is masked. Beside it no score counts: scores are of the order of
/// 10, e^-1000 is 0 in any format, and -1e4, the smallest mask in use, is below with any score added.
const MASKED: f32 = 1000.0;

/// Whether a number masks, on one side of 0 or the other.
pub(super) fn is_masking(x: f32) -> bool {
    x.abs() >= MASKED
}

/// Where masked elements lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Far below 0.
    Below,
    /// Far above 0: the value is subtracted before the Softmax.
    Above,
}

impl Side {
    /// Whether an element is masked.
    pub fn is_masked(self, element: f32) -> bool {
        self.sign() * element < 0.0 && is_masking(element)
    }

    /// What brings masked elements below 0.
    pub fn sign(self) -> f32 {
        match self {
            Side::Below => 1.0,
            Side::Above => -1.0,
        }
    }

    fn other(self) -> Self {
        match self {
            Side::Below => Side::Above,
            Side::Above => Side::Below,
        }
    }
}

/// How a node passes a masked element of an operand on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Passage {
    /// As it is.
    Same,
    /// With `sign` times another operand added.
    Plus {
        /// The other operand.
        other: ValueId,
        /// 1 or -1.
        sign: f32,
    },
    /// Times another operand.
    Times(ValueId),
    /// Divided by another operand.
    Over(ValueId),
    /// Divided by what only the float run has: the root of a length, for one.
    OverUnknown,
}

/// An operand that may bring masked elements into a node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Brought {
    pub(crate) operand: ValueId,
    /// Where they lie in it.
    pub(crate) side: Side,
    pub(crate) passage: Passage,
}

/// The end of a mask: `exp(x - max(x))`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sink {
    /// x - max(x).
    pub(crate) shifted: ValueId,
    /// Its exponential.
    pub(crate) exp: ValueId,
}

/// Every value that may hold masked elements.
#[derive(Debug, Clone, Default)]
pub(crate) struct Masks {
    sides: BTreeMap<ValueId, Side>,
    sinks: Vec<Sink>,
    /// Values inside a Softmax, which the model does not have.
    inside: BTreeSet<ValueId>,
}

impl Masks {
    /// Those of a graph.
    pub(super) fn of(graph: &Graph) -> Self {
        let makers = makers(graph);
        let sinks = sinks(graph, &makers);
        let mut sides: BTreeMap<ValueId, Side> = sinks
            .iter()
            .map(|sink| (sink.shifted, Side::Below))
            .collect();
        // Every consumer of a value comes after its maker, so one pass backwards finds all.
        for (_, node) in graph.running().rev() {
            for output in &node.outputs {
                let Some(&side) = sides.get(output) else {
                    continue;
                };
                let brought = graph.brought(node, side);
                if brought.is_empty() && !graph.may_hold_mask(node) {
                    sides.remove(output);
                }
                for brought in brought {
                    sides.entry(brought.operand).or_insert(brought.side);
                }
            }
        }
        let ends = sinks.iter().flat_map(|sink| [sink.shifted, sink.exp]);
        let unnamed = |id: &ValueId| graph.value(*id).onnx.is_none();
        let mut inside: BTreeSet<ValueId> = ends.filter(unnamed).collect();
        for (_, node) in graph.running() {
            if node.inputs.iter().any(|id| inside.contains(id)) {
                inside.extend(node.outputs.iter().copied().filter(unnamed));
            }
        }
        Masks {
            sides,
            sinks,
            inside,
        }
    }
}

impl Graph {
    /// Where masked elements of a value lie, if it may hold any.
    pub fn mask_side(&self, id: ValueId) -> Option<Side> {
        self.masks.sides.get(&id).copied()
    }

    /// Whether a value lies inside a Softmax, whose output tells of what is NaN in it.
    pub(crate) fn is_inside_softmax(&self, id: ValueId) -> bool {
        self.masks.inside.contains(&id)
    }

    /// Every value that may hold masked elements.
    pub(crate) fn maskable(&self) -> impl Iterator<Item = (ValueId, Side)> {
        self.masks.sides.iter().map(|(&id, &side)| (id, side))
    }

    /// Where masks end.
    pub(crate) fn mask_sinks(&self) -> &[Sink] {
        &self.masks.sinks
    }

    /// The operands that masked elements of a node's output may come from.
    pub(crate) fn brought(&self, node: &Node, side: Side) -> Vec<Brought> {
        let brought = |operand: ValueId, side: Side, passage: Passage| Brought {
            operand,
            side,
            passage,
        };
        match (&node.op, node.inputs.as_slice()) {
            (Op::Move(_), &[x]) => vec![brought(x, side, Passage::Same)],
            (Op::Concat { .. }, parts) => {
                let same = |&x| brought(x, side, Passage::Same);
                parts.iter().map(same).collect()
            }
            (Op::Add, &[a, b]) => {
                let plus = |other| Passage::Plus { other, sign: 1.0 };
                vec![brought(a, side, plus(b)), brought(b, side, plus(a))]
            }
            (Op::Sub, &[a, b]) => {
                let plus = |other, sign| Passage::Plus { other, sign };
                let first = brought(a, side, plus(b, -1.0));
                match self.origin(a) == self.origin(b) {
                    // x - max(x): what is masked in the maximum is so in x.
                    true => vec![first],
                    false => vec![first, brought(b, side.other(), plus(a, 1.0))],
                }
            }
            (Op::Mul, &[a, b]) => [(a, b), (b, a)]
                .into_iter()
                .filter(|(x, _)| !self.is_masking_factor(*x))
                .filter_map(|(x, factor)| {
                    let side = self.times(factor, side)?;
                    Some(brought(x, side, Passage::Times(factor)))
                })
                .collect(),
            (Op::Island(island), inputs) => self.through_island(island, inputs, side),
            _ => Vec::new(),
        }
    }

    /// Where masked elements lie before a product with `factor`; None where the factor makes them, or
    /// anything else, of what it meets.
    fn times(&self, factor: ValueId, side: Side) -> Option<Side> {
        let ValueKind::Constant(tensor) = &self.value(factor).kind else {
            return Some(side);
        };
        if tensor.iter().copied().any(is_masking) {
            None
        } else if tensor.iter().all(|&x| x > 0.0) {
            Some(side)
        } else if tensor.iter().all(|&x| x < 0.0) {
            Some(side.other())
        } else {
            None
        }
    }

    /// Whether a constant makes a mask of whatever is not 0.
    fn is_masking_factor(&self, id: ValueId) -> bool {
        match &self.value(id).kind {
            ValueKind::Constant(tensor) => tensor.iter().copied().all(is_masking),
            _ => false,
        }
    }

    fn through_island(&self, island: &Island, inputs: &[ValueId], side: Side) -> Vec<Brought> {
        let same = |&operand| Brought {
            operand,
            side,
            passage: Passage::Same,
        };
        let float = |id: &&ValueId| self.value(**id).kind.is_float();
        match (island.op_type.as_str(), inputs) {
            (
                "Where" | "Max" | "Min" | "Clip" | "Trilu" | "Pad" | "Tile" | "Expand" | "Reshape"
                | "Slice" | "Split" | "Gather" | "GatherElements" | "GatherND" | "ScatterElements"
                | "ScatterND" | "Compress" | "Cast",
                inputs,
            ) => inputs.iter().filter(float).map(same).collect(),
            ("Neg", &[x]) => vec![Brought {
                side: side.other(),
                ..same(&x)
            }],
            ("Div", &[x]) => vec![Brought {
                passage: Passage::OverUnknown,
                ..same(&x)
            }],
            ("Div", &[x, divisor]) => vec![Brought {
                passage: Passage::Over(divisor),
                ..same(&x)
            }],
            _ => Vec::new(),
        }
    }

    /// Whether the integers that an island makes are the float run's, whatever a quantized run has:
    /// what is asked is whether a number is NaN, infinite or a mask, which no integer is, or what an
    /// input of the model is exactly.
    pub fn answered_in_float(&self, node: &Node) -> bool {
        let Op::Island(island) = &node.op else {
            return false;
        };
        let exact = |id: &ValueId| !self.value(*id).kind.is_float();
        if !node.outputs.iter().all(exact) {
            return false;
        }
        let masked = |id: &ValueId| self.mask_side(*id).is_some();
        let input = |id: &ValueId| matches!(self.value(self.origin(*id)).kind, ValueKind::Input);
        match island.op_type.as_str() {
            "IsNaN" | "IsInf" => true,
            "Cast" => node.inputs.iter().all(input),
            "Equal" | "Greater" | "GreaterOrEqual" | "Less" | "LessOrEqual" => {
                let mask = island.beside_mask && node.inputs.iter().any(masked);
                mask || node.inputs.iter().all(input)
            }
            _ => false,
        }
    }

    /// Whether elements of a node's output that look masked are so, where no operand has brought
    /// them: what arithmetic makes is a score, however far below 0.
    pub(crate) fn may_hold_mask(&self, node: &Node) -> bool {
        match &node.op {
            Op::Island(island) => !matches!(island.op_type.as_str(), "Div" | "Neg"),
            Op::Lut(function) => *function == LutFunction::Log,
            _ => self.makes_mask(node),
        }
    }

    /// Whether a node makes masked elements of what holds none: by a factor of -1e9, or by choosing
    /// between a score and a constant.
    pub(crate) fn makes_mask(&self, node: &Node) -> bool {
        match &node.op {
            Op::Mul => node.inputs.iter().any(|id| self.is_masking_factor(*id)),
            Op::Island(island) => island.op_type == "Where",
            _ => false,
        }
    }
}

/// By value, the node that makes it.
fn makers(graph: &Graph) -> Vec<Option<NodeId>> {
    let mut makers = vec![None; graph.values.len()];
    for (id, node) in graph.running() {
        for output in &node.outputs {
            makers[output.0] = Some(id);
        }
    }
    makers
}

/// Every exp(x - max(x)), whether it was lowered from a Softmax or written so.
fn sinks(graph: &Graph, makers: &[Option<NodeId>]) -> Vec<Sink> {
    let made_by = |id: ValueId| makers[id.0].map(|id| graph.node(id));
    let is_maximum = |mut id: ValueId| {
        while let Some(node) = made_by(id) {
            match (&node.op, node.inputs.first()) {
                (Op::Move(_), Some(&from)) => id = from,
                (Op::Reduce { kind, .. }, _) => return *kind == ReduceKind::Max,
                _ => return false,
            }
        }
        false
    };
    let sink = |node: &Node| {
        let (&shifted, &exp) = (node.inputs.first()?, node.outputs.first()?);
        let difference = made_by(shifted).filter(|maker| matches!(maker.op, Op::Sub))?;
        let &[x, maximum] = difference.inputs.as_slice() else {
            return None;
        };
        let ends = graph.origin(x) == graph.origin(maximum) && is_maximum(maximum);
        ends.then_some(Sink { shifted, exp })
    };
    let nodes = graph.running().map(|(_, node)| node);
    let tables = nodes.filter(|node| matches!(node.op, Op::Lut(LutFunction::Exp)));
    tables.filter_map(sink).collect()
}

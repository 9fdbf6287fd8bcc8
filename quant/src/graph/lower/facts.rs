//! What is known about a model before it is lowered: who makes and who uses a value, which values
//! are constant, which are float.

use std::collections::{HashMap, HashSet};

use crate::{
    error::{Error, Result},
    model::{ElementKind, Model, OnnxNode},
    tensor::{Datum, SharedTensor},
};

/// Operators that make another value each time, so that nothing may be folded through them.
const RANDOM: [&str; 6] = [
    "RandomNormal",
    "RandomUniform",
    "RandomNormalLike",
    "RandomUniformLike",
    "Bernoulli",
    "Multinomial",
];

/// The facts.
pub(super) struct Facts<'a> {
    pub(super) model: &'a Model,
    probe: &'a HashMap<String, Datum>,
    producers: HashMap<&'a str, usize>,
    uses: HashMap<&'a str, usize>,
    /// What some node computes with.
    operands: HashSet<&'a str>,
    folded: HashSet<&'a str>,
    /// What follows from shapes and constants alone.
    of_shapes: HashSet<&'a str>,
    /// Integers and booleans that follow from activations.
    exact: HashSet<&'a str>,
    /// Shapes of constants.
    shapes: HashMap<&'a str, Vec<usize>>,
    /// Float constants of one element.
    scalars: HashMap<&'a str, f32>,
    /// Integer constants.
    integers: HashMap<&'a str, Vec<i64>>,
}

/// What a node computes with. The region and the scales of a Resize say which elements it makes: they belong to
/// a batch, as shapes do, and nothing quantizes them.
pub(super) fn operands(node: &OnnxNode) -> impl Iterator<Item = &str> {
    let steering = match node.standard_op() {
        "Resize" => [node.input(1), node.input(2)],
        _ => [None; 2],
    };
    node.uses()
        .filter(move |&name| !steering.contains(&Some(name)) || node.input(0) == Some(name))
}

impl<'a> Facts<'a> {
    pub(super) fn gather(model: &'a Model, probe: &'a HashMap<String, Datum>) -> Result<Facts<'a>> {
        let mut facts = Facts {
            model,
            probe,
            producers: HashMap::new(),
            uses: HashMap::new(),
            operands: HashSet::new(),
            folded: HashSet::new(),
            of_shapes: HashSet::new(),
            exact: HashSet::new(),
            shapes: HashMap::new(),
            scalars: HashMap::new(),
            integers: HashMap::new(),
        };
        for (index, node) in model.nodes().iter().enumerate() {
            let constant = node.uses().all(|name| facts.is_constant(name));
            let foldable = constant && !RANDOM.contains(&node.op_type.as_str());
            let measures = matches!(node.standard_op(), "Shape" | "Size");
            let of_shapes = measures || operands(node).all(|name| facts.is_known(name));
            let follows = !measures && operands(node).any(|name| facts.is_carried(name));
            facts.operands.extend(operands(node));
            for name in node.made() {
                facts.producers.insert(name, index);
                if foldable && probe.contains_key(name) {
                    facts.folded.insert(name);
                } else if of_shapes {
                    facts.of_shapes.insert(name);
                } else if follows && !matches!(probe.get(name), Some(Datum::F32(_))) {
                    facts.exact.insert(name);
                }
            }
            for name in node.uses() {
                *facts.uses.entry(name).or_default() += 1;
                facts.note_constant(name)?;
            }
        }
        for name in model.outputs() {
            *facts.uses.entry(name).or_default() += 1;
        }
        Ok(facts)
    }

    fn note_constant(&mut self, name: &'a str) -> Result<()> {
        if !self.is_constant(name) || self.shapes.contains_key(name) {
            return Ok(());
        }
        let folded = self.probe.get(name).filter(|_| self.folded.contains(name));
        let shape = match folded {
            Some(datum) => datum.shape().to_vec(),
            None => self.model.constant_shape(name).unwrap_or_default().to_vec(),
        };
        // Weights stay encoded until the layer that has them is lowered.
        let is_scalar = shape.iter().product::<usize>() == 1;
        let scalar = if is_scalar {
            self.f32_constant(name)
        } else {
            None
        };
        if let Some(&value) = scalar.as_ref().and_then(|elements| elements.first()) {
            self.scalars.insert(name, value);
        } else if let Some(Datum::I32(elements)) = folded {
            self.integers
                .insert(name, elements.iter().map(|&x| i64::from(x)).collect());
        } else if let Some(elements) = self.model.i64_constant(name) {
            self.integers.insert(name, elements.into_iter().collect());
        }
        self.shapes.insert(name, shape);
        Ok(())
    }

    /// Whether a value never changes.
    pub(super) fn is_constant(&self, name: &str) -> bool {
        self.model.is_constant(name) || self.folded.contains(name)
    }

    /// Whether a value depends on no element of an input: it is constant, or follows from shapes.
    fn is_known(&self, name: &str) -> bool {
        self.is_constant(name) || self.of_shapes.contains(name)
    }

    /// Whether a value is a float tensor that changes with the elements of an input. What follows
    /// from shapes alone is none: it belongs to a batch, and nothing quantizes it.
    pub(super) fn is_activation(&self, name: &str) -> bool {
        !self.is_known(name) && matches!(self.probe.get(name), Some(Datum::F32(_)))
    }

    /// Whether a value holds integers or booleans that follow from activations.
    pub(super) fn is_exact(&self, name: &str) -> bool {
        self.exact.contains(name)
    }

    /// Whether a value flows between operations: an activation, or exact.
    pub(super) fn is_carried(&self, name: &str) -> bool {
        self.is_activation(name) || self.is_exact(name)
    }

    /// Whether a value is a float tensor that the float run has beside the graph.
    pub(super) fn is_given(&self, name: &str) -> bool {
        !self.is_constant(name) && matches!(self.probe.get(name), Some(Datum::F32(_)))
    }

    /// Whether the probe has a value as a tensor.
    pub(super) fn is_tensor(&self, name: &str) -> bool {
        self.probe.contains_key(name)
    }

    /// A float constant; None where the value is not constant or not float.
    pub(super) fn f32_constant(&self, name: &str) -> Option<SharedTensor> {
        if self.folded.contains(name) {
            let folded = self.probe.get(name).and_then(Datum::as_f32);
            return folded.map(|tensor| tensor.to_shared());
        }
        self.model.f32_constant(name).cloned()
    }

    /// The same of a matrix. Of one that a Transpose makes of a constant, that constant's elements: every
    /// Linear may turn a weight for itself.
    pub(super) fn matrix(&self, name: &str) -> Option<SharedTensor> {
        let turned = || {
            let node = self.producer(name)?;
            let from = self.model.f32_constant(node.inputs.first()?)?;
            let swaps = matches!(node.ints("perm"), None | Some([1, 0]));
            let is_turned = node.standard_op() == "Transpose" && from.ndim() == 2 && swaps;
            is_turned.then(|| from.clone().reversed_axes())
        };
        turned().or_else(|| self.f32_constant(name))
    }

    /// The only element of a float constant.
    pub(super) fn scalar(&self, name: &str) -> Option<f32> {
        self.scalars.get(name).copied()
    }

    /// The elements of an integer constant.
    pub(super) fn integers(&self, name: &str) -> Option<&[i64]> {
        self.integers.get(name).map(Vec::as_slice)
    }

    /// Shape in the probe batch.
    pub(super) fn shape(&self, name: &str) -> Result<&'a [usize]> {
        self.probe
            .get(name)
            .map(Datum::shape)
            .ok_or_else(|| Error::Model {
                file: self.model.file().to_owned(),
                reason: format!(
                    "value '{name}' is not in the float run that the graph is made from"
                ),
            })
    }

    /// Shape of a constant.
    pub(super) fn constant_shape(&self, name: &str) -> Option<&[usize]> {
        self.shapes.get(name).map(Vec::as_slice)
    }

    /// Number of dimensions of a value or a constant.
    pub(super) fn rank(&self, name: &str) -> Option<usize> {
        let shape = self
            .constant_shape(name)
            .or_else(|| self.probe.get(name).map(Datum::shape));
        shape.map(<[usize]>::len)
    }

    /// An axis counted from the front, if it is one of the value's.
    pub(super) fn axis(&self, name: &str, axis: i64) -> Option<usize> {
        let rank = self.rank(name)?;
        let axis = if axis < 0 {
            axis.checked_add(i64::try_from(rank).ok()?)?
        } else {
            axis
        };
        usize::try_from(axis).ok().filter(|&axis| axis < rank)
    }

    /// The node that makes a value.
    pub(super) fn producer(&self, name: &str) -> Option<&'a OnnxNode> {
        self.producers
            .get(name)
            .and_then(|&index| self.model.nodes().get(index))
    }

    /// The node that makes a value, if it is of this operator and not constant.
    pub(super) fn made_by(&self, name: &str, op: &str) -> Option<&'a OnnxNode> {
        let node = self
            .producer(name)
            .filter(|node| node.standard_op() == op)?;
        (!self.is_constant(name)).then_some(node)
    }

    /// Whether a value has one consumer, outputs of the model counted.
    pub(super) fn used_once(&self, name: &str) -> bool {
        self.uses.get(name) == Some(&1)
    }

    /// Whether anything consumes a value.
    pub(super) fn is_used(&self, name: &str) -> bool {
        self.uses.contains_key(name)
    }

    /// Names of the model's float inputs; of those that a batch only steers with, none.
    pub(super) fn float_inputs(&self) -> impl Iterator<Item = &'a str> {
        let float = self
            .model
            .inputs()
            .iter()
            .filter(|input| matches!(input.kind, ElementKind::F32 | ElementKind::F64));
        let names = float.map(|input| input.name.as_str());
        names.filter(|name| self.operands.contains(name) || !self.steers(name))
    }

    /// Whether a value says how some node computes, and is not what it computes with.
    fn steers(&self, name: &str) -> bool {
        self.is_used(name) && !self.model.outputs().iter().any(|output| output == name)
    }

    /// The model's float outputs. An output that is not float, such as an argmax, stands for the
    /// float values it is computed from.
    pub(super) fn float_outputs(&self) -> Vec<&'a str> {
        let mut found = Vec::new();
        let mut seen = HashSet::new();
        let mut open: Vec<&'a str> = self
            .model
            .outputs()
            .iter()
            .rev()
            .map(String::as_str)
            .collect();
        while let Some(name) = open.pop() {
            if self.is_constant(name) || !seen.insert(name) {
                continue;
            }
            if self.is_activation(name) {
                found.push(name);
                continue;
            }
            open.extend(self.producer(name).into_iter().flat_map(OnnxNode::uses));
        }
        found
    }

    /// The model's outputs that are exact.
    pub(super) fn exact_outputs(&self) -> Vec<&'a str> {
        let outputs = self.model.outputs().iter().map(String::as_str);
        outputs
            .filter(|name| self.is_exact(name) && self.is_tensor(name))
            .collect()
    }

    /// `(node, constant)` of a node with two inputs of which one is a scalar constant.
    pub(super) fn with_scalar(&self, node: &'a OnnxNode) -> Option<(&'a str, f32)> {
        let (a, b) = (node.input(0)?, node.input(1)?);
        match (self.scalar(a), self.scalar(b)) {
            (None, Some(value)) => Some((a, value)),
            (Some(value), None) => Some((b, value)),
            _ => None,
        }
    }
}

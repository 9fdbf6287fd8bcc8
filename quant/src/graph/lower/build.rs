//! The graph under construction: values by their ONNX name, constants made on first use, nodes in
//! order.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use ndarray::{ArcArray2, ArrayViewD, Dimension as _, Ix2};

use super::{
    facts::{Facts, operands},
    names::Unique,
    units::LiveUnit,
    units::Pattern,
};
use crate::{
    error::{Error, Result},
    graph::{Graph, Island, Names, Node, Op, Stated, Value, ValueId, ValueKind, masks::is_masking},
    model::OnnxNode,
    tensor::{SharedTensor, Tensor},
};

/// A unit about to be lowered.
pub(super) struct Unit<'a> {
    /// Index of its last node.
    pub(super) index: usize,
    /// Its last node.
    pub(super) node: &'a OnnxNode,
    /// What it is.
    pub(super) pattern: &'a Pattern<'a>,
    /// Unique name.
    pub(super) name: String,
    /// The same and what else it is called.
    names: Arc<Names>,
}

impl<'a> Unit<'a> {
    pub(super) fn new(facts: &Facts<'a>, unit: &'a LiveUnit<'a>, names: Names) -> Unit<'a> {
        // The index was taken from the same list.
        let node = &facts.model.nodes()[unit.last];
        Unit {
            index: unit.last,
            node,
            pattern: &unit.pattern,
            name: names.name.clone(),
            names: Arc::new(names),
        }
    }

    /// Name of the first output, which every unit has.
    pub(super) fn output(&self) -> &'a str {
        self.node.made().next().unwrap_or_default()
    }
}

/// The graph so far.
pub(super) struct Build<'a> {
    pub(super) facts: &'a Facts<'a>,
    values: Vec<Value>,
    nodes: Vec<Node>,
    inputs: Vec<ValueId>,
    by_onnx: HashMap<&'a str, ValueId>,
    value_names: Unique,
    node_names: Unique,
}

impl<'a> Build<'a> {
    /// Starts with the model's float inputs.
    pub(super) fn new(facts: &'a Facts<'a>) -> Result<Build<'a>> {
        let mut build = Build {
            facts,
            values: Vec::new(),
            nodes: Vec::new(),
            inputs: Vec::new(),
            by_onnx: HashMap::new(),
            value_names: Unique::default(),
            node_names: Unique::default(),
        };
        for name in facts.float_inputs() {
            let shape = facts.shape(name)?.to_vec();
            let id = build.value(name, Some(name), ValueKind::Input, shape);
            build.by_onnx.insert(name, id);
            build.inputs.push(id);
        }
        Ok(build)
    }

    /// Ends with the model's float outputs.
    pub(super) fn finish(mut self, outputs: &[&'a str], exact: &[&'a str]) -> Result<Graph> {
        let mut all = |names: &[&'a str]| -> Result<Vec<ValueId>> {
            names.iter().map(|name| self.input(name)).collect()
        };
        let (outputs, exact) = (all(outputs)?, all(exact)?);
        let graph = Graph::new(self.values, self.nodes, self.inputs, outputs, exact);
        check_constants(self.facts, &graph)?;
        Ok(graph)
    }

    /// The value of an ONNX name: made by an earlier unit, a constant, or what the float run has.
    pub(super) fn input(&mut self, name: &'a str) -> Result<ValueId> {
        if let Some(&id) = self.by_onnx.get(name) {
            return Ok(id);
        }
        if self.facts.is_given(name) {
            let shape = self.facts.shape(name)?.to_vec();
            let id = self.value(name, Some(name), ValueKind::Input, shape);
            self.by_onnx.insert(name, id);
            self.inputs.push(id);
            return Ok(id);
        }
        let tensor = self.facts.f32_constant(name);
        let tensor = tensor.ok_or_else(|| self.lost(name))?;
        let id = self.constant(name, Some(name), Arc::new(tensor.to_owned()));
        self.by_onnx.insert(name, id);
        Ok(id)
    }

    /// A constant matrix as `[O, K]`; `turned` where the model has it as `[K, O]`. It shares the
    /// elements of the constant.
    pub(super) fn weight(&mut self, name: &'a str, turned: bool) -> Result<ArcArray2<f32>> {
        let matrix = self.checked(name, self.facts.matrix(name))?;
        let matrix = matrix.into_dimensionality::<Ix2>();
        let matrix = matrix.map_err(|_| self.lost(name))?;
        Ok(if turned {
            matrix.reversed_axes()
        } else {
            matrix
        })
    }

    /// A float constant without NaN or infinity.
    pub(super) fn finite(&self, name: &str) -> Result<SharedTensor> {
        self.checked(name, self.facts.f32_constant(name))
    }

    fn checked(&self, name: &str, tensor: Option<SharedTensor>) -> Result<SharedTensor> {
        let tensor = tensor.ok_or_else(|| self.lost(name))?;
        check_finite(self.facts, name, tensor.view(), |_| false)?;
        Ok(tensor)
    }

    /// A constant that the model does not have as such.
    pub(super) fn literal(&mut self, name: &str, tensor: Tensor) -> ValueId {
        self.constant(name, None, Arc::new(tensor))
    }

    fn constant(&mut self, name: &str, onnx: Option<&str>, tensor: Arc<Tensor>) -> ValueId {
        let shape = tensor.shape().to_vec();
        self.value(name, onnx, ValueKind::Constant(tensor), shape)
    }

    /// Adds a node whose one output is the unit's.
    pub(super) fn output(&mut self, unit: &Unit<'a>, op: Op, inputs: Vec<ValueId>) -> Result<()> {
        self.named_output(unit, &unit.name, op, inputs)
    }

    /// The same for the last of several nodes: the value has the unit's name, the node one of its
    /// own.
    pub(super) fn named_output(
        &mut self,
        unit: &Unit<'a>,
        node_name: &str,
        op: Op,
        inputs: Vec<ValueId>,
    ) -> Result<()> {
        let onnx = unit.output();
        let shape = self.facts.shape(onnx)?.to_vec();
        let id = self.value(&unit.name, Some(onnx), ValueKind::Activation, shape);
        self.by_onnx.insert(onnx, id);
        self.node(unit, node_name, op, inputs, vec![id]);
        Ok(())
    }

    /// Adds a node in the middle of a decomposition, `NAME.suffix`; its value has no ONNX name.
    pub(super) fn inner(
        &mut self,
        unit: &Unit<'a>,
        suffix: &str,
        op: Op,
        inputs: Vec<ValueId>,
        shape: Vec<usize>,
    ) -> ValueId {
        let name = format!("{}.{suffix}", unit.name);
        let id = self.value(&name, None, ValueKind::Activation, shape);
        self.node(unit, &name, op, inputs, vec![id]);
        id
    }

    /// Adds a node with each of these ONNX values as an output.
    pub(super) fn outputs(
        &mut self,
        unit: &Unit<'a>,
        op: Op,
        inputs: Vec<ValueId>,
        onnx: &[&'a str],
    ) -> Result<()> {
        let mut ids = Vec::with_capacity(onnx.len());
        for (index, &onnx_name) in onnx.iter().enumerate() {
            let name = match onnx {
                [_] => unit.name.clone(),
                _ => format!("{}.{index}", unit.name),
            };
            let shape = self.facts.shape(onnx_name)?.to_vec();
            let kind = match self.facts.is_exact(onnx_name) {
                true => ValueKind::Exact,
                false => ValueKind::Activation,
            };
            let id = self.value(&name, Some(onnx_name), kind, shape);
            self.by_onnx.insert(onnx_name, id);
            ids.push(id);
        }
        self.node(unit, &unit.name, op, inputs, ids);
        Ok(())
    }

    /// Adds a node that runs in float.
    pub(super) fn island(&mut self, unit: &Unit<'a>) -> Result<()> {
        let facts = self.facts;
        let mut inputs = Vec::new();
        let mut from_float_run: Vec<String> = Vec::new();
        let mut seen = HashSet::new();
        let computed: HashSet<&str> = operands(unit.node).collect();
        for name in unit.node.uses().filter(|name| seen.insert(*name)) {
            if computed.contains(name) && facts.is_carried(name) {
                if !facts.is_tensor(name) {
                    return Err(self.sequence(unit, name));
                }
                inputs.push(self.input(name)?);
            } else if !facts.model.is_constant(name) {
                from_float_run.push(name.to_owned());
            }
        }
        let carried = |name: &str| facts.is_carried(name) && facts.is_tensor(name);
        let places = unit.node.made().enumerate();
        let (places, made): (Vec<usize>, Vec<&str>) =
            places.filter(|(_, name)| carried(name)).unzip();
        if made.is_empty() {
            return Err(self.sequence(unit, unit.output()));
        }
        let island = Island {
            onnx_node: unit.index,
            op_type: unit.node.op_type.clone(),
            from_float_run,
            made: places,
            beside_mask: unit
                .node
                .uses()
                .filter_map(|name| facts.scalar(name))
                .any(is_masking),
        };
        self.outputs(unit, Op::Island(island), inputs, &made)
    }

    fn sequence(&self, unit: &Unit<'a>, name: &str) -> Error {
        Error::Model {
            file: self.facts.model.file().to_owned(),
            reason: format!(
                "node '{}' (operator {}): value '{name}' is a sequence, and only tensors can be \
                 quantized; write it with Split and Concat",
                unit.node.label(),
                unit.node.op_type
            ),
        }
    }

    /// Shape of a value already in the graph.
    pub(super) fn shape(&self, id: ValueId) -> &[usize] {
        &self.values[id.0].shape
    }

    fn value(
        &mut self,
        name: &str,
        onnx: Option<&str>,
        kind: ValueKind,
        shape: Vec<usize>,
    ) -> ValueId {
        let name = self.value_names.take(name);
        self.values.push(Value {
            name,
            onnx: onnx.map(str::to_owned),
            kind,
            shape,
            stated: Stated::default(),
        });
        ValueId(self.values.len() - 1)
    }

    fn node(
        &mut self,
        unit: &Unit<'a>,
        name: &str,
        op: Op,
        inputs: Vec<ValueId>,
        outputs: Vec<ValueId>,
    ) {
        let name = self.node_names.take(name);
        self.nodes.push(Node {
            name,
            names: Arc::clone(&unit.names),
            op,
            inputs,
            outputs,
        });
    }

    fn lost(&self, name: &str) -> Error {
        Error::Model {
            file: self.facts.model.file().to_owned(),
            reason: format!("value '{name}' is no float tensor where one is needed"),
        }
    }
}

/// Constants of a whole graph: no NaN, and no infinity but those that mask.
fn check_constants(facts: &Facts<'_>, graph: &Graph) -> Result<()> {
    for (index, value) in graph.values.iter().enumerate() {
        if let ValueKind::Constant(tensor) = &value.kind {
            let side = graph.mask_side(ValueId(index));
            let name = value.onnx.as_ref().unwrap_or(&value.name);
            check_finite(facts, name, tensor.view(), |x| {
                side.is_some_and(|side| side.is_masked(x))
            })?;
        }
    }
    Ok(())
}

fn check_finite(
    facts: &Facts<'_>,
    name: &str,
    tensor: ArrayViewD<'_, f32>,
    allowed: impl Fn(f32) -> bool,
) -> Result<()> {
    // In whatever order they lie there, and without an exit, so that the compiler makes vectors of it.
    let lying = tensor.as_slice_memory_order();
    if lying.is_some_and(|all| all.iter().fold(true, |all, x| all & x.is_finite())) {
        return Ok(());
    }
    let mut elements = tensor.indexed_iter();
    match elements.find(|&(_, &x)| !x.is_finite() && !allowed(x)) {
        None => Ok(()),
        Some((index, &value)) => Err(Error::NonFinite {
            file: facts.model.file().to_owned(),
            tensor: name.to_owned(),
            value,
            index: index.as_array_view().to_vec(),
        }),
    }
}

//! `modules.json`: which modules of PyTorch others stand in for, with which tensors; and dtype and scale of
//! what is inside each module, as the vendor's settings name them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use dual16_nash::dtype::IntDtype;
use serde_json::{Map, Value, json};

use super::{
    names::Names,
    source::{Part, Source},
    store::{Recipe, Store},
};
use crate::{
    Result,
    graph::{Graph, Node, NodeId, Op, ValueId, ValueKind},
    plan::{InnerParams, LinearPlan, QParams},
    settings::Template,
};

/// What is in `modules.json`, and what of the plan cannot be said in it.
#[derive(Debug, Default)]
pub(super) struct Modules {
    swapped: Vec<Value>,
    parameters: BTreeMap<String, String>,
    quantized: BTreeMap<String, BTreeMap<&'static str, Value>>,
    /// Operations that are no module and must be written by hand: name and what stands in.
    pub(super) by_hand: BTreeMap<String, BTreeSet<String>>,
    /// Quantized operations that are no module of their own.
    pub(super) nameless: usize,
}

impl Modules {
    /// Finds them; what they need is added to the file of tensors.
    ///
    /// # Errors
    /// Integers of a Linear that cannot be read.
    pub(super) fn of(source: &Source<'_>, names: &Names, store: &mut Store) -> Result<Self> {
        let mut modules = Self::default();
        let norms = modules.norms(source);
        let mut seen: BTreeSet<String> = BTreeSet::new();
        for (id, node) in source.graph.running() {
            if let Op::Linear(_) = node.op {
                modules.linear(source, names, store, id, node, &mut seen)?;
                modules.equalized(source, names, id);
            } else {
                modules.other(source, node, &norms);
            }
        }
        Ok(modules)
    }

    /// The file's text.
    ///
    /// # Errors
    /// None that a caller can cause.
    pub(super) fn text(&self, source: &Source<'_>) -> Result<String> {
        let (activation, weight) = match source.settings.template {
            Template::A8W8 => ("qint8", "qint8"),
            Template::A16W8 => ("qint16", "qint8"),
            Template::A16W16 => ("qint16", "qint16"),
        };
        super::pretty(
            "modules.json",
            &json!({
                "format": "dual16 modules 1",
                "model": source.file,
                "template": {"activation": activation, "weight": weight},
                "modules": self.swapped,
                "parameters": self.parameters,
                "quantized": self.quantized,
                "by_hand": self.by_hand,
            }),
        )
    }

    /// How many modules others stand in for.
    pub(super) fn swapped(&self) -> usize {
        self.swapped.len()
    }

    fn quantized(&mut self, module: String, port: &'static str, value: Value) {
        self.quantized
            .entry(module)
            .or_default()
            .insert(port, value);
    }

    fn linear(
        &mut self,
        source: &Source<'_>,
        names: &Names,
        store: &mut Store,
        id: NodeId,
        node: &Node,
        seen: &mut BTreeSet<String>,
    ) -> Result<()> {
        let Ok((_, linear, planned)) = source.linear(id.0) else {
            return Ok(());
        };
        let kind = kind(source, id, planned);
        let Some(module) = module(node) else {
            self.nameless += 1;
            if let Some(kind) = kind {
                self.hand(&node.name, kind);
            }
            return Ok(());
        };
        let (outputs, inputs) = linear.weight.dim();
        let mut tensors = Map::new();
        let mut part = |name: &str, part: Part, transposed: bool| -> Result<String> {
            let stored = names.part(id.0, part);
            store.add(stored, &source.shape(id.0, part)?, Recipe::Made(id.0, part));
            tensors.insert(
                name.to_owned(),
                json!({"name": stored, "transposed": transposed}),
            );
            Ok(stored.to_owned())
        };
        let params = &planned.params;
        let divided = linear.divided.is_some() && linear.bias.is_some();
        if params.fit.is_some() || divided {
            part("bias", Part::Bias, false)?;
        }
        let weight = |scales: String| json!({"dtype": "qint8", "scales": scales});
        let int16 = |scale: f32| json!({"dtype": "qint16", "scale": scale});
        let inner = |name: &str| format!("{module}.{name}");
        let last = match params.inner {
            InnerParams::Gemm => {
                let dtype = Source::weight_dtype(planned);
                let mut own = json!({"dtype": qint(dtype)});
                if kind.is_some() {
                    part("weight", Part::Weight, true)?;
                    own["scales"] = part("weight_scale", Part::Scales, false)?.into();
                }
                self.quantized(module.to_owned(), "weight", own);
                self.quantized(module.to_owned(), "input", port(params.input));
                module.to_owned()
            }
            InnerParams::MulSum {
                weight,
                product,
                sum,
                bias,
            } => {
                self.quantized(inner("weight_quant"), "output", int16(weight));
                self.quantized(inner("mul"), "output", int16(product));
                self.quantized(inner("sum"), "output", int16(sum));
                if let Some(bias) = bias {
                    self.quantized(inner("bias_quant"), "output", int16(bias));
                }
                inner("add")
            }
            InnerParams::Split { high, low } => {
                part("weight_hi", Part::High, true)?;
                part("weight_lo", Part::Low, true)?;
                let scales = part("weight_hi_scale", Part::Scales, false)?;
                self.quantized(inner("hi"), "weight", weight(scales));
                self.quantized(inner("hi"), "output", int16(high));
                let scales = part("weight_lo_scale", Part::LowScales, false)?;
                self.quantized(inner("lo"), "weight", weight(scales));
                self.quantized(inner("lo"), "output", int16(low));
                inner("add")
            }
            InnerParams::LowRank {
                main,
                inner: between,
                branch,
            } => {
                part("weight", Part::Weight, true)?;
                part("lowrank_down", Part::Down, true)?;
                part("lowrank_up", Part::Up, true)?;
                let of_main = part("weight_scale", Part::Scales, false)?;
                let down = part("lowrank_down_scale", Part::DownScales, false)?;
                let up = part("lowrank_up_scale", Part::UpScales, false)?;
                for (name, scales, scale) in [
                    ("main", of_main, main),
                    ("lowrank_down", down, between),
                    ("lowrank_up", up, branch),
                ] {
                    self.quantized(inner(name), "weight", weight(scales));
                    self.quantized(inner(name), "output", int16(scale));
                }
                inner("add")
            }
        };
        if let Some(output) = params.output {
            self.quantized(last, "output", port(output));
        }
        // A module that is called twice is one module.
        if let Some(kind) = kind
            && seen.insert(module.to_owned())
        {
            self.swapped.push(json!({
                "module": module,
                "kind": kind,
                "inputs": inputs,
                "outputs": outputs,
                "tensors": tensors,
            }));
        }
        Ok(())
    }

    /// Parameters of others that took in the factors by which a Linear's input is divided.
    fn equalized(&mut self, source: &Source<'_>, names: &Names, id: NodeId) {
        let (graph, plain) = (source.graph, source.plain);
        let first = |graph: &Graph| graph.nodes.get(id.0)?.inputs.first().copied();
        let (Some(mut new), Some(mut old)) = (first(graph), first(plain)) else {
            return;
        };
        while new != old {
            let (Some(made), Some(was)) = (maker(graph, new), maker(plain, old)) else {
                return;
            };
            let mut next = None;
            for (&now, &before) in made.inputs.iter().zip(&was.inputs) {
                let (now_value, before_value) = (graph.value(now), plain.value(before));
                match (&now_value.kind, &before_value.kind) {
                    (ValueKind::Constant(_), ValueKind::Constant(_)) if now != before => {
                        let stored = names.constant(now).unwrap_or(&now_value.name);
                        let path = before_value.onnx.as_deref().unwrap_or_default();
                        match is_path(path) {
                            true => {
                                self.parameters.insert(path.to_owned(), stored.to_owned());
                            }
                            false => self.hand(&made.names.name, "a constant that took factors in"),
                        }
                    }
                    (ValueKind::Constant(_), _) => {}
                    _ => next = Some((now, before)),
                }
            }
            match next {
                Some((now, before)) => (new, old) = (now, before),
                None => return,
            }
        }
    }

    /// LayerNorms that remedies stand in, by the names of their nodes, and what is inside each.
    fn norms(&mut self, source: &Source<'_>) -> HashMap<usize, Norm> {
        let mut norms: HashMap<usize, Norm> = HashMap::new();
        for node in source.plain.nodes.iter() {
            if node.name.ends_with(".var_mean.pre_mean") {
                norms.insert(unit(node), Norm::default());
            }
        }
        for (id, node) in source.graph.running() {
            if source.is_plain(id) {
                continue;
            }
            let remedy = remedy(node);
            if remedy.starts_with("eq") {
                continue;
            }
            match norms.get_mut(&unit(node)) {
                Some(norm) if remedy != "fp16" => norm.take(remedy, node),
                _ => self.hand(&node.names.name, remedy),
            }
        }
        let mut told: BTreeSet<usize> = BTreeSet::new();
        for (_, node) in source.graph.running() {
            let Some(norm) = norms.get(&unit(node)).filter(|norm| norm.is_changed()) else {
                continue;
            };
            if !told.insert(unit(node)) {
                continue;
            }
            match module(node) {
                Some(module) => self.swapped.push(json!({
                    "module": module,
                    "kind": norm.kind(),
                    "late_mean": norm.late_mean,
                    "threshold": norm.threshold,
                    "step": norm.step,
                })),
                None => self.hand(&node.names.name, norm.kind()),
            }
        }
        norms
    }

    fn other(&mut self, source: &Source<'_>, node: &Node, norms: &HashMap<usize, Norm>) {
        let Some(&output) = node.outputs.first() else {
            return;
        };
        let Some(params) = source.plan.params(output) else {
            return;
        };
        let Some(module) = module(node) else {
            self.nameless += 1;
            return;
        };
        let inside = node.name.strip_prefix(&node.names.name).unwrap_or_default();
        let inside = inside.trim_start_matches('.');
        let changed = norms.get(&unit(node)).is_some_and(Norm::is_changed);
        if changed && Norm::FUNCTIONS.contains(&inside) {
            self.nameless += 1;
            return;
        }
        let name = match inside {
            "" => module.to_owned(),
            inside if changed => format!("{module}.{}", Norm::attribute(inside)),
            inside => format!("{module}.{inside}"),
        };
        self.quantized(name, "output", port(params));
    }

    fn hand(&mut self, name: &str, what: &str) {
        self.by_hand
            .entry(name.to_owned())
            .or_default()
            .insert(what.to_owned());
    }
}

/// What remedies do inside a LayerNorm.
#[derive(Debug, Default)]
struct Norm {
    threshold: Option<f32>,
    dot: bool,
    step: Option<f32>,
    late_mean: bool,
}

impl Norm {
    /// What is inside a LayerNorm of `modules.py` as a function.
    const FUNCTIONS: [&'static str; 2] = ["rsqrt", "two_range.lo"];

    fn take(&mut self, remedy: &str, node: &Node) {
        match remedy {
            "late_mean" => self.late_mean = true,
            "dot" => self.dot = true,
            _ => {}
        }
        match node.op {
            Op::Clip { max, .. } => self.threshold = Some(max),
            Op::ToInt8 { step } => self.step = Some(step),
            _ => {}
        }
    }

    fn is_changed(&self) -> bool {
        self.threshold.is_some() || self.dot || self.late_mean
    }

    fn kind(&self) -> &'static str {
        match (self.threshold, self.dot) {
            (Some(_), _) => "TwoRangeLayerNorm",
            (None, true) => "DotLayerNorm",
            (None, false) => "MendedLayerNorm",
        }
    }

    /// What `modules.py` calls an operation inside.
    fn attribute(inside: &str) -> &str {
        match inside {
            "input_mean.pre_mean" => "input_mean",
            "var_mean.pre_mean" => "var_mean",
            "late_mean.mul" => "out_mul",
            "late_mean.sub" => "late_sub",
            "two_range.sub" => "beyond",
            "two_range.add" => "both",
            "two_range.sum" => "total",
            inside => inside.rsplit('.').next().unwrap_or(inside),
        }
    }
}

/// What stands in for a Linear; None where it stays as it is.
fn kind(source: &Source<'_>, id: NodeId, planned: &LinearPlan) -> Option<&'static str> {
    let weight = |graph: &Graph| match &graph.nodes.get(id.0)?.op {
        Op::Linear(linear) => Some(linear.weight.as_ptr()),
        _ => None,
    };
    match planned.params.inner {
        InnerParams::MulSum { .. } => Some("BroadcastMulSumLinear"),
        InnerParams::Split { .. } => Some("SplitLinear"),
        InnerParams::LowRank { .. } => Some("LowRankLinear"),
        InnerParams::Gemm => {
            let changed = weight(source.graph) != weight(source.plain);
            (planned.params.fit.is_some() || changed).then_some("Linear")
        }
    }
}

/// The module that an operation is, where it is one.
fn module(node: &Node) -> Option<&str> {
    let names = &node.names;
    (names.is_module && !names.module.is_empty()).then_some(names.module.as_str())
}

/// The remedy that a node is of: what follows the name of the operation that it stands in.
fn remedy(node: &Node) -> &str {
    let inside = node.name.strip_prefix(&node.names.name);
    let inside = inside.unwrap_or(&node.name).trim_start_matches('.');
    inside.split('.').next().unwrap_or(inside)
}

fn unit(node: &Node) -> usize {
    Arc::as_ptr(&node.names) as usize
}

fn maker(graph: &Graph, id: ValueId) -> Option<&Node> {
    let mut running = graph.running();
    running.find_map(|(_, node)| node.outputs.contains(&id).then_some(node))
}

/// Whether the name of a constant is one that a parameter of PyTorch can have.
fn is_path(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    name.contains('.') && name.chars().all(plain)
}

fn qint(dtype: IntDtype) -> &'static str {
    match dtype {
        IntDtype::Int8 => "qint8",
        IntDtype::Int16 => "qint16",
    }
}

fn port(params: QParams) -> Value {
    json!({"dtype": qint(params.dtype), "scale": params.scale})
}

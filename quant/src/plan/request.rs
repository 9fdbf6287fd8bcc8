//! The settings bound to a graph: who was asked for what, before any data is seen.

use std::collections::{BTreeMap, BTreeSet};

use dual16_nash::{dtype::IntDtype, legality::Rules, ways::Way};

use super::{Slot, known::Known};
use crate::{
    Result,
    fit::Fit,
    graph::{Graph, Op, ValueId, ValueKind},
    notice::Notice,
    observe::ObserverKind,
    settings::{OperatorChoice, Settings, WayChoice},
};

/// What was asked of each Linear, value and inner tensor.
#[derive(Debug, Clone)]
pub struct Request {
    /// By node index of each Linear.
    pub linears: BTreeMap<usize, LinearRequest>,
    /// By [`ValueId`].
    pub values: Vec<ValueRequest>,
    /// Settings of tensors inside a Linear, where there are any.
    pub slots: BTreeMap<(usize, Slot), SlotRequest>,
    /// What was asked of operators by name, in the order of the settings: the later of two counts.
    pub operators: Vec<OperatorRequest>,
    /// Nodes whose tables are divided by the inputs that were seen.
    pub divided: BTreeSet<usize>,
    /// Fallbacks already known.
    pub notices: Vec<Notice>,
}

/// What was asked of one Linear.
#[derive(Debug, Clone)]
pub struct LinearRequest {
    /// The template's way, or the one set by name.
    pub requested: WayChoice,
    /// Set by name rather than by the template.
    pub explicit: bool,
    /// The way to start with: `requested` where that is one legal way, else its fallback.
    pub start: Way,
    /// How that is fitted, where a setting asks for it.
    pub fit: Option<Fit>,
    /// Why `start` is not `requested`; empty where it is.
    pub reason: String,
    /// The output stays high precision where the way can (see [`Way`]).
    pub high_precision: bool,
}

/// What one setting asks of operators.
#[derive(Debug, Clone)]
pub struct OperatorRequest {
    /// Name or glob, as typed.
    pub name: String,
    /// The nodes that it finds.
    pub nodes: BTreeSet<usize>,
    /// What is to run there.
    pub choice: OperatorChoice,
}

/// What was asked of one value.
#[derive(Debug, Clone)]
pub struct ValueRequest {
    /// Dtype asked for.
    pub dtype: IntDtype,
    /// The dtype was set by name, so no plan may raise it.
    pub explicit: bool,
    /// How its range is observed.
    pub observer: ObserverKind,
    /// Scale given outright.
    pub fixed_scale: Option<f32>,
    /// What its observed range is multiplied by; 1 for most.
    pub room: f32,
}

/// What was asked of a tensor inside a Linear.
#[derive(Debug, Clone, Copy, Default)]
pub struct SlotRequest {
    /// Another observer than the layer's output has.
    pub observer: Option<ObserverKind>,
    /// Scale given outright.
    pub fixed_scale: Option<f32>,
    /// Named itself, rather than only matched by a glob that means other tensors as well.
    pub named: bool,
}

impl Request {
    /// Binds `settings` to the names of `graph`. With `layer_mode` the graph is a set of layers
    /// taken out of a model, so an output of the graph is no output of the model.
    ///
    /// # Errors
    /// A name that matches nothing, a way that the toolchain cannot run, a scale that is not
    /// finite and > 0, a dtype for a tensor that cannot take it.
    pub fn resolve(graph: &Graph, settings: &Settings, layer_mode: bool) -> Result<Self> {
        let mut request = Request {
            linears: BTreeMap::new(),
            values: default_values(graph, settings),
            slots: BTreeMap::new(),
            operators: Vec::new(),
            divided: BTreeSet::new(),
            notices: Vec::new(),
        };
        request.start_linears(graph, settings, layer_mode);
        let known = Known::of(graph);
        for setting in &settings.by_name {
            request.apply(graph, &known, settings, &setting.name, &setting.value)?;
        }
        request.notices.extend(request.kl_fallback(graph));
        Ok(request)
    }

    /// KL is defined for int8 only; says so where int16 tensors were to use it.
    fn kl_fallback(&self, graph: &Graph) -> Option<Notice> {
        let int16 = |request: &ValueRequest| {
            request.observer == ObserverKind::Kl && request.dtype == IntDtype::Int16
        };
        let falls_back: Vec<usize> = (0..graph.values.len())
            .filter(|&id| int16(&self.values[id]))
            .collect();
        let first = graph.values.get(*falls_back.first()?)?;
        Some(Notice {
            warning: true,
            code: "OBSERVER_FALLBACK".to_owned(),
            subject: first.name.clone(),
            message: format!(
                "observer kl is defined for int8 only; {} int16 tensors, this the first, use minmax",
                falls_back.len()
            ),
        })
    }

    /// The template's way for every Linear, replaced loudly where the toolchain cannot run it.
    fn start_linears(&mut self, graph: &Graph, settings: &Settings, layer_mode: bool) {
        let rules = Rules::of(settings.march, settings.toolchain);
        let template = settings.template.way();
        let legality = rules.check(template);
        for (id, node, _) in graph.linears() {
            let (start, reason) = match &legality {
                legality if legality.legal => (template, String::new()),
                legality => (Way::A16W8, legality.reason.clone()),
            };
            if !reason.is_empty() {
                self.notices.push(Notice {
                    warning: true,
                    code: "DTYPE_FALLBACK".to_owned(),
                    subject: node.name.clone(),
                    message: format!("{template} was requested and {start} runs: {reason}"),
                });
            }
            let request = LinearRequest {
                requested: WayChoice::Fixed(template),
                explicit: false,
                start,
                fit: None,
                reason,
                high_precision: !layer_mode && feeds_only_outputs(graph, node.outputs[0]),
            };
            self.linears.insert(id.0, request);
        }
    }

    /// What was asked of an inner tensor, if anything.
    pub fn slot(&self, linear: usize, slot: Slot) -> SlotRequest {
        self.slots.get(&(linear, slot)).copied().unwrap_or_default()
    }
}

/// The template's dtype, except that every tensor inside a decomposition is int16.
fn default_values(graph: &Graph, settings: &Settings) -> Vec<ValueRequest> {
    let template = settings.template.activation();
    let inner = |id: usize| is_inner(graph, ValueId(id));
    let dtype = |id: usize| if inner(id) { IntDtype::Int16 } else { template };
    let request = |id: usize| {
        let stated = graph.values[id].stated;
        ValueRequest {
            dtype: stated.dtype.unwrap_or_else(|| dtype(id)),
            explicit: stated.dtype.is_some(),
            observer: settings.observer,
            fixed_scale: stated.scale,
            room: stated.room.unwrap_or(1.0),
        }
    };
    (0..graph.values.len()).map(request).collect()
}

/// Whether a value lies inside a LayerNorm or Softmax: an activation without a name in the ONNX
/// graph, or a constant that such an activation meets.
fn is_inner(graph: &Graph, id: ValueId) -> bool {
    let made_inside = |id: &ValueId| {
        let value = graph.value(*id);
        matches!(value.kind, ValueKind::Activation) && value.onnx.is_none()
    };
    match graph.value(id).kind {
        ValueKind::Constant(_) => graph
            .consumers(id)
            .iter()
            .any(|&consumer| graph.node(consumer).inputs.iter().any(made_inside)),
        _ => made_inside(&id),
    }
}

/// Whether a value reaches the model's outputs and nothing else, moves aside.
pub(super) fn feeds_only_outputs(graph: &Graph, id: ValueId) -> bool {
    // No recursion: a chain of moves is as long as whoever made the model likes.
    let mut open = vec![id];
    let mut seen = BTreeSet::from([id.0]);
    while let Some(value) = open.pop() {
        let consumers = graph.consumers(value);
        if consumers.is_empty() && !graph.is_output(value) {
            return false;
        }
        for &consumer in consumers {
            let node = graph.node(consumer);
            // An argmax reads floats whatever the way of what it is of.
            let exact = |output: &ValueId| !graph.value(*output).kind.is_float();
            if matches!(node.op, Op::Island(_)) && node.outputs.iter().all(exact) {
                continue;
            }
            if !matches!(node.op, Op::Move(_)) {
                return false;
            }
            open.extend(node.outputs.iter().filter(|output| seen.insert(output.0)));
        }
    }
    true
}

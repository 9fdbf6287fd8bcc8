//! One measured batch through the whole quantized model, both ways, compared with its float run.

use std::collections::{BTreeMap, HashMap};

use super::super::{operators::BatchOperators, payload::BatchErrors, session::Session};
use crate::{
    Result,
    artifact::outputs::{Elements, SavedOutput},
    exec::{Capture, Carried, Converted, Prepared, Trouble, Validation, captured, walk},
    graph::ValueId,
    measured::PairedSums,
    metrics::OutputError,
    plan::Plan,
    tensor::{Datum, Tensor},
    ways::isolated::add_errors,
};

/// One batch, compared with its float run.
pub(super) struct BatchRun<'a> {
    session: &'a Session,
    capture: &'a Capture,
    pub(super) errors: BatchErrors,
    pub(super) operators: BatchOperators<'a>,
    /// Where the errors of a Linear are, by its output.
    linears: HashMap<ValueId, usize>,
    /// Where those of the model's outputs are, by value: one may be there twice.
    outputs: HashMap<ValueId, Vec<usize>>,
    pub(super) saved: Vec<SavedOutput>,
}

impl<'a> BatchRun<'a> {
    pub(super) fn new(
        session: &'a Session,
        capture: &'a Capture,
        operators: BatchOperators<'a>,
    ) -> Self {
        let graph = &session.graph;
        let errors = BatchErrors {
            linears: graph
                .linears()
                .map(|(id, ..)| (id.0, PairedSums::default(), <_>::default()))
                .collect(),
            outputs: vec![PairedSums::default(); graph.outputs.len()],
            matmuls: Vec::new(),
            operators: Vec::new(),
            parts: BTreeMap::new(),
            trouble: <_>::default(),
        };
        let made = graph.linears().map(|(_, node, _)| node.outputs[0]);
        let mut outputs: HashMap<ValueId, Vec<usize>> = HashMap::new();
        for (position, &id) in graph.outputs.iter().enumerate() {
            outputs.entry(id).or_default().push(position);
        }
        BatchRun {
            session,
            capture,
            errors,
            operators,
            linears: made.zip(0..).collect(),
            outputs,
            saved: Vec::new(),
        }
    }

    pub(super) fn validation(&mut self, plan: &Plan, prepared: &Prepared) -> Result<()> {
        let Session { graph, float, .. } = self.session;
        let mut machine = Validation::new(graph, plan, prepared);
        walk(
            graph,
            float,
            self.capture,
            self.session.integers(),
            &mut machine,
            |id, value| match value {
                Carried::Value(tensor) => self.compare(id, tensor, false),
                Carried::Exact(datum) => self.save_exact(id, datum, false),
            },
        )?;
        self.keep(machine.trouble, false);
        Ok(())
    }

    pub(super) fn converted(&mut self, plan: &Plan, prepared: &Prepared) -> Result<()> {
        let Session { graph, float, .. } = self.session;
        let mut machine = Converted::new(graph, plan, prepared);
        walk(
            graph,
            float,
            self.capture,
            self.session.integers(),
            &mut machine,
            |id, value| match value {
                Carried::Value(value) => self.compare(id, &value.to_float(), true),
                Carried::Exact(datum) => self.save_exact(id, datum, true),
            },
        )?;
        for (id, _, counts) in &mut self.errors.linears {
            *counts = machine.counts.get(id).copied().unwrap_or_default();
        }
        let peaks = machine
            .peaks
            .into_iter()
            .filter(|(_, peak)| peak.max_abs() > 0);
        self.errors.matmuls = peaks.map(|(id, peak)| (id, peak.max_abs())).collect();
        self.keep(machine.trouble, true);
        Ok(())
    }

    /// An output that is integers or booleans: saved, for it has no error in dB.
    fn save_exact(&mut self, id: ValueId, datum: &Datum, converted: bool) -> Result<()> {
        let graph = &self.session.graph;
        if !self.session.job.settings.save_outputs || !graph.exact_outputs.contains(&id) {
            return Ok(());
        }
        let name = self.session.output_name(id);
        let kind = if converted { "converted" } else { "validation" };
        self.saved.push(SavedOutput::new(&name, kind, datum));
        if !converted && let Some(reference) = self.capture.get(&name) {
            self.saved.push(SavedOutput::new(&name, "float", reference));
        }
        Ok(())
    }

    /// Outputs that follow from no activation: both runs have them from the float run.
    pub(super) fn save_given(&mut self) {
        let model = &self.session.model;
        for name in self.session.given_outputs() {
            let elements = || -> Option<Elements> {
                let constant = || {
                    model
                        .f32_constant(name)
                        .map(|tensor| (&tensor.to_owned()).into())
                };
                let whole = || model.i64_constant(name).as_ref().map(Elements::from);
                let run = self.capture.get(name).map(Elements::from);
                run.or_else(constant).or_else(whole)
            };
            for kind in ["float", "validation", "converted"] {
                let saved = elements().map(|elements| SavedOutput::new(name, kind, elements));
                self.saved.extend(saved);
            }
        }
    }

    /// What could not be made has no figures; of an output, what it is in float is saved all the same.
    fn keep(&mut self, trouble: Trouble, converted: bool) {
        for (&id, reason) in &trouble.lost {
            let id = ValueId(id);
            self.fail(id, converted, reason);
            let is_output =
                self.session.job.settings.save_outputs && self.outputs.contains_key(&id);
            let name = self.session.output_name(id);
            if let Some(reference) = self.capture.get(&name).filter(|_| is_output && !converted) {
                self.saved.push(SavedOutput::new(&name, "float", reference));
            }
        }
        self.errors.trouble[usize::from(converted)] = trouble;
    }

    fn fail(&mut self, id: ValueId, converted: bool, reason: &str) {
        if let Some(&position) = self.linears.get(&id) {
            self.errors.linears[position].1.fail(converted, reason);
        }
        for &position in self.outputs.get(&id).into_iter().flatten() {
            self.errors.outputs[position].fail(converted, reason);
        }
    }

    fn is_compared(&self, id: ValueId) -> bool {
        self.outputs.contains_key(&id) || self.linears.contains_key(&id)
    }

    fn compare(&mut self, id: ValueId, value: &Tensor, converted: bool) -> Result<()> {
        self.operators.compare(id, value, converted)?;
        if !self.is_compared(id) {
            return Ok(());
        }
        let graph = &self.session.graph;
        let name = &graph.value(id).name;
        // What a Linear makes once factors are in its weight has no name in the file.
        let reference = match (captured(graph, self.capture, id), self.operators.float(id)) {
            (Ok(captured), _) => captured,
            (Err(_), Some(computed)) => computed,
            (Err(error), None) => return Err(error),
        };
        if let Some(&position) = self.linears.get(&id) {
            let (_, sums, _) = &mut self.errors.linears[position];
            if let Err(error) = add_errors(sums.side(converted), name, reference, value) {
                sums.fail(converted, &error.to_string());
            }
        }
        for &position in self.outputs.get(&id).into_iter().flatten() {
            let sums = &mut self.errors.outputs[position];
            match OutputError::of_tensors(name, reference, value) {
                Ok(error) => sums.side(converted).merge(&error),
                Err(error) => sums.fail(converted, &error.to_string()),
            }
            if self.session.job.settings.save_outputs {
                let name = self.session.output_name(id);
                let kind = if converted { "converted" } else { "validation" };
                self.saved.push(SavedOutput::new(&name, kind, value));
                if !converted {
                    self.saved.push(SavedOutput::new(&name, "float", reference));
                }
            }
        }
        Ok(())
    }
}

//! Stage validate: the whole model under the final plan, VALIDATION and CONVERTED against float,
//! batch by batch; the reduce folds the batches in order and reports.

mod told;

use std::collections::{BTreeMap, HashMap};

use super::{
    Blobs, Context, Event, LayerAccumulated, ModelInput, Next, Notice, OutputMeasured, Stage,
    TaskInput, TaskOutput, convert, mend,
    operators::{self, BatchOperators},
    payload::{BatchErrors, ValidateMap, ValidateReduce, Validated, decode, encode, load, store},
    session::Session,
    trouble,
};
use told::{mended_layers, not_reached, parted, parts, reached, wide_accumulators};

use crate::{
    Error, Result,
    artifact::outputs::{SavedOutput, save_batch},
    exec::{Capture, Carried, Converted, Prepared, Trouble, Validation, captured, walk},
    graph::{NodeId, ValueId},
    measured::{Measured, PairedSums, Planned, linear_scale},
    plan::Plan,
    sensitivity::{Analysis, FloatValues, PROBES, converted_rows, estimate},
    tensor::{Datum, Tensor},
    ways::isolated::add_errors,
};

/// The stage: one map a measured file.
pub(super) fn stage(session: &Session, planned: &str) -> Result<Stage> {
    of(session, planned, None)
}

/// The same of what a search has come to.
pub(super) fn confirm(session: &Session, planned: &str, search: String) -> Result<Stage> {
    of(session, planned, Some(search))
}

fn of(session: &Session, planned: &str, search: Option<String>) -> Result<Stage> {
    let maps: Result<Vec<Vec<u8>>> = (0..session.measured_files().len())
        .map(|file| {
            encode(
                "validate task",
                &ValidateMap {
                    file,
                    planned: planned.to_owned(),
                },
            )
        })
        .collect();
    let reduce = ValidateReduce {
        planned: planned.to_owned(),
        search,
    };
    Ok(Stage {
        name: "validate",
        maps: maps?,
        reduce: encode("validate reduce", &reduce)?,
    })
}

/// Runs every batch of one file all three ways.
pub(super) fn map(
    session: &Session,
    task: &TaskInput<'_>,
    context: &Context<'_>,
) -> Result<TaskOutput> {
    let ValidateMap { file, planned } = decode("validate task", task.payload)?;
    let blobs = context.blobs;
    let of: Planned = load("plan", &planned, blobs)?;
    let variant = session.of_plan(&of, blobs)?;
    let session = variant.as_deref().unwrap_or(session);
    let plan = of.plan;
    let prepared = session.prepared(&planned, &plan)?;
    let mut validated = Validated {
        batches: Vec::new(),
        outputs: Vec::new(),
    };
    let mut batches = session.file(session.measured_files(), file, blobs)?;
    let bytes = session.validate_bytes(&plan, batches.elements());
    let bytes = bytes.saturating_add(batches.reading_bytes());
    let held = context.reserve(session, &format!("validating {}", batches.told()), bytes)?;
    session.for_each_batch(&mut batches, context, |_, batch| {
        let capture = session.float_run(batch, &session.reference_values())?;
        let (graph, float) = (&session.graph, &*session.float);
        let analysis = Analysis::new(graph, float, &plan, &prepared, session.integers());
        let values = FloatValues::new(&analysis, capture.clone())?;
        let operators = BatchOperators::alone(graph, &plan, &analysis, &values);
        let mut run = BatchRun::new(session, &capture, operators);
        run.validation(&plan, &prepared)?;
        run.converted(&plan, &prepared)?;
        run.errors.operators = run.operators.finish();
        if session.job.settings.save_outputs {
            let bytes = save_batch(&run.saved)?;
            let io = |source| Error::Io {
                what: "outputs".to_owned(),
                source,
            };
            validated.outputs.push(blobs.put(bytes).map_err(io)?);
        }
        validated.batches.push(run.errors);
        Ok(())
    })?;
    // A layer by itself has no other operator to part at.
    let whole = !matches!(session.job.model, ModelInput::Layers { .. });
    if whole && validated.batches.iter().any(|batch| parts(&batch.outputs)) {
        // Passes backwards take more; whoever waits for that holds nothing.
        drop(held);
        let bytes = session.sensitivity_bytes(&plan, batches.elements(), PROBES);
        let bytes = bytes.saturating_add(batches.reading_bytes());
        let what = format!("finding where {} parts", batches.told());
        let _held = context.reserve(session, &what, bytes)?;
        let mut parted = validated.batches.iter_mut().zip(0u64..);
        session.for_each_batch(&mut batches, context, |_, batch| {
            let Some((errors, number)) = parted.next().filter(|(errors, _)| parts(&errors.outputs))
            else {
                return Ok(());
            };
            let capture = session.float_run(batch, &session.reference_values())?;
            let (graph, float) = (&session.graph, &*session.float);
            let analysis = Analysis::new(graph, float, &plan, &prepared, session.integers());
            let values = FloatValues::new(&analysis, capture)?;
            errors.parts = where_they_part(&analysis, &values, ((file as u64) << 32) | number)?;
            Ok(())
        })?;
    }
    let result = encode("validation", &validated)?;
    Ok(TaskOutput {
        result,
        ..TaskOutput::default()
    })
}

/// What each node's integers cost the outputs beyond its fake quants, to first order.
fn where_they_part(
    analysis: &Analysis<'_>,
    values: &FloatValues,
    seed: u64,
) -> Result<BTreeMap<usize, Vec<f64>>> {
    let graph = analysis.graph();
    let rows = converted_rows(graph, analysis.plan());
    let estimate = estimate(analysis, values, &rows, PROBES, seed)?;
    let mut parts = BTreeMap::new();
    for (index, row) in rows.iter().enumerate() {
        let energy = |output| estimate.energy(index, output).unwrap_or(0.0);
        let energies: Vec<f64> = (0..graph.outputs.len()).map(energy).collect();
        if let Some(node) = row
            .node(graph)
            .filter(|_| energies.iter().any(|e| *e > 0.0))
        {
            parts.insert(node.0, energies);
        }
    }
    Ok(parts)
}

/// Folds the batches in order, reports, starts the next stage.
pub(super) fn reduce(
    session: &Session,
    task: &TaskInput<'_>,
    blobs: &dyn Blobs,
) -> Result<TaskOutput> {
    let ValidateReduce {
        planned: digest,
        search,
    } = decode("validate reduce", task.payload)?;
    let mut planned: Planned = load("plan", &digest, blobs)?;
    let plain = session;
    let variant = session.of_plan(&planned, blobs)?;
    let session = variant.as_deref().unwrap_or(plain);
    let mut total: Option<BatchErrors> = None;
    let mut saved = Vec::new();
    for input in task.inputs {
        let validated: Validated = decode("validation", input)?;
        saved.extend(validated.outputs);
        for batch in validated.batches {
            match &mut total {
                Some(total) => merge(total, &batch),
                None => total = Some(batch),
            }
        }
    }
    let total = total.unwrap_or_default();
    if total.linears.iter().all(|(_, sums, _)| sums.is_empty()) {
        return Err(Error::Setting {
            setting: "evaluation".to_owned(),
            reason: "every batch is empty: no Linear has an element to measure; give at least one \
                     batch without a dimension of 0"
                .to_owned(),
        });
    }
    if let Some(stage) = mending(plain, &digest, &planned, search.as_deref(), &total, blobs)? {
        return Ok(TaskOutput {
            next: Some(Next::Stage(stage)),
            ..TaskOutput::default()
        });
    }
    let mut notices = std::mem::take(&mut planned.found);
    notices.extend(not_reached(session, &planned, &total));
    notices.extend(parted(session, &total));
    notices.extend(wide_accumulators(session, &total));
    let known: Vec<&Notice> = planned.notices.iter().chain(&notices).collect();
    let met = trouble::in_runs(&session.graph, &total.trouble, &known);
    notices.extend(met);
    let mut events: Vec<Event> = notices.iter().cloned().map(Event::Notice).collect();
    planned.notices.extend(notices);
    for (id, sums, _) in &total.linears {
        events.push(Event::Accumulated(LayerAccumulated {
            layer: session.graph.node(NodeId(*id)).name.clone(),
            validation: sums.metrics(false, linear_scale(&planned.plan, *id)),
            converted: sums.metrics(true, linear_scale(&planned.plan, *id)),
        }));
    }
    let layers = mended_layers(session, &mut planned, &total)?;
    events.extend(layers.into_iter().map(Event::Layer));
    let operators = operators::measured(&session.graph, &planned.plan, &total.operators);
    events.extend(
        operators
            .into_iter()
            .map(|row| Event::Operator(Box::new(row))),
    );
    for (&id, sums) in session.graph.outputs.iter().zip(&total.outputs) {
        let scale = planned.plan.params(id).map(|params| params.scale);
        events.push(Event::Output(OutputMeasured {
            output: session.output_name(id),
            validation: sums.metrics(false, scale),
            converted: sums.metrics(true, scale),
        }));
    }
    let BatchErrors {
        linears,
        outputs,
        operators,
        ..
    } = total;
    let measured = store(
        "measurements",
        &Measured {
            planned,
            linears,
            outputs,
            operators,
            saved,
        },
        blobs,
    )?;
    let next = Some(Next::Stage(convert::stage(session, &measured)?));
    Ok(TaskOutput {
        events,
        next,
        ..TaskOutput::default()
    })
}

/// The stage that goes on where the outputs are not as good as was asked and something may help.
fn mending(
    session: &Session,
    digest: &str,
    planned: &Planned,
    search: Option<&str>,
    total: &BatchErrors,
    blobs: &dyn Blobs,
) -> Result<Option<Stage>> {
    let wanted = session.job.settings.min_output_sqnr;
    let [validation, converted] = reached(total);
    let worst = validation.min(converted);
    // What has no figure is no matter of precision.
    if wanted <= 0.0 || worst >= wanted || worst == f64::NEG_INFINITY {
        return Ok(None);
    }
    match search {
        None => {
            let plain = planned.calibration.clone();
            mend::begin(session, digest.to_owned(), plain).map(Some)
        }
        Some(_) if !planned.in_the_way.is_empty() => Ok(None),
        Some(search) => mend::again(session, search, wanted - worst, blobs),
    }
}

fn merge(total: &mut BatchErrors, batch: &BatchErrors) {
    for ((_, sums, counts), (_, more, new)) in total.linears.iter_mut().zip(&batch.linears) {
        sums.merge(more);
        *counts = counts.merge(*new);
    }
    for (sums, more) in total.outputs.iter_mut().zip(&batch.outputs) {
        sums.merge(more);
    }
    for ((_, sums), (_, more)) in total.operators.iter_mut().zip(&batch.operators) {
        sums.merge(more);
    }
    for (&node, energies) in &batch.parts {
        let sums = total
            .parts
            .entry(node)
            .or_insert_with(|| vec![0.0; energies.len()]);
        sums.iter_mut()
            .zip(energies)
            .for_each(|(sum, energy)| *sum += energy);
    }
    for (id, new) in &batch.matmuls {
        match total.matmuls.iter_mut().find(|(known, _)| known == id) {
            Some((_, peak)) => *peak = (*peak).max(*new),
            None => total.matmuls.push((*id, *new)),
        }
    }
    for (trouble, more) in total.trouble.iter_mut().zip(&batch.trouble) {
        trouble.merge(more);
    }
}

/// One batch, compared with its float run.
struct BatchRun<'a> {
    session: &'a Session,
    capture: &'a Capture,
    errors: BatchErrors,
    operators: BatchOperators<'a>,
    /// Where the errors of a Linear are, by its output.
    linears: HashMap<ValueId, usize>,
    /// Where those of the model's outputs are, by value: one may be there twice.
    outputs: HashMap<ValueId, Vec<usize>>,
    saved: Vec<SavedOutput>,
}

impl<'a> BatchRun<'a> {
    fn new(session: &'a Session, capture: &'a Capture, operators: BatchOperators<'a>) -> Self {
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

    fn validation(&mut self, plan: &Plan, prepared: &Prepared) -> Result<()> {
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

    fn converted(&mut self, plan: &Plan, prepared: &Prepared) -> Result<()> {
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

    /// What could not be made has no figures.
    fn keep(&mut self, trouble: Trouble, converted: bool) {
        for (&id, reason) in &trouble.lost {
            self.fail(ValueId(id), converted, reason);
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
        let reference = captured(graph, self.capture, id)?;
        if let Some(&position) = self.linears.get(&id) {
            let (_, sums, _) = &mut self.errors.linears[position];
            if let Err(error) = add_errors(sums.side(converted), name, reference, value) {
                sums.fail(converted, &error.to_string());
            }
        }
        for &position in self.outputs.get(&id).into_iter().flatten() {
            let sums = &mut self.errors.outputs[position];
            if let Err(error) = add_errors(sums.side(converted), name, reference, value) {
                sums.fail(converted, &error.to_string());
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

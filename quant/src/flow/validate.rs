//! Stage validate: the whole model under the final plan, VALIDATION and CONVERTED against float,
//! batch by batch; the reduce folds the batches in order and reports.

mod advice;
mod batch_run;
mod told;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    Blobs, Context, Event, LayerAccumulated, ModelInput, Notice, OutputMeasured, QueuedStage, mend,
    operators::BatchOperators,
    payload::{BatchErrors, load, store},
    session::Session,
    stage::{Parts, Stage},
    targets::Targets,
    trouble,
};
use batch_run::BatchRun;
use told::{mended_layers, not_reached, parted, parts, wide_accumulators};

use crate::{
    Error, Result,
    artifact::outputs::save_batch,
    graph::NodeId,
    measured::{Measured, PairedSums, Planned, linear_scale, operators},
    metrics::OutputError,
    plan::Calibration,
    sensitivity::{Analysis, FloatValues, PROBES, converted_rows, estimate},
    settings::DEFAULT_MIN_OUTPUT_SQNR,
};

/// The whole quantized model against float.
pub(super) struct Validate;

/// A measured file.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct File {
    file: usize,
    /// Blob of the [`Planned`].
    planned: String,
}

/// What is validated.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Given {
    /// Blob of the [`Planned`].
    planned: String,
    /// Blob of the search that it confirms.
    search: Option<String>,
}

/// What a file left: one for each of its batches, in order.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Validated {
    batches: Vec<BatchErrors>,
    /// Blobs of the saved outputs, where they were asked for.
    outputs: Vec<String>,
}

/// What it comes to.
pub(super) enum Verdict {
    /// It was told. Blob of the [`Measured`].
    Measured(String),
    /// The outputs are not as good as was asked, and nothing was tried yet.
    Begin(mend::Begin),
    /// What a search promised was not confirmed, and it may go on.
    Again {
        /// Blob of the search.
        search: String,
        /// dB that are missing, by output.
        short_db: Vec<f64>,
    },
}

impl Validate {
    /// One map a measured file; `search` is what has come to the plan, where something has.
    pub(super) fn start(
        session: &Session,
        planned: &str,
        search: Option<String>,
    ) -> Result<QueuedStage> {
        let map = |file| File {
            file,
            planned: planned.to_owned(),
        };
        let given = Given {
            planned: planned.to_owned(),
            search,
        };
        Self::queued((0..session.measured_files().len()).map(map), &given)
    }
}

impl Stage for Validate {
    const NAME: &'static str = "validate";
    type Map = File;
    type Part = Validated;
    type Given = Given;
    type Done = Verdict;

    fn map(
        session: &Session,
        file: File,
        context: &Context<'_>,
        _told: &mut Vec<Event>,
    ) -> Result<Validated> {
        self::map(session, file, context)
    }

    fn reduce(
        session: &Session,
        given: Given,
        parts: Parts<'_, Self>,
        blobs: &dyn Blobs,
        told: &mut Vec<Event>,
    ) -> Result<Verdict> {
        self::reduce(session, given, parts, blobs, told)
    }
}

/// Runs every batch of one file all three ways.
fn map(
    session: &Session,
    File { file, planned }: File,
    context: &Context<'_>,
) -> Result<Validated> {
    let blobs = context.blobs;
    let of: Planned = load("plan", &planned, blobs)?;
    let variant = session.of_plan(&of, blobs)?;
    let session = variant.as_deref().unwrap_or(session);
    let plan = of.plan;
    let prepared = session.prepared(&planned, &plan, blobs)?;
    let mut validated = Validated::default();
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
        if session.job.settings.save_outputs {
            run.save_given();
        }
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
    Ok(validated)
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
fn reduce(
    session: &Session,
    Given {
        planned: digest,
        search,
    }: Given,
    parts: Parts<'_, Validate>,
    blobs: &dyn Blobs,
    events: &mut Vec<Event>,
) -> Result<Verdict> {
    let mut planned: Planned = load("plan", &digest, blobs)?;
    let plain = session;
    let variant = session.of_plan(&planned, blobs)?;
    let session = variant.as_deref().unwrap_or(plain);
    let mut total: Option<BatchErrors> = None;
    let mut saved = Vec::new();
    for validated in parts {
        let validated = validated?;
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
    if let Some(verdict) = not_enough(plain, digest, &planned, search, &total, blobs)? {
        return Ok(verdict);
    }
    let mut notices = std::mem::take(&mut planned.found);
    notices.extend(not_reached(session, &planned, &total)?);
    notices.extend(parted(session, &total));
    notices.extend(wide_accumulators(session, &total));
    let operators = operators::measured(&session.graph, &planned.plan, &total.operators);
    let told: Vec<&Notice> = planned.notices.iter().chain(&notices).collect();
    let met = trouble::in_runs(&session.graph, &total.trouble, &told);
    notices.extend(met);
    if is_poor(session, &total)? {
        let calibration: Calibration = load("calibration", &planned.calibration, blobs)?;
        let places = match &planned.mended {
            Some(mended) => Some(plain.places(&mended.plain, blobs)?),
            None => None,
        };
        let known = advice::Known {
            session,
            planned: &planned,
            places: places.as_deref(),
            floors: &calibration.floors,
            notices: &planned.notices.iter().chain(&notices).collect::<Vec<_>>(),
        };
        notices.extend(advice::advice(&known, &operators));
    }
    events.extend(notices.iter().cloned().map(Event::Notice));
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
    store(
        "measurements",
        &Measured {
            planned,
            linears,
            outputs,
            operators,
            saved,
        },
        blobs,
    )
    .map(Verdict::Measured)
}

/// The verdict that the outputs are not as good as was asked, where something may help.
fn not_enough(
    session: &Session,
    digest: String,
    planned: &Planned,
    search: Option<String>,
    total: &BatchErrors,
    blobs: &dyn Blobs,
) -> Result<Option<Verdict>> {
    let targets = Targets::of(session)?;
    if targets.short(total).is_empty() {
        return Ok(None);
    }
    match search {
        None => {
            let plain = match &planned.mended {
                Some(asked) => asked.plain.clone(),
                None => planned.calibration.clone(),
            };
            let begin = mend::Begin::search(digest, plain, planned.changes(), targets.aims(total));
            Ok(Some(Verdict::Begin(begin)))
        }
        Some(search) if planned.in_the_way.is_empty() && mend::may_go_on(&search, blobs)? => {
            let short_db = targets.short_db(total);
            Ok(Some(Verdict::Again { search, short_db }))
        }
        Some(_) => Ok(None),
    }
}

/// Whether an output is short of its target, or of the usual one where there is none.
fn is_poor(session: &Session, total: &BatchErrors) -> Result<bool> {
    let poor = |sums: &PairedSums<OutputError>| {
        let db = [false, true].map(|converted| sums.metrics(converted, None).sqnr_rank());
        let worst = db[0].min(db[1]);
        worst.is_finite() && worst < DEFAULT_MIN_OUTPUT_SQNR
    };
    let targets = Targets::of(session)?;
    Ok(!targets.short(total).is_empty() || (targets.is_none() && total.outputs.iter().any(poor)))
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

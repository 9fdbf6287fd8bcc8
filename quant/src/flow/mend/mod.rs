//! Stage mend: what costs the model's outputs most is found and gets its cheapest remedy, round by round,
//! until the outputs are as good as was asked or nothing is left that helps.
//!
//! ```text
//! validate -> fit -> observe (remedies beside what they replace) -> mend -> mend -> ... -> validate -> convert
//! ```
//!
//! A round is one map a calibration file: under the plan as it stands, what each fake quant alone costs
//! each output ([`crate::sensitivity`]), and what all of them cost it together. The reduce keeps the
//! changes of the last round that helped, takes back those that did not, and makes the next
//! ([`search`]). Measured files take no part: they confirm the result.

mod search;

use serde::{Deserialize, Serialize};

use super::{
    Blobs, Context, Event, Next, Stage, TaskInput, TaskOutput, observe, offers,
    payload::{decode, encode, load, store},
    session::Session,
    trouble, validate,
    variants::{Change, Mended, Variant},
};
use crate::{
    Error, Result,
    exec::{Carried, Validation, captured, walk},
    measured::Planned,
    metrics::ErrorSums,
    plan::{Calibration, Plan},
    report::MendStep,
    sensitivity::{Analysis, Estimate, FloatValues, estimate, rows},
    ways::isolated::add_errors,
};

use search::Pending;

/// Rounds, at most: each makes many changes.
const MAX_ROUNDS: u32 = 16;
/// Passes of random signs over all calibration batches together: they rank to about a dB.
const SIGNS: usize = 16;
/// Calibration differs from what is measured: times that the search goes on with a higher aim because the
/// measured files did not confirm it.
const MAX_CONFIRMATIONS: u32 = 3;

/// Where the search stands.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Search {
    /// Blob of the [`Planned`] that was not good enough.
    unmended: String,
    /// Blob of the [`Planned`] as it stands.
    planned: String,
    /// Blob of the calibration of the model as it is.
    plain: String,
    /// Blob of the calibration with the remedies' own tensors.
    calibration: String,
    /// SQNR in dB that every output is to reach on the calibration batches.
    aim_db: f64,
    /// What the worst of them has there.
    reached_db: f64,
    round: u32,
    /// Times that the measured files did not confirm what calibration promised.
    confirmations: u32,
    /// Changes of the last round, to be kept where they helped.
    pending: Vec<Pending>,
    /// Changes that did not help.
    refused: Vec<Change>,
    /// What was done so far.
    steps: Vec<MendStep>,
}

/// What follows on the observation of the remedies.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Begin {
    /// Blob of the [`Planned`] that is not good enough.
    pub(super) planned: String,
    /// Blob of the calibration of the model as it is.
    pub(super) plain: String,
    /// What stays whatever the search finds: changes that settings ask for.
    asked: Vec<Change>,
    /// SQNR in dB that every output is to reach; `None` where there is no search, and what was asked for
    /// is all that is changed.
    aim_db: Option<f64>,
}

/// The first stage of a search: fits are made, then remedies observed. `asked` are the changes of the plan
/// that is not good enough.
pub(super) fn begin(
    session: &Session,
    planned: String,
    plain: String,
    asked: Vec<Change>,
    blobs: &dyn Blobs,
) -> Result<Stage> {
    let aim_db = Some(session.job.settings.min_output_sqnr);
    let begin = Begin {
        planned,
        plain,
        asked,
        aim_db,
    };
    offers::stage(session, begin, blobs)
}

/// The first stage on the way to a plan with the changes that settings ask for, and no others.
pub(super) fn apply(
    session: &Session,
    planned: String,
    plain: String,
    asked: Vec<Change>,
) -> Result<Stage> {
    let begin = Begin {
        planned,
        plain,
        asked,
        aim_db: None,
    };
    observe::remedies(session, begin)
}

/// The first round of a search, once the remedies were observed; the runs of the whole model where there
/// is no search.
pub(super) fn observed(
    session: &Session,
    begin: Begin,
    calibration: &str,
    blobs: &dyn Blobs,
) -> Result<Stage> {
    let Begin {
        planned,
        plain,
        asked,
        aim_db,
    } = begin;
    let mut search = Search {
        planned: String::new(),
        unmended: planned,
        plain,
        calibration: calibration.to_owned(),
        aim_db: aim_db.unwrap_or(0.0),
        reached_db: f64::NEG_INFINITY,
        round: 0,
        confirmations: 0,
        pending: Vec::new(),
        refused: Vec::new(),
        steps: Vec::new(),
    };
    replan(session, &mut search, asked, blobs)?;
    match aim_db {
        Some(_) => round(session, &search, blobs),
        None => validate::stage(session, &search.planned),
    }
}

/// Further rounds with a higher aim, where the measured files are this many dB short of what was asked;
/// none where there were enough.
pub(super) fn again(
    session: &Session,
    search: &str,
    short_db: f64,
    blobs: &dyn Blobs,
) -> Result<Option<Stage>> {
    let mut search: Search = load("search", search, blobs)?;
    if search.confirmations >= MAX_CONFIRMATIONS || search.round >= MAX_ROUNDS {
        return Ok(None);
    }
    search.confirmations += 1;
    search.aim_db = search.aim_db.max(search.reached_db) + short_db + 0.3;
    round(session, &search, blobs).map(Some)
}

#[derive(Debug, Serialize, Deserialize)]
struct MendMap {
    file: usize,
    search: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct MendReduce {
    search: String,
}

/// What batches told.
#[derive(Debug, Serialize, Deserialize)]
struct Told {
    /// What each fake quant alone costs, in the order of [`rows`].
    estimate: Estimate,
    /// Errors of the whole quantized model, by output.
    outputs: Vec<ErrorSums>,
}

fn round(session: &Session, search: &Search, blobs: &dyn Blobs) -> Result<Stage> {
    let search = store("search", search, blobs)?;
    let maps: Result<Vec<Vec<u8>>> = (0..session.job.calibration.len())
        .map(|file| {
            let search = search.clone();
            encode("mend task", &MendMap { file, search })
        })
        .collect();
    Ok(Stage {
        name: "mend",
        maps: maps?,
        reduce: encode("mend reduce", &MendReduce { search })?,
    })
}

/// What each fake quant costs on the batches of one file, and what all do.
pub(super) fn map(
    session: &Session,
    task: &TaskInput<'_>,
    context: &Context<'_>,
) -> Result<TaskOutput> {
    let MendMap { file, search } = decode("mend task", task.payload)?;
    let blobs = context.blobs;
    let Search {
        planned: of, plain, ..
    } = load("search", &search, blobs)?;
    let planned: Planned = load("plan", &of, blobs)?;
    let session = session.variant(&plain, &Variant::Changed(planned.changes()), blobs)?;
    let session = session.as_ref();
    let plan = &planned.plan;
    let prepared = session.prepared(&of, plan, blobs)?;
    let mut batches = session.file(&session.job.calibration, file, blobs)?;
    let probes = SIGNS.div_ceil(session.job.calibration.len()).max(2);
    let bytes = session.sensitivity_bytes(plan, batches.elements(), probes);
    let bytes = bytes.saturating_add(batches.reading_bytes());
    let _held = context.reserve(session, &format!("mending on {}", batches.told()), bytes)?;
    let mut told: Vec<Told> = Vec::new();
    let rows = rows(&session.graph, plan);
    session.for_each_batch(&mut batches, context, |_, batch| {
        let capture = session.float_run(batch, &session.all_values())?;
        let (graph, float) = (&session.graph, &*session.float);
        let mut outputs = vec![ErrorSums::default(); graph.outputs.len()];
        let mut machine = Validation::new(graph, plan, &prepared);
        walk(
            graph,
            float,
            &capture,
            session.integers(),
            &mut machine,
            |id, value| {
                let Carried::Value(value) = value else {
                    return Ok(());
                };
                for (&output, sums) in graph.outputs.iter().zip(&mut outputs) {
                    if output == id {
                        let reference = captured(graph, &capture, id)?;
                        // What cannot be compared is no matter of precision; validate says so.
                        let _ = add_errors(sums, &graph.value(id).name, reference, value);
                    }
                }
                Ok(())
            },
        )?;
        let analysis = Analysis::new(graph, float, plan, &prepared, session.integers());
        let values = FloatValues::new(&analysis, capture)?;
        // Batches have signs of their own, whoever runs them.
        let seed = ((file as u64) << 32) | told.len() as u64;
        let estimate = estimate(&analysis, &values, &rows, probes, seed)?;
        told.push(Told { estimate, outputs });
        Ok(())
    })?;
    Ok(TaskOutput {
        result: encode("mend result", &told)?,
        ..TaskOutput::default()
    })
}

/// Keeps what helped, and makes the next changes or ends.
pub(super) fn reduce(
    session: &Session,
    task: &TaskInput<'_>,
    blobs: &dyn Blobs,
) -> Result<TaskOutput> {
    let MendReduce { search } = decode("mend reduce", task.payload)?;
    let mut search: Search = load("search", &search, blobs)?;
    let mut planned: Planned = load("plan", &search.planned, blobs)?;
    let Some(told) = folded(task.inputs)? else {
        return Err(Error::Payload {
            what: "mend result",
            reason: "there was no batch".to_owned(),
        });
    };
    let places = session.places(&search.plain, blobs)?;
    let changes = planned.changes();
    let variant = session.variant(&search.plain, &Variant::Changed(changes.clone()), blobs)?;
    let ledger = search::Ledger::new(&variant, &places, &planned, &told.estimate, &told.outputs)?;

    let mut events = Vec::new();
    let mut kept = changes;
    let pending = std::mem::take(&mut search.pending);
    for pending in pending {
        let step = ledger.settle(pending, search.round);
        if !step.kept {
            kept.retain(|change| *change != step.change);
            search.refused.push(step.change);
        }
        events.push(Event::Mended(step.told.clone()));
        search.steps.push(step.told);
    }
    let took_back = kept.len() < planned.changes().len();
    search.reached_db = ledger.worst_db();
    let next = ledger.next(search.aim_db, &kept, &search.refused);
    let done = ledger.reached(search.aim_db) || next.is_empty() || search.round >= MAX_ROUNDS;
    search.round += 1;
    let next = match (done, took_back) {
        (true, false) => {
            planned.in_the_way = match ledger.reached(search.aim_db) {
                true => Vec::new(),
                false => ledger.in_the_way(),
            };
            planned.steps.clone_from(&search.steps);
            search.planned = store("plan", &planned, blobs)?;
            let searched = store("search", &search, blobs)?;
            validate::confirm(session, &search.planned, searched)?
        }
        _ => {
            let next = if done { Vec::new() } else { next };
            kept.extend(next.iter().map(|pending| pending.change));
            search.pending = next;
            replan(session, &mut search, kept, blobs)?;
            round(session, &search, blobs)?
        }
    };
    Ok(TaskOutput {
        events,
        next: Some(Next::Stage(next)),
        ..TaskOutput::default()
    })
}

/// All batches in order; None of none.
fn folded(inputs: &[Vec<u8>]) -> Result<Option<Told>> {
    let mut total: Option<Told> = None;
    for input in inputs {
        let batches: Vec<Told> = decode("mend result", input)?;
        for batch in batches {
            match &mut total {
                Some(total) => {
                    total.estimate.merge(&batch.estimate);
                    let outputs = total.outputs.iter_mut().zip(&batch.outputs);
                    outputs.for_each(|(sums, more)| sums.merge(more));
                }
                None => total = Some(batch),
            }
        }
    }
    Ok(total)
}

/// Makes the plan under these changes, which then stands.
fn replan(
    session: &Session,
    search: &mut Search,
    changes: Vec<Change>,
    blobs: &dyn Blobs,
) -> Result<()> {
    let mut planned: Planned = load("plan", &search.unmended, blobs)?;
    let calibration: Calibration = load("calibration", &search.calibration, blobs)?;
    let variant = session.variant(&search.plain, &Variant::Changed(changes.clone()), blobs)?;
    for (id, layer) in &mut planned.layers {
        let way = changes.iter().rev().find_map(|change| match *change {
            Change::Way { linear, way, fit } if linear == *id => Some((way, fit)),
            _ => None,
        });
        if let Some((way, fit)) = way.filter(|way| *way != (layer.effective, layer.fit)) {
            layer.mend(way, fit);
        }
    }
    let (plan, found) = Plan::build(&variant.scale_source(&calibration), &planned.chosen())?;
    planned.found = trouble::of_plan(&variant.graph, &calibration, &plan, found);
    planned.plan = plan;
    planned.calibration.clone_from(&search.calibration);
    planned.mended = Some(Mended {
        plain: search.plain.clone(),
        changes,
    });
    search.planned = store("plan", &planned, blobs)?;
    Ok(())
}

//! Stage mend: what costs the model's outputs most is found and gets its cheapest remedy, round by round,
//! until the outputs are as good as was asked or nothing is left that helps.
//!
//! ```text
//! validate -> observe (remedies beside what they replace) -> mend -> mend -> ... -> validate -> convert
//!                                                             |  ^
//!                                                             fit
//! ```
//!
//! A round is one map a calibration file: under the plan as it stands, what each fake quant and each table
//! alone costs each output ([`crate::sensitivity`]), and what all of them cost it together, in VALIDATION
//! and in CONVERTED. The reduce keeps the changes of the last round that helped, takes back those that did not, and makes the next
//! ([`search`]). Integers are fitted once a Linear's turn has come, of which a round then waits. Measured files
//! take no part: they confirm the result.

mod begin;
mod best;
mod search;

use std::{collections::BTreeSet, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    Blobs, Context, Event, QueuedStage,
    float_share::{self, PARTLY_FLOAT},
    offers,
    payload::{load, store},
    session::Session,
    stage::{Parts, Peak, Stage},
    trouble,
    variants::Variant,
};
use crate::{
    Error, Result,
    exec::{Capture, Carried, Converted, Flow, Machine, Validation, captured, walk},
    graph::{Node, Op},
    measured::Planned,
    metrics::ErrorSums,
    plan::{Calibration, Change, Mended, Plan},
    report::MendStep,
    sensitivity::{Analysis, Estimate, FloatValues, estimate, probes, rows},
    tensor::Tensor,
    ways::isolated::add_errors,
};

pub(super) use begin::{Begin, observed};
use best::Best;
use search::{Next, Pending, settle_together};

/// Rounds, at most: each makes many changes.
const MAX_ROUNDS: u32 = 16;
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
    /// SQNR in dB that each output is to reach on the calibration batches.
    aims: Vec<f64>,
    /// What each of them has there.
    reached_db: Vec<f64>,
    round: u32,
    /// Times that the measured files did not confirm what calibration promised.
    confirmations: u32,
    /// Changes of the last round, to be kept where they helped.
    pending: Vec<Pending>,
    /// Changes that did not help.
    refused: Vec<Change>,
    /// Linears whose fits are known, by node index.
    fitted: BTreeSet<usize>,
    /// What was done so far.
    steps: Vec<MendStep>,
    /// The best plan so far of which nothing was taken back.
    best: Option<Best>,
}

/// Whether there may be further rounds.
pub(super) fn may_go_on(search: &str, blobs: &dyn Blobs) -> Result<bool> {
    let search: Search = load("search", search, blobs)?;
    Ok(search.confirmations < MAX_CONFIRMATIONS && search.round < MAX_ROUNDS)
}

/// Further rounds with a higher aim, where the measured files leave each output short by these dB.
pub(super) fn again(
    session: &Session,
    search: &str,
    short_db: &[f64],
    blobs: &dyn Blobs,
) -> Result<QueuedStage> {
    let mut search: Search = load("search", search, blobs)?;
    search.confirmations += 1;
    let reached = search.reached_db.iter().zip(short_db);
    for (aim, (reached, short)) in search.aims.iter_mut().zip(reached) {
        if *short > 0.0 {
            *aim = aim.max(*reached) + short + 0.3;
        }
    }
    round(session, &search, blobs)
}

/// One round.
pub(super) struct Mend;

/// A calibration file, and the blob of the [`Search`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct File {
    file: usize,
    search: String,
}

/// What a round comes to.
pub(super) enum Round {
    /// Changes were made; another round tells whether they helped.
    Changed(Search),
    /// The turn of these Linears, by node index, has come, and their fits are not known.
    Unfitted(Begin, Vec<usize>),
    /// Enough was done, or nothing is left that helps.
    Ended {
        /// Blob of the [`Planned`].
        planned: String,
        /// Blob of the search, where there was one.
        search: Option<String>,
    },
}

/// What a batch told.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Told {
    /// What each fake quant and table alone costs, in the order of [`rows`].
    estimate: Estimate,
    /// Errors of the whole quantized model in VALIDATION and in CONVERTED, by output.
    outputs: [Vec<ErrorSums>; 2],
}

/// A round of the search as it stands.
pub(super) fn round(session: &Session, search: &Search, blobs: &dyn Blobs) -> Result<QueuedStage> {
    let search = store("search", search, blobs)?;
    let map = |file| File {
        file,
        search: search.clone(),
    };
    Mend::queued((0..session.job.calibration.len()).map(map), &search)
}

impl Stage for Mend {
    const NAME: &'static str = "mend";
    type Map = File;
    /// By batch of the file.
    type Part = Vec<Told>;
    /// Blob of the [`Search`].
    type Given = String;
    type Done = Round;

    fn peak(
        session: &Session,
        File { file, search }: &File,
        context: &Context<'_>,
    ) -> Result<Option<Peak>> {
        let (session, planned, _) = of_search(session, search, context.blobs)?;
        let batches = session.file(&session.job.calibration, *file, context.blobs)?;
        let passes = probes(session.job.calibration.len());
        let bytes = session.sensitivity_bytes(&planned.plan, batches.elements(), passes);
        Ok(Some(Peak {
            what: format!("mending on {}", batches.told()),
            bytes: bytes.saturating_add(batches.reading_bytes()),
        }))
    }

    fn map(
        session: &Session,
        file: File,
        context: &Context<'_>,
        _told: &mut Vec<Event>,
    ) -> Result<Vec<Told>> {
        self::map(session, file, context)
    }

    fn reduce(
        session: &Session,
        search: String,
        parts: Parts<'_, Self>,
        blobs: &dyn Blobs,
        told: &mut Vec<Event>,
    ) -> Result<Round> {
        self::reduce(session, &search, parts, blobs, told)
    }
}

/// The session of the graph that a search has come to, its plan, and the blob of that.
fn of_search(
    session: &Session,
    search: &str,
    blobs: &dyn Blobs,
) -> Result<(Arc<Session>, Planned, String)> {
    let Search {
        planned: of, plain, ..
    } = load("search", search, blobs)?;
    let planned: Planned = load("plan", &of, blobs)?;
    let session = session.variant(&plain, &Variant::Changed(planned.changes()), blobs)?;
    Ok((session, planned, of))
}

/// What each fake quant costs on the batches of one file, and what all do.
fn map(session: &Session, File { file, search }: File, context: &Context<'_>) -> Result<Vec<Told>> {
    let (session, planned, of) = of_search(session, &search, context.blobs)?;
    let session = session.as_ref();
    let plan = &planned.plan;
    let prepared = session.prepared(&of, plan, context.blobs)?;
    let mut batches = session.file(&session.job.calibration, file, context.blobs)?;
    let passes = probes(session.job.calibration.len());
    let mut told: Vec<Told> = Vec::new();
    let rows = rows(&session.graph, plan);
    session.for_each_batch(&mut batches, context, |_, batch| {
        let capture = session.float_run(batch, &session.all_values())?;
        let (graph, float) = (&session.graph, &*session.float);
        let validation = Validation::new(graph, plan, &prepared);
        let converted = Converted::new(graph, plan, &prepared);
        let outputs = [
            errors(session, &capture, validation, Tensor::clone)?,
            errors(session, &capture, converted, Flow::to_float)?,
        ];
        let analysis = Analysis::new(graph, float, plan, &prepared, session.integers());
        let values = FloatValues::new(&analysis, capture)?;
        // Batches have signs of their own, whoever runs them.
        let seed = ((file as u64) << 32) | told.len() as u64;
        let estimate = estimate(&analysis, &values, &rows, passes, seed)?;
        told.push(Told { estimate, outputs });
        Ok(())
    })?;
    Ok(told)
}

/// Errors of the model's outputs in one run.
fn errors<M: Machine>(
    session: &Session,
    capture: &Capture,
    mut machine: M,
    to_float: impl Fn(&M::Value) -> Tensor,
) -> Result<Vec<ErrorSums>> {
    let (graph, float) = (&session.graph, &*session.float);
    let mut errors = vec![ErrorSums::default(); graph.outputs.len()];
    let integers = session.integers();
    walk(
        graph,
        float,
        capture,
        integers,
        &mut machine,
        |id, value| {
            let Carried::Value(value) = value else {
                return Ok(());
            };
            for (&output, sums) in graph.outputs.iter().zip(&mut errors) {
                if output == id {
                    let reference = captured(graph, capture, id)?;
                    // What cannot be compared is no matter of precision; validate says so.
                    let _ = add_errors(sums, &graph.value(id).name, reference, &to_float(value));
                }
            }
            Ok(())
        },
    )?;
    Ok(errors)
}

/// Folds the batches in order and decides.
fn reduce(
    session: &Session,
    search: &str,
    parts: Parts<'_, Mend>,
    blobs: &dyn Blobs,
    events: &mut Vec<Event>,
) -> Result<Round> {
    let search: Search = load("search", search, blobs)?;
    match folded(parts)? {
        Some(told) => decide(session, search, told, None, blobs, events),
        None => Err(Error::Payload {
            what: "mend result",
            reason: "there was no batch".to_owned(),
        }),
    }
}

/// Keeps what helped, and makes the next changes, ends, or waits for fits. `kept` is what was kept before it
/// waited.
fn decide(
    session: &Session,
    mut search: Search,
    told: Told,
    kept: Option<Vec<Change>>,
    blobs: &dyn Blobs,
    events: &mut Vec<Event>,
) -> Result<Round> {
    let mut planned: Planned = load("plan", &search.planned, blobs)?;
    let places = session.places(&search.plain, blobs)?;
    let changes = planned.changes();
    let variant = session.variant(&search.plain, &Variant::Changed(changes.clone()), blobs)?;
    let ledger = search::Ledger::new(&variant, &places, &planned, &told.estimate, &told.outputs)?;

    let mut kept = kept.unwrap_or(changes);
    let pending = std::mem::take(&mut search.pending);
    let settled = pending.into_iter();
    let mut settled: Vec<_> = settled
        .map(|pending| ledger.settle(pending, search.round))
        .collect();
    settle_together(&mut settled);
    for step in settled {
        if !step.kept {
            kept.retain(|change| *change != step.change);
            search.refused.push(step.change);
        }
        events.push(Event::Mended(step.told.clone()));
        search.steps.push(step.told);
    }
    let took_back = kept.len() < planned.changes().len();
    search.reached_db = ledger.outputs_db();
    let measured = Best::new(&search.reached_db, search.round, &kept);
    let best = search.best.get_or_insert_with(|| measured.clone());
    if !took_back && best.is_no_better(&measured, &search.aims) {
        *best = measured;
    }
    let next = match ledger.reached(&search.aims) || search.round >= MAX_ROUNDS {
        true => Vec::new(),
        false => match ledger.next(&search.aims, &kept, &search.refused, &search.fitted) {
            Next::Changes(next) => next,
            Next::Unfitted(linears) => {
                let linears = offers::with_readers(session, &planned, &linears);
                search.fitted.extend(&linears);
                let begin = Begin::rest(search, told, kept, blobs)?;
                return Ok(Round::Unfitted(begin, linears));
            }
        },
    };
    let done = next.is_empty();
    search.round += 1;
    let ahead = search.best.as_ref();
    let ahead = ahead.filter(|best| best.is_ahead(&search.reached_db, &search.aims));
    if done && let Some(best) = ahead.cloned() {
        return go_back(session, search, best, &kept, blobs, events);
    }
    match (done, took_back) {
        (true, false) => {
            planned.in_the_way = match ledger.reached(&search.aims) {
                true => Vec::new(),
                false => ledger.in_the_way(&search.aims),
            };
            planned.steps.clone_from(&search.steps);
            planned.refused.clone_from(&search.refused);
            search.planned = store("plan", &planned, blobs)?;
            Ok(Round::Ended {
                search: Some(store("search", &search, blobs)?),
                planned: search.planned,
            })
        }
        _ => {
            kept.extend(next.iter().map(|pending| pending.change));
            search.pending = next;
            replan(session, &mut search, kept, blobs)?;
            Ok(Round::Changed(search))
        }
    }
}

/// Makes the best plan again, without what was changed since.
fn go_back(
    session: &Session,
    mut search: Search,
    best: Best,
    kept: &[Change],
    blobs: &dyn Blobs,
    events: &mut Vec<Event>,
) -> Result<Round> {
    let since = kept.iter().filter(|change| !best.changes.contains(change));
    search.refused.extend(since);
    let since = search
        .steps
        .iter_mut()
        .filter(|step| step.round > best.round && step.kept);
    for step in since {
        step.kept = false;
        events.push(Event::Mended(step.clone()));
    }
    search.round += 1;
    replan(session, &mut search, best.changes, blobs)?;
    Ok(Round::Changed(search))
}

/// All batches in order; None of none.
fn folded(parts: Parts<'_, Mend>) -> Result<Option<Told>> {
    let mut total: Option<Told> = None;
    for batches in parts {
        for batch in batches? {
            match &mut total {
                Some(total) => {
                    total.estimate.merge(&batch.estimate);
                    let runs = total.outputs.iter_mut().zip(&batch.outputs);
                    let outputs = runs.flat_map(|(sums, more)| sums.iter_mut().zip(more));
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
    let fp16 = |node: &Node| matches!(node.op, Op::LayerNormFp16 { .. });
    if variant.graph.running().any(|(_, node)| fp16(node)) {
        planned.notices.retain(|notice| notice.code != PARTLY_FLOAT);
        planned.notices.extend(float_share::told(&variant)?);
    }
    planned.calibration.clone_from(&search.calibration);
    planned.mended = Some(Mended {
        plain: search.plain.clone(),
        changes,
    });
    search.planned = store("plan", &planned, blobs)?;
    Ok(())
}

//! What an analysis does once there is a plan: what each fake quant alone costs each output of the model.
//!
//! ```text
//! evaluate -> estimate (batches) -> analyze (groups of rows) -> cumulative (batches) -> finish
//! ```
//!
//! An estimate of all rows first, then those that cost most exactly, then the worst of them together.

mod curve;
mod files;
mod table;

pub(super) use curve::Cumulative;

use std::collections::{BTreeMap, btree_map::Entry};

use serde::{Deserialize, Serialize};

use super::{
    Blobs, Context, Event, QueuedStage,
    files::go_on,
    payload::{load, store},
    session::Session,
    stage::{Parts, Stage},
};
use table::{correlation, measured, worst_first};

use crate::{
    Error, Result,
    exec::Prepared,
    graph::ValueId,
    job::{Analyze, JobKind},
    measured::Planned,
    plan::{LinearRequest, Plan},
    report::OutputError,
    sensitivity::{Analysis, Estimate, FloatValues, Row, estimate, exact_all, probes, rows},
};

/// Tasks that the exact rows are cut into, about; each runs the float model once more over its file.
const TASKS: usize = 32;
/// Rows of a task, at least: fewer are not worth a float run.
const LEAST_ROWS: usize = 8;
/// How many of the worst rows are on together, for the curve.
const TOGETHER: [usize; 9] = [1, 2, 3, 5, 10, 20, 50, 100, usize::MAX];

/// A measured file.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct File {
    file: usize,
    /// Blob of the [`Planned`] in estimate, of the [`Ranked`] in cumulative.
    of: String,
}

/// Rows with what is known of them.
#[derive(Debug, Serialize, Deserialize)]
struct Ranked {
    planned: String,
    estimate: Option<Estimate>,
    /// Rows to be measured, the worst first by estimate; once measured, by the metric asked for.
    rows: Vec<usize>,
    /// By position in `rows`: errors of each output, or why there are none.
    exact: Vec<Result<Vec<OutputError>, String>>,
}

/// One map a measured file.
fn over_files<S>(session: &Session, of: &str) -> Result<QueuedStage>
where
    S: Stage<Map = File, Given = String>,
{
    let map = |file| File {
        file,
        of: of.to_owned(),
    };
    S::queued((0..session.measured_files().len()).map(map), &of.to_owned())
}

/// A job's rows and outputs.
struct Table<'a> {
    session: &'a Session,
    plan: &'a Plan,
    rows: Vec<Row>,
    outputs: Vec<ValueId>,
}

impl<'a> Table<'a> {
    fn new(session: &'a Session, plan: &'a Plan) -> Result<Self> {
        Ok(Table {
            session,
            plan,
            rows: rows(&session.graph, plan),
            outputs: outputs(session, asked(session)?)?,
        })
    }

    fn analysis(&self, prepared: &'a Prepared) -> Result<Analysis<'a>> {
        let Session { graph, float, .. } = self.session;
        let analysis = Analysis::new(graph, float, self.plan, prepared, self.session.integers());
        analysis.with_outputs(self.outputs.clone())
    }
}

fn asked(session: &Session) -> Result<&Analyze> {
    match &session.job.kind {
        JobKind::Analyze(asked) => Ok(asked),
        _ => Err(Error::Payload {
            what: "analysis task",
            reason: "the job asks for no analysis".to_owned(),
        }),
    }
}

/// The outputs that errors are measured at: those named, or all.
fn outputs(session: &Session, asked: &Analyze) -> Result<Vec<ValueId>> {
    let all = &session.graph.outputs;
    if asked.outputs.is_empty() {
        return Ok(all.clone());
    }
    let find = |name: &String| {
        let is = |id: &&ValueId| {
            session.output_name(**id) == *name || session.graph.value(**id).name == *name
        };
        all.iter()
            .find(is)
            .copied()
            .ok_or_else(|| Error::UnknownName {
                what: "output",
                name: name.clone(),
                near: all.iter().map(|id| session.output_name(*id)).collect(),
            })
    };
    asked.outputs.iter().map(find).collect()
}

/// Checks what is asked for before any work.
pub(super) fn check(session: &Session) -> Result<()> {
    outputs(session, asked(session)?)?;
    let equalized = |request: &LinearRequest| request.fit.is_some_and(|fit| fit.equalize);
    let refused = |setting: String, what: &str| {
        Err(Error::Setting {
            setting,
            reason: format!(
                "an analysis is of the model with no operator changed, and {what}; leave it out"
            ),
        })
    };
    if let Some(operator) = session.request.operators.first() {
        let setting = format!("operator {}={}", operator.name, operator.choice);
        return refused(setting, "this changes one");
    }
    match session.request.linears.values().any(equalized) {
        true => refused("linear".to_owned(), "+eq changes those before a Linear"),
        false => Ok(()),
    }
}

/// What each row costs to first order.
pub(super) struct EstimateRows;

impl EstimateRows {
    pub(super) fn start(session: &Session, planned: &str) -> Result<QueuedStage> {
        over_files::<Self>(session, planned)
    }
}

impl Stage for EstimateRows {
    const NAME: &'static str = "estimate";
    type Map = File;
    /// By batch of the file.
    type Part = Vec<Estimate>;
    /// Blob of the [`Planned`].
    type Given = String;
    /// Blob of the [`Ranked`], and the rows to measure.
    type Done = (String, Vec<usize>);

    fn map(
        session: &Session,
        file: File,
        context: &Context<'_>,
        _told: &mut Vec<Event>,
    ) -> Result<Self::Part> {
        estimate_file(session, file, context)
    }

    fn reduce(
        session: &Session,
        planned: String,
        parts: Parts<'_, Self>,
        blobs: &dyn Blobs,
        _told: &mut Vec<Event>,
    ) -> Result<Self::Done> {
        rank(session, planned, parts, blobs)
    }
}

/// All rows to first order, on the batches of one file.
fn estimate_file(
    session: &Session,
    File { file, of }: File,
    context: &Context<'_>,
) -> Result<Vec<Estimate>> {
    let planned: Planned = load("plan", &of, context.blobs)?;
    let prepared = session.prepared(&of, &planned.plan, context.blobs)?;
    let table = Table::new(session, &planned.plan)?;
    let analysis = table.analysis(&prepared)?;
    let mut estimates: Vec<Estimate> = Vec::new();
    let passes = probes(session.measured_files().len());
    each_batch(
        session,
        &planned.plan,
        file,
        context,
        |values, number| {
            let seed = ((file as u64) << 32) | number as u64;
            estimates.push(estimate(&analysis, &values, &table.rows, passes, seed)?);
            Ok(())
        },
        &analysis,
    )?;
    Ok(estimates)
}

/// Float values of each batch of a measured file.
fn each_batch(
    session: &Session,
    plan: &Plan,
    file: usize,
    context: &Context<'_>,
    mut each: impl FnMut(FloatValues, usize) -> Result<()>,
    analysis: &Analysis<'_>,
) -> Result<()> {
    let mut batches = session.file(session.measured_files(), file, context.blobs)?;
    let passes = probes(session.measured_files().len());
    let lanes = passes.max(rayon::current_num_threads());
    let bytes = session.sensitivity_bytes(plan, batches.elements(), lanes);
    let bytes = bytes.saturating_add(batches.reading_bytes());
    let _held = context.reserve(session, &format!("analyzing {}", batches.told()), bytes)?;
    let mut number = 0;
    session.for_each_batch(&mut batches, context, |_, batch| {
        let capture = session.float_run(batch, &session.reference_values())?;
        each(FloatValues::new(analysis, capture)?, number)?;
        number += 1;
        Ok(())
    })
}

/// Ranks the rows.
fn rank(
    session: &Session,
    of: String,
    parts: Parts<'_, EstimateRows>,
    blobs: &dyn Blobs,
) -> Result<(String, Vec<usize>)> {
    let planned: Planned = load("plan", &of, blobs)?;
    let table = Table::new(session, &planned.plan)?;
    let mut total: Option<Estimate> = None;
    for estimates in parts {
        for estimate in estimates? {
            match &mut total {
                Some(total) => total.merge(&estimate),
                None => total = Some(estimate),
            }
        }
    }
    // A row without an estimate is measured before any other.
    let rank = |row: &usize| {
        let db = total.as_ref().and_then(|total| total.whole_db(*row));
        db.unwrap_or(f64::NEG_INFINITY)
    };
    let mut order: Vec<usize> = (0..table.rows.len()).collect();
    order.sort_by(|a, b| rank(a).total_cmp(&rank(b)));
    if let Some(exact) = asked(session)?.exact {
        order.truncate(exact as usize);
    }
    let ranked = Ranked {
        planned: of,
        estimate: total,
        rows: order,
        exact: Vec::new(),
    };
    let digest = store("ranked rows", &ranked, blobs)?;
    Ok((digest, ranked.rows))
}

/// Some rows exactly.
pub(super) struct ExactRows;

/// Some rows on a measured file, and the blob of the [`Ranked`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Rows {
    rows: Vec<usize>,
    file: usize,
    ranked: String,
}

impl ExactRows {
    /// Groups of rows that follow each other in the graph, each on every file in turn.
    pub(super) fn start(
        session: &Session,
        ranked: &str,
        mut rows: Vec<usize>,
    ) -> Result<QueuedStage> {
        rows.sort_unstable();
        let files = session.measured_files().len();
        let groups = TASKS.div_ceil(files.max(1));
        let size = rows.len().div_ceil(groups).max(LEAST_ROWS);
        let map = |rows: &[usize]| {
            let rows = rows.to_vec();
            (0..files).map(move |file| Rows {
                rows: rows.clone(),
                file,
                ranked: ranked.to_owned(),
            })
        };
        Self::queued(rows.chunks(size).flat_map(map), &ranked.to_owned())
    }
}

impl Stage for ExactRows {
    const NAME: &'static str = "analyze";
    type Map = Rows;
    type Part = Exact;
    /// Blob of the [`Ranked`].
    type Given = String;
    /// Blob of the [`Ranked`] with its errors.
    type Done = String;

    fn map(
        session: &Session,
        rows: Rows,
        context: &Context<'_>,
        _told: &mut Vec<Event>,
    ) -> Result<Exact> {
        exact_rows(session, rows, context)
    }

    fn reduce(
        session: &Session,
        ranked: String,
        parts: Parts<'_, Self>,
        blobs: &dyn Blobs,
        told: &mut Vec<Event>,
    ) -> Result<String> {
        table_of(session, &ranked, parts, blobs, told)
    }
}

/// What a group of rows was found to cost.
pub(super) type Exact = Vec<(usize, Result<Vec<OutputError>, String>)>;

/// Some rows exactly, over the batches of a file.
fn exact_rows(
    session: &Session,
    Rows { rows, file, ranked }: Rows,
    context: &Context<'_>,
) -> Result<Exact> {
    let Ranked { planned: of, .. } = load("ranked rows", &ranked, context.blobs)?;
    let planned: Planned = load("plan", &of, context.blobs)?;
    let prepared = session.prepared(&of, &planned.plan, context.blobs)?;
    let table = Table::new(session, &planned.plan)?;
    let analysis = table.analysis(&prepared)?;
    let wanted: Vec<Row> = rows
        .iter()
        .filter_map(|&row| table.rows.get(row).copied())
        .collect();
    let mut total: Vec<Result<Vec<OutputError>, String>> =
        vec![Ok(vec![OutputError::default(); table.outputs.len()]); wanted.len()];
    each_batch(
        session,
        &planned.plan,
        file,
        context,
        |values, _| {
            let errors = exact_all(&analysis, &values, &wanted, || go_on(context.control))?;
            for (total, errors) in total.iter_mut().zip(errors) {
                add(total, errors.map_err(|error| error.to_string()));
            }
            Ok(())
        },
        &analysis,
    )?;
    Ok(rows.into_iter().zip(total).collect())
}

/// Adds the errors of more batches; what failed in one has none.
fn add(total: &mut Result<Vec<OutputError>, String>, more: Result<Vec<OutputError>, String>) {
    match (&mut *total, more) {
        (Ok(total), Ok(more)) => {
            let pairs = total.iter_mut().zip(&more);
            pairs.for_each(|(sums, more)| sums.merge(more));
        }
        (Ok(_), Err(reason)) => *total = Err(reason),
        (Err(_), _) => {}
    }
}

/// The table of the exact rows.
fn table_of(
    session: &Session,
    of: &str,
    parts: Parts<'_, ExactRows>,
    blobs: &dyn Blobs,
    events: &mut Vec<Event>,
) -> Result<String> {
    let mut ranked: Ranked = load("ranked rows", of, blobs)?;
    let planned: Planned = load("plan", &ranked.planned, blobs)?;
    let table = Table::new(session, &planned.plan)?;
    let mut found: BTreeMap<usize, Result<Vec<OutputError>, String>> = BTreeMap::new();
    for part in parts {
        for (row, errors) in part? {
            match found.entry(row) {
                Entry::Vacant(empty) => drop(empty.insert(errors)),
                Entry::Occupied(mut total) => add(total.get_mut(), errors),
            }
        }
    }
    let mut found: Exact = found.into_iter().collect();
    let metric = asked(session)?.metric;
    found
        .sort_by(|(a_row, a), (b_row, b)| worst_first(metric, a, b).then_with(|| a_row.cmp(b_row)));
    (ranked.rows, ranked.exact) = found.into_iter().unzip();
    let measured = measured(&table, &ranked);
    events.extend(correlation(&ranked).map(Event::Notice));
    events.extend(
        measured
            .into_iter()
            .map(|row| Event::Sensitivity(Box::new(row))),
    );
    store("ranked rows", &ranked, blobs)
}

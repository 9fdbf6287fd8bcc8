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

pub(super) use curve::{cumulative_map, cumulative_reduce};

use serde::{Deserialize, Serialize};

use super::{
    Blobs, Context, Event, Next, Stage, TaskInput, TaskOutput,
    files::go_on,
    payload::{decode, encode, load, store},
    session::Session,
};
use table::{correlation, measured, worst_first};

use crate::{
    Error, Result,
    exec::Prepared,
    graph::ValueId,
    measured::Planned,
    plan::Plan,
    report::OutputError,
    sensitivity::{Analysis, Estimate, FloatValues, PROBES, Row, estimate, exact_all, rows},
    settings::Analyze,
};

/// Tasks that the exact rows are cut into, at most; each runs the float model once more.
const GROUPS: usize = 32;
/// How many of the worst rows are on together, for the curve.
const TOGETHER: [usize; 9] = [1, 2, 3, 5, 10, 20, 50, 100, usize::MAX];

#[derive(Debug, Serialize, Deserialize)]
struct FileMap {
    file: usize,
    /// Blob of the [`Planned`] in estimate, of the [`Ranked`] in cumulative.
    of: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct RowsMap {
    rows: Vec<usize>,
    ranked: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Reduce {
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

/// The first stage: what each row costs to first order.
pub(super) fn stage(session: &Session, planned: &str) -> Result<Stage> {
    over_files(session, "estimate", planned)
}

fn over_files(session: &Session, name: &'static str, of: &str) -> Result<Stage> {
    let maps: Result<Vec<Vec<u8>>> = (0..session.measured_files().len())
        .map(|file| {
            let of = of.to_owned();
            encode("analysis task", &FileMap { file, of })
        })
        .collect();
    let of = of.to_owned();
    Ok(Stage {
        name,
        maps: maps?,
        reduce: encode("analysis reduce", &Reduce { of })?,
    })
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
    session
        .job
        .settings
        .analyze
        .as_ref()
        .ok_or_else(|| Error::Payload {
            what: "analysis task",
            reason: "the job asks for no analysis".to_owned(),
        })
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
    match &session.job.settings.analyze {
        Some(asked) => outputs(session, asked).map(|_| ()),
        None => Ok(()),
    }
}

/// All rows to first order, on the batches of one file.
pub(super) fn estimate_map(
    session: &Session,
    task: &TaskInput<'_>,
    context: &Context<'_>,
) -> Result<TaskOutput> {
    let FileMap { file, of } = decode("analysis task", task.payload)?;
    let planned: Planned = load("plan", &of, context.blobs)?;
    let prepared = session.prepared(&of, &planned.plan, context.blobs)?;
    let table = Table::new(session, &planned.plan)?;
    let analysis = table.analysis(&prepared)?;
    let mut estimates: Vec<Estimate> = Vec::new();
    each_batch(
        session,
        &planned.plan,
        file,
        context,
        |values, number| {
            let seed = ((file as u64) << 32) | number as u64;
            estimates.push(estimate(&analysis, &values, &table.rows, PROBES, seed)?);
            Ok(())
        },
        &analysis,
    )?;
    Ok(TaskOutput {
        result: encode("estimate", &estimates)?,
        ..TaskOutput::default()
    })
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
    let lanes = PROBES.max(rayon::current_num_threads());
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

/// Ranks the rows and starts the exact ones.
pub(super) fn estimate_reduce(
    session: &Session,
    task: &TaskInput<'_>,
    blobs: &dyn Blobs,
) -> Result<TaskOutput> {
    let Reduce { of } = decode("analysis reduce", task.payload)?;
    let planned: Planned = load("plan", &of, blobs)?;
    let table = Table::new(session, &planned.plan)?;
    let mut total: Option<Estimate> = None;
    for input in task.inputs {
        let estimates: Vec<Estimate> = decode("estimate", input)?;
        for estimate in estimates {
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
    let mut in_graph_order = ranked.rows;
    in_graph_order.sort_unstable();
    let size = in_graph_order.len().div_ceil(GROUPS).max(1);
    let maps: Result<Vec<Vec<u8>>> = in_graph_order
        .chunks(size)
        .map(|rows| {
            let (rows, ranked) = (rows.to_vec(), digest.clone());
            encode("analysis task", &RowsMap { rows, ranked })
        })
        .collect();
    Ok(TaskOutput {
        next: Some(Next::Stage(Stage {
            name: "analyze",
            maps: maps?,
            reduce: encode("analysis reduce", &Reduce { of: digest })?,
        })),
        ..TaskOutput::default()
    })
}

/// What a group of rows was found to cost.
type Exact = Vec<(usize, Result<Vec<OutputError>, String>)>;

/// Some rows exactly, over all measured batches.
pub(super) fn exact_map(
    session: &Session,
    task: &TaskInput<'_>,
    context: &Context<'_>,
) -> Result<TaskOutput> {
    let RowsMap { rows, ranked } = decode("analysis task", task.payload)?;
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
    for file in 0..session.measured_files().len() {
        each_batch(
            session,
            &planned.plan,
            file,
            context,
            |values, _| {
                let errors = exact_all(&analysis, &values, &wanted, || go_on(context.control))?;
                for (total, errors) in total.iter_mut().zip(errors) {
                    match (&mut *total, errors) {
                        (Ok(total), Ok(errors)) => {
                            total
                                .iter_mut()
                                .zip(&errors)
                                .for_each(|(sums, more)| sums.merge(more));
                        }
                        (Ok(_), Err(error)) => *total = Err(error.to_string()),
                        (Err(_), _) => {}
                    }
                }
                Ok(())
            },
            &analysis,
        )?;
    }
    let found: Exact = rows.into_iter().zip(total).collect();
    Ok(TaskOutput {
        result: encode("exact rows", &found)?,
        ..TaskOutput::default()
    })
}

/// The table of the exact rows; starts the curve.
pub(super) fn exact_reduce(
    session: &Session,
    task: &TaskInput<'_>,
    blobs: &dyn Blobs,
) -> Result<TaskOutput> {
    let Reduce { of } = decode("analysis reduce", task.payload)?;
    let mut ranked: Ranked = load("ranked rows", &of, blobs)?;
    let planned: Planned = load("plan", &ranked.planned, blobs)?;
    let table = Table::new(session, &planned.plan)?;
    let mut found: Exact = Vec::new();
    for input in task.inputs {
        let part: Exact = decode("exact rows", input)?;
        found.extend(part);
    }
    let metric = asked(session)?.metric;
    found
        .sort_by(|(a_row, a), (b_row, b)| worst_first(metric, a, b).then_with(|| a_row.cmp(b_row)));
    (ranked.rows, ranked.exact) = found.into_iter().unzip();
    let measured = measured(&table, &ranked);
    let mut events: Vec<Event> = Vec::new();
    events.extend(correlation(&ranked).map(Event::Notice));
    events.extend(
        measured
            .into_iter()
            .map(|row| Event::Sensitivity(Box::new(row))),
    );
    let digest = store("ranked rows", &ranked, blobs)?;
    Ok(TaskOutput {
        events,
        next: Some(Next::Stage(over_files(session, "cumulative", &digest)?)),
        ..TaskOutput::default()
    })
}

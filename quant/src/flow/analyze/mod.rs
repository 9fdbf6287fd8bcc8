//! What an analysis does once there is a plan: what each fake quant alone costs each output of the model.
//!
//! ```text
//! evaluate -> estimate (batches) -> analyze (groups of rows) -> cumulative (batches) -> finish
//! ```
//!
//! An estimate of all rows first, then those that cost most exactly, then the worst of them together.

mod files;

use dual16_nash::dtype::IntDtype;
use serde::{Deserialize, Serialize};

use super::{
    Blobs, Context, Event, Next, Notice, Stage, TaskInput, TaskOutput,
    convert::Files,
    files::go_on,
    payload::{decode, encode, load, store},
    session::Session,
};
use crate::{
    Error, Result,
    artifact::statistics::op_name,
    exec::Prepared,
    graph::{Op, ValueId},
    measured::Planned,
    metrics::Metric,
    plan::Plan,
    report::{OutputError, SensitivityMeasured},
    sensitivity::{
        Analysis, Estimate, FloatValues, PROBES, Row, cumulative, estimate, exact_all,
        rank_correlation, rows,
    },
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
    let prepared = session.prepared(&of, &planned.plan)?;
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
    let bytes = session.mend_bytes(plan, batches.elements());
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
    let prepared = session.prepared(&of, &planned.plan)?;
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

/// A metric's order over all outputs, by the worst of them.
fn worst_first(
    metric: Metric,
    a: &Result<Vec<OutputError>, String>,
    b: &Result<Vec<OutputError>, String>,
) -> std::cmp::Ordering {
    let order = metric.sort_order();
    let worst = |errors: &Result<Vec<OutputError>, String>| match errors {
        Ok(errors) => {
            let figures = errors.iter().filter_map(|error| error.figure(metric));
            figures.min_by(|a, b| order.compare(*a, *b))
        }
        Err(_) => None,
    };
    match (worst(a), worst(b)) {
        (Some(a), Some(b)) => order.compare(a, b),
        (Some(_), None) => std::cmp::Ordering::Less,
        (None, Some(_)) => std::cmp::Ordering::Greater,
        (None, None) => std::cmp::Ordering::Equal,
    }
}

/// Whether the estimate put the rows into the order that was then measured.
fn correlation(ranked: &Ranked) -> Option<Notice> {
    let estimate = ranked.estimate.as_ref()?;
    let pairs = ranked
        .rows
        .iter()
        .zip(&ranked.exact)
        .filter_map(|(&row, errors)| {
            let worst = errors
                .as_ref()
                .ok()?
                .iter()
                .map(|error| error.metrics().sqnr_rank());
            Some((estimate.whole_db(row)?, worst.fold(f64::INFINITY, f64::min)))
        });
    let (estimated, exact): (Vec<f64>, Vec<f64>) = pairs.unzip();
    let correlation = rank_correlation(&estimated, &exact)?;
    Some(Notice {
        warning: false,
        code: "RANK_CORRELATION".to_owned(),
        subject: "estimate".to_owned(),
        message: format!(
            "the first-order estimate orders the {} rows that were measured with a rank correlation of \
             {correlation:.3}",
            exact.len()
        ),
    })
}

/// The rows as they are told, in the order of the metric that was asked for.
fn measured(table: &Table<'_>, ranked: &Ranked) -> Vec<SensitivityMeasured> {
    let graph = &table.session.graph;
    let macs = macs(table);
    let all: u64 = macs.values().sum();
    let row = |(&index, errors): (&usize, &Result<Vec<OutputError>, String>)| {
        let row = *table.rows.get(index)?;
        let node = row.node(graph);
        let own = node.and_then(|id| macs.get(&id.0)).copied().unwrap_or(0);
        let (outputs, reason) = match errors {
            Ok(errors) => (errors.clone(), String::new()),
            Err(reason) => (Vec::new(), reason.clone()),
        };
        Some(SensitivityMeasured {
            op: row.name(graph).to_owned(),
            sensitive_type: row.kind(graph).name().to_owned(),
            op_type: node
                .map_or("Input", |id| op_name(&graph.node(id).op))
                .to_owned(),
            dtype: dtype(table, row).map_or_else(|| "float".to_owned(), |dtype| dtype.to_string()),
            macs: own,
            macs_share: own as f64 / all.max(1) as f64,
            estimate_db: ranked
                .estimate
                .as_ref()
                .and_then(|estimate| estimate.whole_db(index)),
            outputs: table
                .outputs
                .iter()
                .map(|&id| table.session.output_name(id))
                .zip(outputs)
                .collect(),
            reason,
        })
    };
    ranked
        .rows
        .iter()
        .zip(&ranked.exact)
        .filter_map(row)
        .collect()
}

fn dtype(table: &Table<'_>, row: Row) -> Option<IntDtype> {
    match row {
        Row::Activation(id) | Row::Constant(id) => Some(table.plan.params(id)?.dtype),
        Row::Weight(id) => Some(table.plan.linears.get(&id.0)?.way.weight_dtype()),
        Row::Operand(id, operand) => {
            Some(table.plan.operand(&table.session.graph, id, operand)?.dtype)
        }
    }
}

/// Multiply-accumulates of each Linear and MatMul over one batch of the probe's shape, by node index.
fn macs(table: &Table<'_>) -> std::collections::BTreeMap<usize, u64> {
    let graph = &table.session.graph;
    let mut macs = table.session.macs();
    for (id, node) in graph.running() {
        if let (Op::MatMul, Some(a), Some(y)) =
            (&node.op, node.inputs.first(), node.outputs.first())
        {
            let inner = graph.value(*a).shape.last().copied().unwrap_or(0);
            let made: usize = graph.value(*y).shape.iter().product();
            macs.insert(id.0, (made * inner) as u64);
        }
    }
    macs
}

/// What a batch's worst rows cost together.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct BatchCurve {
    batch: String,
    /// By number of rows, by output.
    errors: Vec<Vec<OutputError>>,
}

/// The worst rows together, on each batch of one file.
pub(super) fn cumulative_map(
    session: &Session,
    task: &TaskInput<'_>,
    context: &Context<'_>,
) -> Result<TaskOutput> {
    let FileMap { file, of } = decode("analysis task", task.payload)?;
    let ranked: Ranked = load("ranked rows", &of, context.blobs)?;
    let planned: Planned = load("plan", &ranked.planned, context.blobs)?;
    let prepared = session.prepared(&ranked.planned, &planned.plan)?;
    let table = Table::new(session, &planned.plan)?;
    let analysis = table.analysis(&prepared)?;
    let worst = ranked
        .rows
        .iter()
        .zip(&ranked.exact)
        .filter(|(_, errors)| errors.is_ok());
    let worst: Vec<Row> = worst
        .filter_map(|(&row, _)| table.rows.get(row).copied())
        .collect();
    let name = session
        .measured_files()
        .get(file)
        .map_or_else(String::new, |file| file.name.clone());
    let mut curves: Vec<BatchCurve> = Vec::new();
    each_batch(
        session,
        &planned.plan,
        file,
        context,
        |values, number| {
            let counts = counts(worst.len());
            let errors = cumulative(&analysis, &values, &worst, &counts, || {
                go_on(context.control)
            })?;
            let batch = format!("{name} batch {number}");
            curves.push(BatchCurve { batch, errors });
            Ok(())
        },
        &analysis,
    )?;
    Ok(TaskOutput {
        result: encode("curves", &curves)?,
        ..TaskOutput::default()
    })
}

/// Numbers of rows that are on together.
fn counts(rows: usize) -> Vec<usize> {
    let mut counts: Vec<usize> = TOGETHER.iter().map(|&count| count.min(rows)).collect();
    counts.dedup();
    counts
}

/// Writes the files.
pub(super) fn cumulative_reduce(
    session: &Session,
    task: &TaskInput<'_>,
    blobs: &dyn Blobs,
) -> Result<TaskOutput> {
    let Reduce { of } = decode("analysis reduce", task.payload)?;
    let ranked: Ranked = load("ranked rows", &of, blobs)?;
    let planned: Planned = load("plan", &ranked.planned, blobs)?;
    let table = Table::new(session, &planned.plan)?;
    let mut batches: Vec<BatchCurve> = Vec::new();
    for input in task.inputs {
        let part: Vec<BatchCurve> = decode("curves", input)?;
        batches.extend(part);
    }
    let mut curve: Vec<Vec<OutputError>> = Vec::new();
    for batch in &batches {
        curve.resize(
            batch.errors.len(),
            vec![OutputError::default(); table.outputs.len()],
        );
        for (total, more) in curve.iter_mut().zip(&batch.errors) {
            total
                .iter_mut()
                .zip(more)
                .for_each(|(sums, more)| sums.merge(more));
        }
    }
    let exact = ranked.exact.iter().filter(|errors| errors.is_ok()).count();
    let report = files::Report {
        model: session.job.model.name(),
        outputs: table
            .outputs
            .iter()
            .map(|&id| session.output_name(id))
            .collect(),
        rows: measured(&table, &ranked),
        unmeasured: table.rows.len() - ranked.rows.len(),
        correlation: correlation(&ranked).map(|notice| notice.message),
        curve: counts(exact).into_iter().zip(curve).collect(),
        batches: batches
            .into_iter()
            .filter_map(|batch| Some((batch.batch, batch.errors.into_iter().next_back()?)))
            .collect(),
    };
    let mut files = Files {
        blobs,
        written: Vec::new(),
    };
    for (name, text) in report.files()? {
        files.put(&name, text.into_bytes())?;
    }
    Ok(TaskOutput {
        next: Some(Next::Finish(files.written)),
        ..TaskOutput::default()
    })
}

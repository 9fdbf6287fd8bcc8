//! The worst rows together: the curve, and the batches that suffer most.

use serde::{Deserialize, Serialize};

use super::{
    File, Ranked, TOGETHER, Table, each_batch, files, over_files,
    table::{correlation, measured},
};
use crate::{
    Result,
    artifact::graph_json,
    flow::{
        Blobs, Context, Event, FileRef, QueuedStage,
        convert::Files,
        files::go_on,
        payload::load,
        session::Session,
        stage::{Parts, Stage},
    },
    measured::Planned,
    report::OutputError,
    sensitivity::{Row, RowKind, cumulative},
};

/// What a batch's worst rows cost together.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::flow) struct BatchCurve {
    batch: String,
    /// By number of rows, by output.
    errors: Vec<Vec<OutputError>>,
}

/// The worst rows together, and the job's files.
pub(in crate::flow) struct Cumulative;

impl Cumulative {
    pub(in crate::flow) fn start(session: &Session, ranked: &str) -> Result<QueuedStage> {
        over_files::<Self>(session, ranked)
    }
}

impl Stage for Cumulative {
    const NAME: &'static str = "cumulative";
    type Map = File;
    /// By batch of the file.
    type Part = Vec<BatchCurve>;
    /// Blob of the [`Ranked`].
    type Given = String;
    /// The job's files.
    type Done = Vec<FileRef>;

    fn map(
        session: &Session,
        file: File,
        context: &Context<'_>,
        _told: &mut Vec<Event>,
    ) -> Result<Self::Part> {
        curves(session, file, context)
    }

    fn reduce(
        session: &Session,
        ranked: String,
        parts: Parts<'_, Self>,
        blobs: &dyn Blobs,
        _told: &mut Vec<Event>,
    ) -> Result<Vec<FileRef>> {
        written(session, &ranked, parts, blobs)
    }
}

/// The worst rows together, on each batch of one file.
fn curves(
    session: &Session,
    File { file, of }: File,
    context: &Context<'_>,
) -> Result<Vec<BatchCurve>> {
    let ranked: Ranked = load("ranked rows", &of, context.blobs)?;
    let planned: Planned = load("plan", &ranked.planned, context.blobs)?;
    let prepared = session.prepared(&ranked.planned, &planned.plan, context.blobs)?;
    let table = Table::new(session, &planned.plan)?;
    let analysis = table.analysis(&prepared)?;
    let worst = together(&table, &ranked);
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
    Ok(curves)
}

/// Measured fake quants, the worst first: all of them together are VALIDATION, which has no tables.
fn together(table: &Table<'_>, ranked: &Ranked) -> Vec<Row> {
    let measured = ranked.rows.iter().zip(&ranked.exact);
    let measured = measured.filter(|(_, errors)| errors.is_ok());
    let rows = measured.filter_map(|(&row, _)| table.rows.get(row).copied());
    let graph = &table.session.graph;
    rows.filter(|row| row.kind(graph) != RowKind::Table)
        .collect()
}

/// Numbers of rows that are on together.
fn counts(rows: usize) -> Vec<usize> {
    let mut counts: Vec<usize> = TOGETHER.iter().map(|&count| count.min(rows)).collect();
    counts.dedup();
    counts
}

/// Writes the files.
fn written(
    session: &Session,
    ranked: &str,
    parts: Parts<'_, Cumulative>,
    blobs: &dyn Blobs,
) -> Result<Vec<FileRef>> {
    let ranked: Ranked = load("ranked rows", ranked, blobs)?;
    let planned: Planned = load("plan", &ranked.planned, blobs)?;
    let table = Table::new(session, &planned.plan)?;
    let mut batches: Vec<BatchCurve> = Vec::new();
    for part in parts {
        batches.extend(part?);
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
    let exact = together(&table, &ranked).len();
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
    let graph = graph_json::of_graph(report.model, &session.graph, &session.output_names())?;
    files.put("graph.json", graph.into_bytes())?;
    Ok(files.written)
}

//! The worst rows together: the curve, and the batches that suffer most.

use serde::{Deserialize, Serialize};

use super::{
    FileMap, Ranked, Reduce, TOGETHER, Table, each_batch, files,
    table::{correlation, measured},
};
use crate::{
    Result,
    flow::{
        Blobs, Context, Next, TaskInput, TaskOutput,
        convert::Files,
        files::go_on,
        payload::{decode, encode, load},
        session::Session,
    },
    measured::Planned,
    report::OutputError,
    sensitivity::{Row, RowKind, cumulative},
};

/// What a batch's worst rows cost together.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct BatchCurve {
    batch: String,
    /// By number of rows, by output.
    errors: Vec<Vec<OutputError>>,
}

/// The worst rows together, on each batch of one file.
pub(in crate::flow) fn cumulative_map(
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
    Ok(TaskOutput {
        result: encode("curves", &curves)?,
        ..TaskOutput::default()
    })
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
pub(in crate::flow) fn cumulative_reduce(
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
    Ok(TaskOutput {
        next: Some(Next::Finish(files.written)),
        ..TaskOutput::default()
    })
}

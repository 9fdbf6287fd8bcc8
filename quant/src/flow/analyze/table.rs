//! Rows as they are told: in order, with what they cost and what they multiply.

use std::cmp::Ordering;

use dual16_nash::dtype::IntDtype;

use super::{Ranked, Table};
use crate::{
    flow::Notice,
    metrics::Metric,
    report::{OutputError, SensitivityMeasured},
    sensitivity::{Row, rank_correlation},
};

/// A metric's order over all outputs, by the worst of them.
pub(super) fn worst_first(
    metric: Metric,
    a: &Result<Vec<OutputError>, String>,
    b: &Result<Vec<OutputError>, String>,
) -> Ordering {
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
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => Ordering::Equal,
    }
}

/// Whether the estimate put the rows into the order that was then measured.
pub(super) fn correlation(ranked: &Ranked) -> Option<Notice> {
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
pub(super) fn measured(table: &Table<'_>, ranked: &Ranked) -> Vec<SensitivityMeasured> {
    let graph = &table.session.graph;
    let all: u64 = graph.running().map(|(_, node)| graph.macs(node)).sum();
    let row = |(&index, errors): (&usize, &Result<Vec<OutputError>, String>)| {
        let row = *table.rows.get(index)?;
        let node = row.node(graph);
        let own = node.map_or(0, |id| graph.macs(graph.node(id)));
        let (outputs, reason) = match errors {
            Ok(errors) => (errors.clone(), String::new()),
            Err(reason) => (Vec::new(), reason.clone()),
        };
        Some(SensitivityMeasured {
            op: row.name(graph).to_owned(),
            sensitive_type: row.kind(graph).name().to_owned(),
            op_type: node
                .map_or("Input", |id| graph.node(id).op.name())
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

pub(super) fn dtype(table: &Table<'_>, row: Row) -> Option<IntDtype> {
    match row {
        Row::Activation(id) | Row::Constant(id) => Some(table.plan.params(id)?.dtype),
        Row::Weight(id) => Some(table.plan.linears.get(&id.0)?.way.weight_dtype()),
        Row::Converted(id) => {
            let &output = table.session.graph.node(id).outputs.first()?;
            Some(table.plan.params(output)?.dtype)
        }
        Row::Operand(id, operand) => {
            Some(table.plan.operand(&table.session.graph, id, operand)?.dtype)
        }
    }
}

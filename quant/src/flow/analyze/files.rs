//! The files of an analysis: the vendor's tables by output and metric, and everything as CSV and JSON.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use crate::{
    Result,
    artifact::ways::field,
    error::json_error,
    metrics::Metric,
    report::{OutputError, SensitivityMeasured},
    sensitivity::RowKind,
};

/// Outputs that have tables of their own, two for each metric: a job has 96 artifacts at most. The others are
/// in `sensitivity.csv` and `sensitivity.json`; `--outputs` names those that are wanted.
const MOST_OUTPUTS: usize = 6;

/// Metrics that tables are written for; an error in steps of the output has no place among outputs
/// of several scales.
const METRICS: [Metric; 7] = [
    Metric::Sqnr,
    Metric::Cosine,
    Metric::L1,
    Metric::Mse,
    Metric::Atol,
    Metric::Rtol,
    Metric::Kl,
];

/// All that was found.
pub(super) struct Report<'a> {
    pub(super) model: &'a str,
    pub(super) outputs: Vec<String>,
    pub(super) rows: Vec<SensitivityMeasured>,
    /// Rows that were estimated and not measured.
    pub(super) unmeasured: usize,
    pub(super) correlation: Option<String>,
    /// Number of rows that are on together, and the errors of the outputs.
    pub(super) curve: Vec<(usize, Vec<OutputError>)>,
    /// Batches with the errors of all measured rows together.
    pub(super) batches: Vec<(String, Vec<OutputError>)>,
}

impl Report<'_> {
    /// Names and texts.
    pub(super) fn files(&self) -> Result<Vec<(String, String)>> {
        let mut files = vec![
            ("sensitivity.csv".to_owned(), self.csv()),
            ("sensitivity.json".to_owned(), self.json()?),
        ];
        for (place, output) in self.outputs.iter().enumerate().take(MOST_OUTPUTS) {
            for metric in METRICS {
                let prefix = format!("output_{}_{metric}", plain(output));
                files.push((
                    format!("{prefix}_sensitive_ops.txt"),
                    self.sensitive_ops(place, metric),
                ));
                files.push((format!("{prefix}_topk_error.txt"), self.topk(place, metric)));
            }
        }
        Ok(files)
    }

    /// Columns, order and kinds of rows as the vendor's, which has fake quants alone.
    fn sensitive_ops(&self, output: usize, metric: Metric) -> String {
        let figure = |row: &SensitivityMeasured| row.outputs.get(output)?.1.figure(metric);
        let mut rows: Vec<(&SensitivityMeasured, Option<f64>)> = self
            .rows
            .iter()
            .filter(|row| row.sensitive_type != RowKind::Table.name())
            .map(|row| (row, figure(row)))
            .collect();
        let order = metric.sort_order();
        rows.sort_by(|(_, a), (_, b)| match (a, b) {
            (Some(a), Some(b)) => order.compare(*a, *b),
            _ => a.is_none().cmp(&b.is_none()),
        });
        let header = [
            "op_name",
            "sensitive_type",
            "op_type",
            metric.name(),
            "quant_dtype",
            "flops",
        ];
        let mut table = vec![header.map(str::to_owned)];
        table.extend(rows.into_iter().map(|(row, figure)| {
            [
                row.op.clone(),
                row.sensitive_type.clone(),
                row.op_type.clone(),
                figure.map_or_else(|| "-".to_owned(), |figure| figure.to_string()),
                format!("q{}", row.dtype),
                format!("{}({:.2}%)", row.macs, 100.0 * row.macs_share),
            ]
        }));
        aligned(&table)
    }

    fn topk(&self, output: usize, metric: Metric) -> String {
        let mut table = vec![["topk".to_owned(), metric.name().to_owned()]];
        for (count, errors) in &self.curve {
            let figure = errors.get(output).and_then(|error| error.figure(metric));
            let figure = figure.map_or_else(|| "-".to_owned(), |figure| figure.to_string());
            table.push([count.to_string(), figure]);
        }
        aligned(&table)
    }

    fn csv(&self) -> String {
        let mut text =
            "op_name,sensitive_type,op_type,quant_dtype,macs,macs_share,estimate_db,output"
                .to_owned();
        METRICS
            .iter()
            .for_each(|metric| text += &format!(",{metric}"));
        text.push('\n');
        for row in &self.rows {
            for (output, error) in &row.outputs {
                let figures = METRICS.map(|metric| error.figure(metric));
                let figures =
                    figures.map(|figure| figure.map(|x| x.to_string()).unwrap_or_default());
                // Writing to a string cannot fail.
                let _ = writeln!(
                    text,
                    "{},{},{},{},{},{},{},{},{}",
                    field(&row.op),
                    row.sensitive_type,
                    row.op_type,
                    row.dtype,
                    row.macs,
                    row.macs_share,
                    row.estimate_db
                        .filter(|db| db.is_finite())
                        .map(|db| db.to_string())
                        .unwrap_or_default(),
                    field(output),
                    figures.join(","),
                );
            }
        }
        text
    }

    fn json(&self) -> Result<String> {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                json!({
                    "op_name": row.op,
                    "sensitive_type": row.sensitive_type,
                    "op_type": row.op_type,
                    "quant_dtype": row.dtype,
                    "macs": row.macs,
                    "macs_share": row.macs_share,
                    "estimate_db": row.estimate_db.filter(|db| db.is_finite()),
                    "outputs": row.outputs.iter().map(|(name, error)| {
                        (name.clone(), figures(error))
                    }).collect::<Map<String, Value>>(),
                    "reason": row.reason,
                })
            })
            .collect();
        let named = |errors: &[OutputError]| -> Map<String, Value> {
            let outputs = self.outputs.iter().cloned();
            outputs.zip(errors.iter().map(figures)).collect()
        };
        let value = json!({
            "format": "dual16 sensitivity 1",
            "model": self.model,
            "rows": rows,
            "rows_only_estimated": self.unmeasured,
            "rank_correlation": self.correlation,
            "together": self.curve.iter().map(|(count, errors)| {
                json!({"rows": count, "outputs": named(errors)})
            }).collect::<Vec<_>>(),
            "batches": self.batches.iter().map(|(name, errors)| {
                json!({"batch": name, "outputs": named(errors)})
            }).collect::<Vec<_>>(),
        });
        let mut text = serde_json::to_string_pretty(&value)
            .map_err(|error| json_error("sensitivity.json", &error))?;
        text.push('\n');
        Ok(text)
    }
}

fn figures(error: &OutputError) -> Value {
    let figures = METRICS
        .iter()
        .map(|&metric| (metric.name().to_owned(), json!(error.figure(metric))));
    Value::Object(figures.collect())
}

/// An output's name as part of a file's.
fn plain(name: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || "._-".contains(c) {
            c
        } else {
            '_'
        }
    };
    name.chars().map(plain).collect()
}

/// Columns of equal width, the first row underlined.
fn aligned<const N: usize>(table: &[[String; N]]) -> String {
    let width = |column: usize| {
        let cells = table.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for (index, row) in table.iter().enumerate() {
        let cells = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:<width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        text += line.trim_end();
        text.push('\n');
        if index == 0 {
            let lines = widths.map(|width| "-".repeat(width));
            text += &lines.join("  ");
            text.push('\n');
        }
    }
    text
}

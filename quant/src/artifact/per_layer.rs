//! `per_layer.csv`: one line for each Linear and way tried, worst layers first.

use std::fmt::Write as _;

use super::Report;
use crate::metrics::Metrics;

const HEADER: &str = "layer,op,requested,effective,way,legal,chosen,macs,isolated_sqnr_db,\
isolated_cosine,isolated_l1,isolated_mse,isolated_atol,isolated_lsb,validation_sqnr_db,\
converted_sqnr_db,accumulator_bits,zero_fraction,clip_fraction";

/// The file's text.
pub(crate) fn text(report: &Report<'_>) -> String {
    let mut rows: Vec<_> = report.layers().collect();
    let key = |db: Option<f64>| db.unwrap_or(f64::INFINITY);
    // A stable sort: layers with the same error stay in execution order.
    rows.sort_by(|a, b| {
        key(a.accumulated.converted.sqnr_db).total_cmp(&key(b.accumulated.converted.sqnr_db))
    });
    let mut text = format!("{HEADER}\n");
    for row in rows {
        for way in &row.layer.ways {
            let chosen = way.way == row.layer.effective;
            let Metrics {
                sqnr_db,
                cosine,
                l1,
                mse,
                atol,
                lsb,
            } = way.metrics;
            let accumulated = |db: Option<f64>| if chosen { number(db) } else { String::new() };
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "{},{},{},{},{},{},{chosen},{},{},{cosine},{l1},{mse},{atol},{},{},{},{},{},{}",
                field(&row.layer.layer),
                row.layer.op,
                row.layer.requested,
                row.layer.effective,
                way.way,
                way.legal,
                way.macs,
                number(sqnr_db),
                number(lsb),
                accumulated(row.accumulated.validation.sqnr_db),
                accumulated(row.accumulated.converted.sqnr_db),
                way.accumulator_bits,
                way.zero_fraction,
                way.clip_fraction,
            );
        }
    }
    text
}

/// A number, or nothing: no error at all has no SQNR, a high-precision output no LSB.
fn number(value: Option<f64>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// A CSV field (RFC 4180).
pub(super) fn field(text: &str) -> String {
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::field;

    #[test]
    fn only_what_needs_quotes_is_quoted() {
        assert_eq!(field("blocks.0.fc1"), "blocks.0.fc1");
        assert_eq!(field("a,\"b\""), "\"a,\"\"b\"\"\"");
    }
}

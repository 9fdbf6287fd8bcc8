//! `ways.csv`: one line for each Linear and way tried or fit accepted, worst layers first.

use std::fmt::Write as _;

use super::Report;
use crate::metrics::{Metric, Metrics};

const HEADER: &str = "layer,op,requested,effective,way,legal,chosen,macs,isolated_sqnr_db,\
isolated_cosine,isolated_l1,isolated_mse,isolated_atol,isolated_lsb,validation_sqnr_db,\
converted_sqnr_db,accumulator_bits,zero_fraction,clip_fraction,estimate_us,estimate_bound,\
weight_bytes,fit,held_out_gain_db";

/// The file's text.
pub(crate) fn text(report: &Report<'_>) -> String {
    let mut rows: Vec<_> = report.layers().collect();
    // A stable sort: layers with the same error stay in execution order.
    rows.sort_by(|a, b| {
        let (a, b) = (&a.accumulated.converted, &b.accumulated.converted);
        Metric::Sqnr.worst_first(a, b)
    });
    let mut text = format!("{HEADER}\n");
    for row in rows {
        for way in &row.layer.ways {
            let chosen = row.layer.runs(way);
            let fitted = way.fitted.as_ref();
            let Metrics {
                sqnr_db,
                cosine,
                l1,
                mse,
                atol,
                lsb,
                ..
            } = way.metrics;
            let accumulated = |metrics: &Metrics| match chosen {
                true => number(metrics.sqnr_db, metrics),
                false => String::new(),
            };
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "{},{},{},{},{},{},{chosen},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{}",
                field(&row.layer.layer),
                row.layer.op,
                row.layer.requested,
                row.layer.effective_name(),
                way.name(),
                way.legal,
                way.macs,
                number(sqnr_db, &way.metrics),
                number(cosine, &way.metrics),
                number(l1, &way.metrics),
                number(mse, &way.metrics),
                number(atol, &way.metrics),
                number(lsb, &way.metrics),
                accumulated(&row.accumulated.validation),
                accumulated(&row.accumulated.converted),
                way.accumulator_bits,
                way.zero_fraction,
                way.clip_fraction,
                way.cost.estimate.latency_us,
                way.cost.estimate.bound,
                way.weight_bytes,
                fitted.map_or("", |fitted| &fitted.fit.made),
                fitted.map_or_else(String::new, |fitted| fitted.gain_db.to_string()),
            );
        }
    }
    text
}

/// A number. Where there is none: "-" for what has no finite figure, for which result.json has the
/// reason; nothing for no error at all, which has no SQNR, and a high-precision output, which has no
/// LSB.
fn number(value: Option<f64>, of: &Metrics) -> String {
    match value {
        Some(value) => value.to_string(),
        None if of.sqnr_rank() == f64::NEG_INFINITY => "-".to_owned(),
        None => String::new(),
    }
}

/// A CSV field (RFC 4180).
pub(crate) fn field(text: &str) -> String {
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

//! `per_layer.csv`: a line for each operator in graph order, its columns called as the vendor's
//! `compare_per_layer_out.csv` calls them where that has them. `base` is float, `analy` VALIDATION.

use std::fmt::Write as _;

use super::{Report, ways::field};
use crate::{metrics::Metrics, report::OperatorMeasured};

const HEADER: &str = "mod_name,base_op_type,analy_op_type,shape,quant_dtype,qscale,Cosine,MSE,L1,KL,SQNR,Atol,\
Rtol,max_qscale_diff,base_model_min,analy_model_min,base_model_max,analy_model_max,base_model_mean,\
analy_model_mean,base_model_var,analy_model_var,op_name,isolated_sqnr_db,converted_sqnr_db,drop_db,parts_db,\
zero_share,clip_share,range_covered";

/// The file's text.
pub(crate) fn text(report: &Report<'_>) -> String {
    let mut text = format!("{HEADER}\n");
    for row in report.operators() {
        let OperatorMeasured {
            validation,
            float: [base_min, base_max, base_mean, base_var],
            quantized: [min, max, mean, var],
            ..
        } = &row;
        let Metrics {
            sqnr_db,
            cosine,
            l1,
            mse,
            atol,
            lsb,
            ..
        } = *validation;
        let shape: Vec<String> = row.shape.iter().map(usize::to_string).collect();
        let module = match row.module.as_str() {
            "" => &row.name,
            _ => &row.module,
        };
        let figures = [cosine, mse, l1, row.kl, sqnr_db, atol, row.rtol, lsb]
            .map(optional)
            .join(",");
        let ranges = [base_min, min, base_max, max, base_mean, mean, base_var, var];
        let ranges = ranges.map(|&value| optional(Some(value))).join(",");
        let own = [
            row.isolated.sqnr_db,
            row.converted.sqnr_db,
            row.drop_db,
            row.parts_db,
            Some(row.zero_share),
            Some(row.clip_share),
            row.range_covered,
        ];
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{},{},{},{},{},{},{figures},{ranges},{},{}",
            field(module),
            row.op,
            row.op,
            shape.join("*"),
            row.dtype,
            row.scale.map(|scale| scale.to_string()).unwrap_or_default(),
            field(&row.name),
            own.map(optional).join(","),
        );
    }
    text
}

/// A figure; nothing where there is no finite one.
fn optional(value: Option<f64>) -> String {
    value
        .filter(|value| value.is_finite())
        .map(|value| value.to_string())
        .unwrap_or_default()
}

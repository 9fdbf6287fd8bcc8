//! What each fake quant alone costs the outputs, in the order that was asked for.

use dual16_proto::v1::{OutputSensitivity, SensitivityMeasured};

use super::{
    cut,
    grid::{Grid, name, number, word},
    metrics::{magnitude, tenths},
    terminal::Paint,
};

/// The table, with the figures of the output that a row costs most.
pub(super) fn table(rows: &[SensitivityMeasured], top: usize, paint: Paint) -> String {
    let several = rows.iter().any(|row| row.outputs.len() > 1);
    let mut columns = vec![
        name("op_name"),
        word("type"),
        word("op_type").may_go(2),
        word("dtype").may_go(3),
    ];
    if several {
        columns.push(name("output"));
    }
    columns.extend([
        number("SQNR dB"),
        number("estimate").may_go(4),
        number("cosine").may_go(7),
        number("L1").may_go(6),
        number("max error").may_go(5),
        number("flops").may_go(1),
    ]);
    let mut grid = Grid::new(columns);
    let (shown, more) = cut(rows, top);
    for row in shown {
        let worst = worst(row);
        let mut cells = vec![
            row.op_name.as_str().into(),
            row.sensitive_type.as_str().into(),
            row.op_type.as_str().into(),
            row.quant_dtype.as_str().into(),
        ];
        if several {
            cells.push(worst.map_or("", |worst| worst.output.as_str()).into());
        }
        let cosine = worst.and_then(|worst| worst.cosine);
        cells.extend([
            tenths(worst.and_then(|worst| worst.sqnr)).into(),
            tenths(row.estimate_db).into(),
            cosine
                .map_or_else(|| "-".to_owned(), |cosine| format!("{cosine:.6}"))
                .into(),
            magnitude(worst.and_then(|worst| worst.l1)).into(),
            magnitude(worst.and_then(|worst| worst.atol)).into(),
            format!("{}({:.1}%)", row.macs, 100.0 * row.macs_share).into(),
        ]);
        grid.row(cells);
    }
    let title = "What each fake quant alone costs the model's outputs, everything else in float; the estimate is to \
                 first order";
    grid.titled(title, more, paint)
}

/// The output with the lowest SQNR.
fn worst(row: &SensitivityMeasured) -> Option<&OutputSensitivity> {
    let db = |output: &OutputSensitivity| output.sqnr.unwrap_or(f64::INFINITY);
    row.outputs.iter().min_by(|a, b| db(a).total_cmp(&db(b)))
}

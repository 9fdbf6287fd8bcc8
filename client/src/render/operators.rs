//! Operators of the whole quantized model, those that lose most first.

use dual16_proto::v1::OperatorMeasured;

use super::{
    cut,
    grid::{Grid, name, number, word},
    metrics::sqnr,
    terminal::Paint,
};

/// Rows shown, at most: the others are in per_layer.csv.
const SHOWN: usize = 10;
/// dB lost in one operator that are worth a row.
const WORTH: f64 = 3.0;

/// The table; None where no operator loses much.
pub(super) fn table(rows: &[OperatorMeasured], top: usize, paint: Paint) -> Option<String> {
    let drop = |row: &OperatorMeasured| row.drop_db.unwrap_or(0.0);
    // What a reduction makes is small beside what it is of: so is what its error does.
    let counts = |row: &&OperatorMeasured| drop(row) >= WORTH && !row.op.starts_with("Reduce");
    let mut worst: Vec<&OperatorMeasured> = rows.iter().filter(counts).collect();
    worst.sort_by(|a, b| drop(b).total_cmp(&drop(a)));
    if worst.is_empty() {
        return None;
    }
    let mut grid = Grid::new([
        name("operator"),
        word("op").may_go(1),
        word("dtype").may_go(2),
        number("drop"),
        number("alone"),
        number("validation").may_go(5),
        number("converted"),
        number("zeros").may_go(4),
        number("clipped").may_go(3),
    ]);
    let (shown, more) = cut(&worst, top.min(SHOWN));
    for row in shown {
        grid.row([
            row.name.as_str().into(),
            row.op.as_str().into(),
            row.dtype.as_str().into(),
            format!("{:.1}", drop(row)).into(),
            sqnr(row.isolated.as_ref()).into(),
            sqnr(row.validation.as_ref()).into(),
            sqnr(row.converted.as_ref()).into(),
            percent(row.zero_share).into(),
            percent(row.clip_share).into(),
        ]);
    }
    let title = "Operators that lose most: dB lost from the worst input to what they make, SQNR alone and in the \
                 whole quantized model, shares that become 0 and that saturate; all are in per_layer.csv";
    Some(grid.titled(title, more, paint))
}

fn percent(share: f64) -> String {
    match share {
        0.0 => "0".to_owned(),
        share => format!("{:.1} %", 100.0 * share),
    }
}

//! What was changed for the outputs' sake: a line for each change as it is judged, a table at the end.

use dual16_proto::v1::MendStep;

use super::{
    cut,
    grid::{Cell, Grid, name, number, word},
    metrics::tenths,
    terminal::{FAINT, GOOD, HANG, Paint},
    wrap::wrapped,
};

/// One change in one line.
pub(super) fn line(step: &MendStep, paint: Paint) -> String {
    let fate = match step.kept {
        true => format!("{} of it left", percent(step.left)),
        false => "did not help, taken back".to_owned(),
    };
    let line = format!(
        "mend {}: {} -> {}: {} of the error at the outputs, {fate}; outputs {} -> {} dB",
        step.op,
        step.from,
        step.to,
        percent(step.share),
        tenths(step.before_sqnr_db),
        tenths(step.output_sqnr_db),
    );
    wrapped(&line, paint.width(), HANG)
}

/// All changes, at most `top` (0 = all), in the order in which they were made.
pub(super) fn table(steps: &[MendStep], top: usize, paint: Paint) -> String {
    let mut grid = Grid::new([
        number("round").may_go(1),
        name("what cost the outputs"),
        word("kind").may_go(2),
        word("from"),
        word("to"),
        number("share"),
        number("left").may_go(3),
        number("est. us").may_go(4),
        number("outputs dB"),
    ]);
    let (shown, more) = cut(steps, top);
    for step in shown {
        let to = Cell::from(match step.kept {
            true => step.to.clone(),
            false => format!("({})", step.to),
        });
        grid.row([
            step.round.to_string().into(),
            step.op.as_str().into(),
            step.sensitive_type.as_str().into(),
            step.from.as_str().into(),
            to.styled(if step.kept { GOOD } else { FAINT }),
            percent(step.share).into(),
            percent(step.left).into(),
            format!("{:+.1}", step.added_us).into(),
            tenths(step.output_sqnr_db).into(),
        ]);
    }
    let title = "Mended for the outputs: what cost them most, its share of their error, what the change left of \
                 that and the time it adds on the chip (estimates), and the worst output of the quantized model on the calibration batches \
                 after its round";
    let taken_back = steps.iter().any(|step| !step.kept);
    let taken_back = taken_back.then(|| "( ) did not help and was taken back".to_owned());
    grid.titled(title, more.into_iter().chain(taken_back), paint)
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

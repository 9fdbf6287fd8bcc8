//! A job's results as its events bring them: lines while it runs, tables at its end.

use anstyle::Style;
use dual16_proto::v1::{
    JobEvent, LayerAccumulated, LayerMeasured, MendStep, Notice, OperatorMeasured, OutputMeasured,
    SensitivityMeasured, event_detail::Detail, notice::Severity,
};

use super::{
    cut,
    grid::{Cell, Grid, name, number, word},
    layer_line::layer_line,
    mended,
    metrics::{
        alone, cosine, latency, magnitude, measured, microseconds, sqnr, tenths, tried, ways_of,
    },
    notices, operators,
    progress::Progress,
    sensitivity,
    terminal::{FAINT, GOOD, HANG, Paint},
    wrap::wrapped,
};

/// The notice of a model that runs in float in good part.
const PARTLY_FLOAT: &str = "PARTLY_FLOAT";

/// What is known of a job's results. Events may repeat themselves after a retry: the newest counts.
#[derive(Debug, Default)]
pub struct Report {
    layers: Vec<LayerMeasured>,
    accumulated: Vec<LayerAccumulated>,
    outputs: Vec<OutputMeasured>,
    mended: Vec<MendStep>,
    operators: Vec<OperatorMeasured>,
    sensitivity: Vec<SensitivityMeasured>,
    notices: Vec<Notice>,
}

impl Report {
    /// Keeps what `event` tells and shows it on `progress`.
    pub fn event(&mut self, event: &JobEvent, progress: &Progress) {
        let Some(detail) = event
            .detail
            .as_ref()
            .and_then(|detail| detail.detail.as_ref())
        else {
            return;
        };
        let paint = progress.paint();
        match detail {
            Detail::StageStarted(stage) => progress.stage(&stage.stage, 0, stage.tasks),
            Detail::TaskDone(task) => progress.stage(&task.stage, task.done, task.tasks),
            Detail::TaskRetried(task) => {
                let error = task.error.clone().unwrap_or_default();
                progress.warning(&format!(
                    "{} is tried again: attempt {} on {} failed: {}",
                    task.task, error.attempt, error.worker, error.message
                ));
            }
            Detail::Notice(notice) => {
                // Where somebody watches, a warning is shown at once; of its kind the first is enough,
                // since all stand at the end. A log has them there alone.
                let told = |other: &Notice| {
                    (&other.code, other.severity) == (&notice.code, notice.severity)
                };
                let warns = notice.severity() == Severity::Warning;
                if progress.is_drawn() && warns && !self.notices.iter().any(told) {
                    progress.line(&notices::line(notice, paint));
                }
                self.notices.push(notice.clone());
            }
            Detail::LayerMeasured(layer) => {
                progress.line(&layer_line(layer, paint));
                keep(&mut self.layers, layer, |layer| &layer.layer);
            }
            Detail::LayerAccumulated(layer) => {
                keep(&mut self.accumulated, layer, |layer| &layer.layer);
            }
            Detail::OutputMeasured(output) => {
                keep(&mut self.outputs, output, |output| &output.output);
            }
            Detail::SensitivityMeasured(row) => {
                let same = |old: &SensitivityMeasured| {
                    (&old.op_name, &old.sensitive_type) == (&row.op_name, &row.sensitive_type)
                };
                if !self.sensitivity.iter().any(same) {
                    self.sensitivity.push(*row.clone());
                }
            }
            Detail::OperatorMeasured(row) => keep(&mut self.operators, row, |row| &row.name),
            Detail::Mended(step) => {
                progress.line(&mended::line(step, paint));
                let same = |old: &MendStep| {
                    (old.round, &old.op, &old.to) == (step.round, &step.op, &step.to)
                };
                if !self.mended.iter().any(same) {
                    self.mended.push(*step.clone());
                }
            }
            // The end of the job is told once, by whoever follows it.
            Detail::StateChanged(_) => {}
        }
    }

    /// Everything, as tables of at most `top` rows (0 = all); empty when nothing was measured.
    pub fn tables(&self, top: usize, paint: Paint) -> String {
        let mut parts = Vec::new();
        if !self.layers.is_empty() || !self.accumulated.is_empty() {
            parts.push(self.layer_table(top, paint));
        }
        let chosen = self.chosen_among_ways();
        if !chosen.is_empty() {
            parts.push(way_table(&chosen, top, paint));
        }
        if !self.sensitivity.is_empty() {
            parts.push(sensitivity::table(&self.sensitivity, top, paint));
        }
        if let Some(table) = operators::table(&self.operators, top, paint) {
            parts.push(table);
        }
        if !self.mended.is_empty() {
            parts.push(mended::table(&self.mended, top, paint));
        }
        if !self.outputs.is_empty() {
            parts.push(self.output_table(top, paint));
        }
        if !self.notices.is_empty() {
            parts.push(self.notices(top, paint));
        }
        parts.join("\n\n")
    }

    /// The notices alone, for a plan and for a job that failed.
    pub fn notices(&self, top: usize, paint: Paint) -> String {
        notices::summary(&self.notices, top == 0, paint)
    }

    fn layer_table(&self, top: usize, paint: Paint) -> String {
        let ways = ways_of(self.layers.iter());
        let mut columns = vec![
            name("layer"),
            word("requested").may_go(3),
            word("effective"),
            number("alone"),
        ];
        columns.extend(ways.iter().map(|way| number(way).may_go(2)));
        columns.extend([
            number("validation").may_go(4),
            number("converted"),
            number("est. us").may_go(3),
            number("bits").may_go(1),
        ]);
        let mut grid = Grid::new(columns);
        let layers = self.worst_first();
        let (shown, more) = cut(&layers, top);
        for layer in shown {
            grid.row(self.layer_row(layer, &ways));
        }
        let title = "Layers, the worst first: SQNR in dB of the effective way alone, of each way tried, and \
                     in the whole quantized model; est. us is an estimate of its time on the chip";
        let mut remarks: Vec<String> = more.into_iter().collect();
        remarks.extend(illegal(self.layers.iter()));
        let reasons: Vec<_> = layers
            .iter()
            .filter(|layer| !layer.reason.is_empty())
            .collect();
        let (told, more) = cut(&reasons, top);
        remarks.extend(told.iter().map(|layer| {
            format!(
                "{} runs as {}: {}",
                layer.layer, layer.effective, layer.reason
            )
        }));
        remarks.extend(more);
        let remarks = remarks
            .iter()
            .map(|remark| wrapped(remark, paint.width(), HANG));
        grid.titled(title, remarks, paint)
    }

    fn layer_row(&self, layer: &LayerMeasured, ways: &[String]) -> Vec<Cell> {
        let mut all = self.accumulated.iter();
        let whole = all.find(|whole| whole.layer == layer.layer);
        let effective = Cell::from(layer.effective.as_str());
        let runs = measured(layer, &layer.effective);
        let mut row = vec![
            layer.layer.as_str().into(),
            layer.requested.as_str().into(),
            match layer.requested == layer.effective {
                true => effective,
                false => effective.styled(GOOD),
            },
            sqnr(runs.and_then(|way| way.metrics.as_ref())).into(),
        ];
        row.extend(ways.iter().map(|way| way_cell(layer, way)));
        row.push(sqnr(whole.and_then(|whole| whole.validation.as_ref())).into());
        row.push(sqnr(whole.and_then(|whole| whole.converted.as_ref())).into());
        row.push(microseconds(runs.and_then(latency)).into());
        let bits = runs.map(|way| way.accumulator_bits.to_string());
        row.push(bits.unwrap_or_else(|| "-".to_owned()).into());
        row
    }

    /// By the error of the effective way alone, which is the layer's own doing. Measurements arrive as
    /// workers finish them; layers of the same error come in the model's order.
    fn worst_first(&self) -> Vec<&LayerMeasured> {
        let mut layers = self.in_model_order();
        layers.sort_by(|a, b| alone(a).total_cmp(&alone(b)));
        layers
    }

    fn in_model_order(&self) -> Vec<&LayerMeasured> {
        let position = |layer: &LayerMeasured| {
            let mut whole = self.accumulated.iter();
            whole
                .position(|whole| whole.layer == layer.layer)
                .unwrap_or(usize::MAX)
        };
        let mut layers: Vec<_> = self.layers.iter().collect();
        layers.sort_by_key(|layer| position(layer));
        layers
    }

    /// Layers of which several ways were tried, the worst first.
    fn chosen_among_ways(&self) -> Vec<&LayerMeasured> {
        let mut layers = self.worst_first();
        layers.retain(|layer| layer.ways.len() > 1);
        layers.sort_by(|a, b| requested(a).total_cmp(&requested(b)));
        layers
    }

    fn output_table(&self, top: usize, paint: Paint) -> String {
        let mut grid = Grid::new([
            name("output"),
            word("run"),
            number("SQNR dB"),
            number("cosine"),
            number("MSE").may_go(1),
            number("max error").may_go(3),
            number("LSB").may_go(2),
        ]);
        let (shown, more) = cut(&self.outputs, top);
        for output in shown {
            for (run, metrics) in [
                ("validation", &output.validation),
                ("converted", &output.converted),
            ] {
                let metrics = metrics.as_ref();
                let lsb = metrics.and_then(|metrics| metrics.lsb);
                grid.row([
                    output.output.as_str().into(),
                    run.into(),
                    sqnr(metrics).into(),
                    cosine(metrics).into(),
                    magnitude(metrics.and_then(|metrics| metrics.mse)).into(),
                    magnitude(metrics.and_then(|metrics| metrics.atol)).into(),
                    tenths(lsb).into(),
                ]);
            }
        }
        let mut notices = self.notices.iter();
        let title = match notices.find(|notice| notice.code == PARTLY_FLOAT) {
            Some(notice) => format!("Outputs, {}", notice.message),
            None => "Outputs of the whole quantized model".to_owned(),
        };
        grid.titled(&title, more, paint)
    }
}

/// SQNR of the way that was asked for, alone: what it was that other ways were tried for.
fn requested(layer: &LayerMeasured) -> f64 {
    let way = measured(layer, &layer.requested).and_then(|way| way.metrics.as_ref()?.sqnr_db);
    way.unwrap_or(f64::INFINITY)
}

/// What each way tried gains and costs.
fn way_table(layers: &[&LayerMeasured], top: usize, paint: Paint) -> String {
    let mut grid = Grid::new([
        name("layer"),
        word("way"),
        number("SQNR dB"),
        number("est. us"),
        word("bound by").may_go(2),
        number("MACs").may_go(1),
        number("bytes").may_go(3),
        number("held out").may_go(4),
    ]);
    let rows = layers.iter().flat_map(|layer| {
        let ways = tried(layer);
        ways.into_iter().map(move |way| (*layer, way))
    });
    let rows: Vec<_> = rows.collect();
    let (shown, more) = cut(&rows, top);
    for (layer, way) in shown {
        let effective = way.way == layer.effective;
        let bound = way
            .estimate
            .as_ref()
            .map_or("-", |estimate| &estimate.bound);
        let bold = |cell: Cell| match effective {
            true => cell.styled(Style::new().bold()),
            false => cell,
        };
        grid.row([
            layer.layer.as_str().into(),
            bold(way.way.as_str().into()),
            way_cell(layer, &way.way),
            bold(microseconds(latency(way)).into()),
            bound.into(),
            way.macs.to_string().into(),
            way.weight_bytes.to_string().into(),
            way.held_out_gain_db
                .map_or_else(|| "-".to_owned(), |gain| format!("{gain:+.1}"))
                .into(),
        ]);
    }
    let title = match rows.iter().any(|(_, way)| !way.fit.is_empty()) {
        false => {
            "Ways tried: SQNR in dB alone, and an estimate of the time on the chip for one batch"
        }
        true => {
            "Ways tried, and fits that were accepted: SQNR in dB alone, an estimate of the time on the \
             chip for one batch, and dB over the plain way on rows held out"
        }
    };
    let remarks = more.into_iter().chain(illegal(layers.iter().copied()));
    grid.titled(title, remarks, paint)
}

/// What the star of a way means, where there is one.
fn illegal<'a>(layers: impl Iterator<Item = &'a LayerMeasured>) -> Option<String> {
    let mut tried = layers.flat_map(|layer| &layer.ways);
    let starred = tried.any(|way| !way.legal && sqnr(way.metrics.as_ref()) != "-");
    starred.then(|| "* not legal for this toolchain".to_owned())
}

fn way_cell(layer: &LayerMeasured, way: &str) -> Cell {
    let Some(way) = measured(layer, way) else {
        return "-".into();
    };
    let text = sqnr(way.metrics.as_ref());
    if !way.legal && text != "-" {
        return Cell::from(format!("{text}*")).styled(FAINT);
    }
    match way.way == layer.effective {
        true => Cell::from(text).styled(Style::new().bold()),
        false => text.into(),
    }
}

fn keep<T: Clone>(all: &mut Vec<T>, new: &T, name: impl Fn(&T) -> &String) {
    match all.iter_mut().find(|old| name(old) == name(new)) {
        Some(old) => *old = new.clone(),
        None => all.push(new.clone()),
    }
}

#[cfg(test)]
mod tests;

//! A job's results as its events bring them: lines while it runs, tables at its end.

use comfy_table::{Attribute, Cell, CellAlignment, Color};
use dual16_proto::v1::{
    JobEvent, LayerAccumulated, LayerMeasured, Notice, OutputMeasured, event_detail::Detail,
};

use super::{
    metrics::{cosine, magnitude, measured, sqnr, ways_of},
    notices,
    progress::Progress,
    table::{new_table, right},
    terminal::Paint,
};

/// What is known of a job's results. Events may repeat themselves after a retry: the newest counts.
#[derive(Debug, Default)]
pub struct Report {
    layers: Vec<LayerMeasured>,
    accumulated: Vec<LayerAccumulated>,
    outputs: Vec<OutputMeasured>,
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
                progress.line(&notices::line(notice, paint));
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
            // The end of the job is told once, by whoever follows it.
            Detail::StateChanged(_) => {}
        }
    }

    /// Everything, as tables; empty when nothing was measured.
    pub fn tables(&self, paint: Paint) -> String {
        let mut parts = Vec::new();
        if !self.layers.is_empty() || !self.accumulated.is_empty() {
            parts.push(self.layer_table(paint));
        }
        if !self.outputs.is_empty() {
            parts.push(self.output_table(paint));
        }
        if !self.notices.is_empty() {
            parts.push(notices::summary(&self.notices, paint));
        }
        parts.join("\n\n")
    }

    /// The notices alone, for a plan.
    pub fn notices(&self, paint: Paint) -> String {
        notices::summary(&self.notices, paint)
    }

    fn layer_table(&self, paint: Paint) -> String {
        let ways = ways_of(self.layers.iter());
        let mut table = new_table(paint);
        let mut header = vec!["layer", "requested", "effective"];
        header.extend(ways.iter().map(String::as_str));
        header.extend(["validation", "converted", "bits"]);
        table.set_header(header);
        for layer in self.in_model_order() {
            let whole = self
                .accumulated
                .iter()
                .find(|whole| whole.layer == layer.layer);
            let replaced = layer.requested != layer.effective;
            let effective = Cell::new(&layer.effective);
            let mut row = vec![
                Cell::new(&layer.layer),
                Cell::new(&layer.requested),
                if replaced {
                    effective.fg(Color::Green)
                } else {
                    effective
                },
            ];
            row.extend(ways.iter().map(|way| way_cell(layer, way)));
            row.push(right(sqnr(
                whole.and_then(|whole| whole.validation.as_ref()),
            )));
            row.push(right(sqnr(
                whole.and_then(|whole| whole.converted.as_ref()),
            )));
            let bits = measured(layer, &layer.effective).map(|way| way.accumulator_bits);
            row.push(right(
                bits.map_or_else(|| "-".to_owned(), |bits| bits.to_string()),
            ));
            table.add_row(row);
        }
        let illegal = self
            .layers
            .iter()
            .flat_map(|layer| &layer.ways)
            .any(|way| !way.legal && sqnr(way.metrics.as_ref()) != "-");
        let mut text = format!(
            "Layers: SQNR in dB, each way alone, then in the whole quantized model\n{}",
            table.trim_fmt()
        );
        if illegal {
            text += "\n* not legal for this toolchain";
        }
        for layer in self.layers.iter().filter(|layer| !layer.reason.is_empty()) {
            text += &format!(
                "\n{} runs as {}: {}",
                layer.layer, layer.effective, layer.reason
            );
        }
        text
    }

    /// Measurements arrive as workers finish them; the whole model's come in the model's order.
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

    fn output_table(&self, paint: Paint) -> String {
        let mut table = new_table(paint);
        table.set_header(vec![
            "output",
            "run",
            "SQNR dB",
            "cosine",
            "MSE",
            "max error",
            "LSB",
        ]);
        for output in &self.outputs {
            for (run, metrics) in [
                ("validation", &output.validation),
                ("converted", &output.converted),
            ] {
                let metrics = metrics.as_ref();
                table.add_row(vec![
                    Cell::new(&output.output),
                    Cell::new(run),
                    right(sqnr(metrics)),
                    right(cosine(metrics)),
                    right(magnitude(metrics.and_then(|metrics| metrics.mse))),
                    right(magnitude(metrics.and_then(|metrics| metrics.atol))),
                    right(
                        metrics
                            .and_then(|metrics| metrics.lsb)
                            .map_or_else(|| "-".to_owned(), |lsb| format!("{lsb:.1}")),
                    ),
                ]);
            }
        }
        format!("Outputs of the whole quantized model\n{}", table.trim_fmt())
    }
}

fn way_cell(layer: &LayerMeasured, way: &str) -> Cell {
    let Some(way) = measured(layer, way) else {
        return right("-".to_owned());
    };
    let text = sqnr(way.metrics.as_ref());
    if !way.legal && text != "-" {
        return right(format!("{text}*")).fg(Color::DarkGrey);
    }
    let cell = Cell::new(text).set_alignment(CellAlignment::Right);
    match way.way == layer.effective {
        true => cell.add_attribute(Attribute::Bold),
        false => cell,
    }
}

/// One line for one layer, shown the moment it is known.
fn layer_line(layer: &LayerMeasured, paint: Paint) -> String {
    let ways: Vec<_> = ways_of(std::iter::once(layer))
        .iter()
        .filter_map(|way| measured(layer, way))
        .map(|way| {
            let text = format!("{} {}", way.way, sqnr(way.metrics.as_ref()));
            match (way.legal, way.way == layer.effective) {
                (false, _) => paint.faint(&format!("{text}*")),
                (true, true) => paint.good(&text),
                (true, false) => text,
            }
        })
        .collect();
    let chosen = match layer.requested == layer.effective {
        true => layer.effective.clone(),
        false => format!("{} -> {}", layer.requested, layer.effective),
    };
    format!(
        "layer {:<24} {chosen:<18} dB: {}",
        layer.layer,
        ways.join("  ")
    )
}

fn keep<T: Clone>(all: &mut Vec<T>, new: &T, name: impl Fn(&T) -> &String) {
    match all.iter_mut().find(|old| name(old) == name(new)) {
        Some(old) => *old = new.clone(),
        None => all.push(new.clone()),
    }
}

#[cfg(test)]
mod tests {
    use dual16_proto::v1::EventDetail;

    use super::*;
    use crate::render::{
        Terminal,
        metrics::tests::{layer, metrics},
    };

    fn report(details: Vec<Detail>) -> String {
        let terminal = Terminal::plain();
        let mut report = Report::default();
        for detail in details {
            let detail = Some(EventDetail {
                detail: Some(detail),
            });
            let event = JobEvent {
                sequence: 1,
                time: None,
                detail,
            };
            report.event(&event, &Progress::new(&terminal));
        }
        report.tables(terminal.stdout_paint())
    }

    #[test]
    fn a_layer_shows_every_way_the_choice_and_its_reason() {
        let measured = layer(
            "linear2",
            &[("a16w8", 13.4), ("split", 48.7), ("a16w16", 48.8)],
        );
        let whole = LayerAccumulated {
            layer: "linear2".to_owned(),
            validation: metrics(48.71),
            converted: metrics(48.2),
        };
        let text = report(vec![
            Detail::LayerMeasured(measured),
            Detail::LayerAccumulated(whole),
        ]);
        let row = text.lines().find(|line| line.contains("linear2")).unwrap();
        let words: Vec<_> = row.split_whitespace().filter(|word| *word != "|").collect();
        assert_eq!(
            words,
            [
                "linear2", "a16w8", "split", "13.4", "48.7", "48.8*", "48.7", "48.2", "28"
            ]
        );
        assert!(text.contains("* not legal for this toolchain"), "{text}");
        assert!(
            text.contains("linear2 runs as split: 13.4 dB is below 30 dB"),
            "{text}"
        );
    }

    #[test]
    fn a_repeated_layer_counts_once_and_the_newest_wins() {
        let text = report(vec![
            Detail::LayerMeasured(layer("a", &[("a16w8", 1.0)])),
            Detail::LayerMeasured(layer("a", &[("a16w8", 2.0)])),
        ]);
        assert!(text.contains("2.0") && !text.contains("1.0"), "{text}");
    }

    #[test]
    fn layers_stand_in_the_order_of_the_model() {
        let whole = |name: &str| {
            let layer = name.to_owned();
            Detail::LayerAccumulated(LayerAccumulated {
                layer,
                ..LayerAccumulated::default()
            })
        };
        let alone = |name: &str| Detail::LayerMeasured(layer(name, &[("a16w8", 1.0)]));
        let text = report(vec![
            alone("second"),
            alone("first"),
            whole("first"),
            whole("second"),
        ]);
        assert!(text.find("| first") < text.find("| second"), "{text}");
    }

    #[test]
    fn outputs_and_notices_are_never_left_out() {
        let text = report(vec![
            Detail::OutputMeasured(OutputMeasured {
                output: "logits".to_owned(),
                validation: metrics(40.0),
                converted: metrics(39.5),
            }),
            Detail::Notice(Notice {
                code: "WIDE_ACCUMULATOR".to_owned(),
                subject: "linear2".to_owned(),
                message: "needs 38 bits".to_owned(),
                ..Notice::default()
            }),
        ]);
        assert!(text.contains("logits") && text.contains("39.5"), "{text}");
        assert!(
            text.contains("linear2: needs 38 bits [WIDE_ACCUMULATOR]"),
            "{text}"
        );
    }
}

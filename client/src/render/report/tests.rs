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
    report.tables(20, terminal.stdout_paint())
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
        Detail::LayerAccumulated(Box::new(whole)),
    ]);
    let row = text.lines().find(|line| line.contains("linear2")).unwrap();
    let words: Vec<_> = row.split_whitespace().filter(|word| *word != "|").collect();
    assert_eq!(
        words,
        [
            "linear2", "a16w8", "split", "48.7", "13.4", "48.7", "48.8*", "48.7", "48.2", "3.50",
            "28"
        ]
    );
    assert!(text.contains("* not legal for this toolchain"), "{text}");
    let ways: Vec<_> = text
        .lines()
        .filter(|line| line.contains("| matrix"))
        .collect();
    let figures = |line: &&str| line.split_whitespace().nth(3).map(str::to_owned);
    assert_eq!(ways.len(), 3, "{text}");
    assert_eq!(
        ways.iter().filter_map(figures).collect::<Vec<_>>(),
        ["a16w8", "split", "a16w16"]
    );
    assert!(
        text.contains("an estimate of the time on the chip"),
        "{text}"
    );
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
fn the_worst_layer_stands_first_and_equal_ones_as_in_the_model() {
    let whole = |name: &str| {
        let layer = name.to_owned();
        Detail::LayerAccumulated(Box::new(LayerAccumulated {
            layer,
            ..LayerAccumulated::default()
        }))
    };
    let alone = |name: &str, db| Detail::LayerMeasured(layer(name, &[("split", db)]));
    let text = report(vec![
        alone("second", 2.0),
        alone("first", 2.0),
        alone("worst", 1.0),
        whole("first"),
        whole("second"),
        whole("worst"),
    ]);
    let at = |name: &str| text.find(&format!("| {name}"));
    assert!(
        at("worst") < at("first") && at("first") < at("second"),
        "{text}"
    );
}

#[test]
fn beyond_the_top_rows_are_counted() {
    let layers = (0..36).map(|index| layer(&format!("layer{index:02}"), &[("split", 40.0)]));
    let text = report(layers.map(Detail::LayerMeasured).collect());
    assert!(
        text.contains("layer19") && !text.contains("layer20"),
        "{text}"
    );
    assert!(text.contains("and 16 more; --top 0 for all"), "{text}");
}

#[test]
fn sixty_columns_hold_the_tables_with_whole_numbers() {
    let mut report = Report::default();
    let name = "encoder.layer.0.attention.self.query";
    let ways = ["a16w8", "a8w16", "mul_sum", "split", "a16w16"].map(|way| (way, 43.62));
    report.layers.push(layer(name, &ways));
    report.outputs.push(OutputMeasured {
        output: "last_hidden_state_of_the_encoder".to_owned(),
        validation: metrics(20.8),
        converted: metrics(20.8),
    });
    let text = report.tables(20, Paint::plain(Some(60)));
    assert!(
        text.lines().all(|line| line.chars().count() <= 60),
        "{text}"
    );
    for whole in ["43.6", "0.999000", "20.8", "no room here for:"] {
        assert!(text.contains(whole), "{whole}: {text}");
    }
}

#[test]
fn outputs_and_notices_are_never_left_out() {
    let text = report(vec![
        Detail::OutputMeasured(Box::new(OutputMeasured {
            output: "logits".to_owned(),
            validation: metrics(40.0),
            converted: metrics(39.5),
        })),
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

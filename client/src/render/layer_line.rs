//! A measured layer in one line, shown the moment it is known.

use dual16_proto::v1::LayerMeasured;

use super::{
    metrics::{measured, sqnr, ways_of},
    terminal::{HANG, Paint},
    wrap::{shortened, width_of, wrapped},
};

/// Columns for a name: that many names are not longer, and lines of all of them stay below each other.
const NAME: usize = 40;
/// The least, where a terminal is narrow.
const SHORT_NAME: usize = 24;

/// The line; names are cut on a terminal alone, since logs are searched.
pub(super) fn layer_line(layer: &LayerMeasured, paint: Paint) -> String {
    let chosen = match layer.requested == layer.effective {
        true => layer.effective.clone(),
        false => format!("{} -> {}", layer.requested, layer.effective),
    };
    let columns = paint
        .width()
        .map_or(NAME, |width| (width / 3).clamp(SHORT_NAME, NAME));
    let name = match paint.width() {
        Some(_) => shortened(&layer.layer, columns),
        None => layer.layer.as_str().into(),
    };
    let space = " ".repeat(columns.saturating_sub(width_of(&name)));
    let line = |ways: &[String]| {
        let ways: Vec<_> = ways
            .iter()
            .filter_map(|way| way_text(layer, way, paint))
            .collect();
        format!("layer {name}{space} {chosen:<16} dB: {}", ways.join("  "))
    };
    let mut ways = ways_of(std::iter::once(layer));
    if !ways.contains(&layer.effective) {
        ways.push(layer.effective.clone());
    }
    let whole = line(&ways);
    match paint.width() {
        // What was asked for and what runs say enough; the table has the others.
        Some(width) if width_of(&whole) > width => {
            let mut ways = vec![
                figure(layer, &layer.requested),
                figure(layer, &layer.effective),
            ];
            ways.dedup();
            let line = format!("layer {name}{space} {} dB", ways.join(" -> "));
            wrapped(&line, Some(width), HANG)
        }
        _ => whole,
    }
}

/// A way and its figure, where it has one.
fn figure(layer: &LayerMeasured, way: &str) -> String {
    match measured(layer, way) {
        Some(measured) => format!("{way} {}", sqnr(measured.metrics.as_ref())),
        None => way.to_owned(),
    }
}

fn way_text(layer: &LayerMeasured, way: &str, paint: Paint) -> Option<String> {
    let way = measured(layer, way)?;
    let text = format!("{} {}", way.way, sqnr(way.metrics.as_ref()));
    Some(match (way.legal, way.way == layer.effective) {
        (false, _) => paint.faint(&format!("{text}*")),
        (true, true) => paint.good(&text),
        (true, false) => text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::metrics::tests::layer;

    #[test]
    fn lines_of_short_and_long_names_are_aligned() {
        let long = layer("encoder.layer.0.attention.self.query", &[("split", 43.6)]);
        let short = layer("head", &[("split", 44.8)]);
        for width in [None, Some(60), Some(120)] {
            let paint = Paint::plain(width);
            let at = |layer| layer_line(layer, paint).find("a16w8 ->").map(|at| at > 0);
            assert_eq!(at(&long), Some(true), "{width:?}");
            let column = |layer| {
                let line = layer_line(layer, paint);
                width_of(line.split("a16w8 ->").next().unwrap_or_default())
            };
            assert_eq!(column(&long), column(&short), "{width:?}");
        }
        assert!(layer_line(&long, Paint::plain(Some(60))).contains("self.query"));
    }

    #[test]
    fn a_narrow_terminal_shows_what_was_asked_for_and_what_runs() {
        let ways = ["a16w8", "a8w16", "mul_sum", "split", "a16w16"].map(|way| (way, 43.62));
        let text = layer_line(&layer("head", &ways), Paint::plain(Some(80)));
        assert!(text.ends_with("a16w8 43.6 -> split 43.6 dB"), "{text}");
        assert!(width_of(&text) <= 80, "{text}");
    }
}

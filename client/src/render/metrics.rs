//! Errors as text.

use dual16_proto::v1::{LayerMeasured, Metrics, WayMeasured};

/// The ways in the order in which every table shows them.
const WAYS: [&str; 6] = ["a8w8", "a16w8", "a8w16", "mul_sum", "split", "a16w16"];

/// SQNR in dB with one decimal; "exact" where there is no error at all, "-" where nothing was
/// measured or no finite figure can be given.
pub(super) fn sqnr(metrics: Option<&Metrics>) -> String {
    match metrics.map(|metrics| (metrics.sqnr_db, metrics.atol)) {
        Some((Some(db), _)) => format!("{db:.1}"),
        Some((None, Some(0.0))) => "exact".to_owned(),
        Some((None, _)) | None => "-".to_owned(),
    }
}

/// A figure with one decimal; "-" where there is none.
pub(super) fn tenths(figure: Option<f64>) -> String {
    figure.map_or_else(|| "-".to_owned(), |figure| format!("{figure:.1}"))
}

/// Cosine with enough digits to tell good from perfect.
pub(super) fn cosine(metrics: Option<&Metrics>) -> String {
    let cosine = metrics.and_then(|metrics| metrics.cosine);
    cosine.map_or_else(|| "-".to_owned(), |cosine| format!("{cosine:.6}"))
}

/// A magnitude in four significant digits, with an exponent only where zeros would hide them.
pub(super) fn magnitude(value: Option<f64>) -> String {
    let Some(value) = value else {
        return "-".to_owned();
    };
    if value == 0.0 {
        return "0".to_owned();
    }
    match value.abs().log10().floor() {
        exponent @ -3.0..4.0 => {
            let digits = (3.0 - exponent) as usize;
            format!("{value:.digits$}")
        }
        _ => format!("{value:.3e}"),
    }
}

/// An estimated time in microseconds, in three significant digits or to the microsecond; "-" where
/// there is none.
pub(super) fn microseconds(us: Option<f64>) -> String {
    match us {
        None => "-".to_owned(),
        Some(us) if us < 10.0 => format!("{us:.2}"),
        Some(us) if us < 100.0 => format!("{us:.1}"),
        Some(us) => format!("{us:.0}"),
    }
}

/// What a way is estimated to take, where it could be set up.
pub(super) fn latency(way: &WayMeasured) -> Option<f64> {
    let us = way.estimate.as_ref()?.latency_us;
    (us > 0.0).then_some(us)
}

/// SQNR of the way that a layer runs in, alone; infinite for no error at all or no measurement.
pub(super) fn alone(layer: &LayerMeasured) -> f64 {
    measured(layer, &layer.effective)
        .and_then(|way| way.metrics.as_ref()?.sqnr_db)
        .unwrap_or(f64::INFINITY)
}

/// Where a way stands in every table, its fits behind it.
fn order(measured: &WayMeasured) -> usize {
    let plain = measured.way.split('+').next();
    let known = WAYS.iter().position(|known| Some(*known) == plain);
    known.unwrap_or(WAYS.len())
}

/// Every plain way that any of the layers tried, in the usual order.
pub(super) fn ways_of<'a>(layers: impl Iterator<Item = &'a LayerMeasured>) -> Vec<String> {
    let tried = layers.flat_map(|layer| &layer.ways);
    let mut plain: Vec<_> = tried.filter(|way| way.fit.is_empty()).collect();
    plain.sort_by_key(|way| (order(way), way.way.clone()));
    let mut ways: Vec<String> = plain.into_iter().map(|way| way.way.clone()).collect();
    ways.dedup();
    ways
}

/// Everything that a layer tried, ways in the usual order and each one's fits after it.
pub(super) fn tried(layer: &LayerMeasured) -> Vec<&WayMeasured> {
    let mut ways: Vec<_> = layer.ways.iter().collect();
    ways.sort_by_key(|way| order(way));
    ways
}

/// A layer's measurement of one way.
pub(super) fn measured<'a>(layer: &'a LayerMeasured, way: &str) -> Option<&'a WayMeasured> {
    layer.ways.iter().find(|measured| measured.way == way)
}

#[cfg(test)]
pub(super) mod tests {
    use dual16_proto::v1::CostEstimate;

    use super::*;

    pub(in crate::render) fn metrics(sqnr_db: f64) -> Option<Metrics> {
        Some(Metrics {
            sqnr_db: Some(sqnr_db),
            cosine: Some(0.999),
            ..Metrics::default()
        })
    }

    pub(in crate::render) fn layer(name: &str, ways: &[(&str, f64)]) -> LayerMeasured {
        LayerMeasured {
            layer: name.to_owned(),
            op: "Linear".to_owned(),
            requested: "a16w8".to_owned(),
            effective: "split".to_owned(),
            reason: "13.4 dB is below 30 dB".to_owned(),
            ways: ways
                .iter()
                .map(|(way, db)| WayMeasured {
                    way: (*way).to_owned(),
                    legal: *way != "a16w16",
                    metrics: metrics(*db),
                    accumulator_bits: 28,
                    estimate: Some(CostEstimate {
                        latency_us: 3.5,
                        bound: "matrix".to_owned(),
                        ..CostEstimate::default()
                    }),
                    ..WayMeasured::default()
                })
                .collect(),
        }
    }

    #[test]
    fn ways_come_in_the_usual_order_and_once() {
        let layers = [
            layer("a", &[("split", 1.0), ("a8w8", 2.0)]),
            layer("b", &[("split", 3.0)]),
        ];
        assert_eq!(ways_of(layers.iter()), ["a8w8", "split"]);
    }

    #[test]
    fn a_magnitude_has_an_exponent_only_where_it_needs_one() {
        for (value, text) in [
            (0.5378, "0.5378"),
            (0.0012346, "0.001235"),
            (1.092e-4, "1.092e-4"),
            (2865.7, "2866"),
            (12346.0, "1.235e4"),
            (0.0, "0"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(magnitude(Some(value)), text);
        }
        assert_eq!(magnitude(None), "-");
    }

    #[test]
    fn times_have_three_digits_or_whole_microseconds() {
        for (us, text) in [
            (1.234, "1.23"),
            (23.45, "23.4"),
            (123.4, "123"),
            (83_012.0, "83012"),
        ] {
            assert_eq!(microseconds(Some(us)), text);
        }
        assert_eq!(microseconds(None), "-");
    }

    #[test]
    fn no_error_and_no_measurement_are_told_apart() {
        assert_eq!(sqnr(None), "-");
        assert_eq!(sqnr(Some(&Metrics::default())), "-");
        let exact = Metrics {
            atol: Some(0.0),
            ..Metrics::default()
        };
        assert_eq!(sqnr(Some(&exact)), "exact");
        assert_eq!(sqnr(metrics(48.66).as_ref()), "48.7");
    }
}

//! The cheap metrics against their formulas, and their edges.

use dual16_quant::metrics::{ErrorSums, Metric, Metrics, MetricsError, Side, SortOrder};
use proptest::prelude::*;

fn measured(reference: &[f32], got: &[f32], scale: Option<f32>) -> Metrics {
    let mut sums = ErrorSums::default();
    sums.update(reference, got).unwrap();
    sums.finish(scale)
}

fn sum(reference: &[f32], got: &[f32], f: impl Fn(f64, f64) -> f64) -> f64 {
    reference
        .iter()
        .zip(got)
        .map(|(&r, &g)| f(r.into(), g.into()))
        .sum()
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-11 * b.abs().max(1e-300)
}

fn pairs() -> impl Strategy<Value = Vec<(f32, f32)>> {
    prop::collection::vec((-10.0f32..10.0, -10.0f32..10.0), 1..4000)
}

proptest! {
    #[test]
    fn metrics_are_their_formulas(pairs in pairs(), scale in 0.01f32..1.0) {
        let (reference, got): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
        let metrics = measured(&reference, &got, Some(scale));
        let n = reference.len() as f64;
        let of = |f: fn(f64, f64) -> f64| sum(&reference, &got, f);
        let squares = of(|r, g| (g - r).powi(2));
        let atol = reference.iter().zip(&got).map(|(&r, &g)| (f64::from(g) - f64::from(r)).abs());
        let atol = atol.fold(0.0, f64::max);
        let sqnr = 10.0 * (of(|r, _| r * r) / squares).log10();
        prop_assert!((metrics.sqnr_db.unwrap() - sqnr).abs() < 1e-9);
        let cosine = of(|r, g| r * g) / (of(|r, _| r * r) * of(|_, g| g * g)).sqrt();
        prop_assert!((metrics.cosine - cosine).abs() < 1e-12);
        prop_assert!(close(metrics.l1, of(|r, g| (g - r).abs()) / n));
        prop_assert!(close(metrics.mse, squares / n));
        prop_assert_eq!(metrics.atol, atol);
        prop_assert_eq!(metrics.lsb, Some(atol / f64::from(scale)));
    }

    #[test]
    fn merged_parts_measure_as_the_whole(pairs in pairs(), cut in 0usize..4000) {
        let (reference, got): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
        let cut = cut.min(reference.len());
        let mut sums = ErrorSums::default();
        for part in [0..cut, cut..reference.len()] {
            let mut own = ErrorSums::default();
            own.update(&reference[part.clone()], &got[part]).unwrap();
            let bytes = postcard::to_stdvec(&own).unwrap();
            sums.merge(&postcard::from_bytes(&bytes).unwrap());
        }
        let (a, b) = (sums.finish(None), measured(&reference, &got, None));
        prop_assert_eq!(sums.count(), reference.len() as u64);
        prop_assert!((a.sqnr_db.unwrap() - b.sqnr_db.unwrap()).abs() < 1e-9);
        prop_assert!((a.cosine - b.cosine).abs() < 1e-12);
        prop_assert!(close(a.l1, b.l1) && close(a.mse, b.mse) && a.atol == b.atol);
    }

    #[test]
    fn any_finite_pair_gives_finite_metrics(
        reference in prop::num::f32::NORMAL | prop::num::f32::SUBNORMAL | prop::num::f32::ZERO,
        got in prop::num::f32::NORMAL | prop::num::f32::SUBNORMAL | prop::num::f32::ZERO,
    ) {
        let m = measured(&[reference], &[got], None);
        let figures = [m.sqnr_db.unwrap_or(0.0), m.cosine, m.l1, m.mse, m.atol];
        prop_assert!(figures.iter().all(|figure| figure.is_finite()), "{:?}", m);
        prop_assert_eq!(m.sqnr_db.is_none(), reference == got);
    }
}

#[test]
fn a_perfect_match_has_no_sqnr() {
    for values in [
        &[][..],
        &[0.0],
        &[1.5, -2.0],
        &[f32::MAX],
        &[f32::from_bits(1)],
    ] {
        let metrics = measured(values, values, Some(0.5));
        let expected = Metrics {
            sqnr_db: None,
            cosine: 1.0,
            l1: 0.0,
            mse: 0.0,
            atol: 0.0,
            lsb: Some(0.0),
        };
        assert_eq!(metrics, expected, "{values:?}");
    }
}

#[test]
fn an_error_on_a_reference_of_zeros_is_the_worst_sqnr_not_the_best() {
    let metrics = measured(&[0.0, 0.0], &[0.0, 1e-3], None);
    assert!(metrics.sqnr_db.unwrap() < -2000.0, "{metrics:?}");
    assert_eq!(metrics.cosine, 0.0);
}

#[test]
fn json_has_the_documented_fields() {
    let metrics = measured(&[1.0, 2.0], &[1.0, 2.5], Some(0.25));
    let json = serde_json::to_value(metrics).unwrap();
    let mut fields: Vec<&String> = json.as_object().unwrap().keys().collect();
    fields.sort();
    assert_eq!(fields, ["atol", "cosine", "l1", "lsb", "mse", "sqnr_db"]);
    assert_eq!(json["lsb"], 2.0);
    assert_eq!(serde_json::from_value::<Metrics>(json).unwrap(), metrics);
    let perfect = serde_json::to_value(measured(&[1.0], &[1.0], None)).unwrap();
    assert!(perfect["sqnr_db"].is_null() && perfect["lsb"].is_null());
}

#[test]
fn what_cannot_be_compared_is_refused_and_leaves_no_trace() {
    let mut sums = ErrorSums::default();
    sums.update(&[1.0], &[2.0]).unwrap();
    let before = sums;
    let length = sums.update(&[1.0, 2.0], &[1.0]).unwrap_err();
    assert_eq!(
        length,
        MetricsError::Length {
            reference: 2,
            got: 1
        }
    );
    let infinite = sums.update(&[1.0, 1.0], &[1.0, f32::INFINITY]).unwrap_err();
    let expected = MetricsError::NonFinite {
        side: Side::Got,
        index: 1,
        value: f32::INFINITY,
    };
    assert_eq!(infinite, expected);
    assert!(
        sums.update(&[f32::NAN], &[0.0])
            .unwrap_err()
            .to_string()
            .contains("reference")
    );
    assert_eq!(sums, before);
}

#[test]
fn tables_show_the_worst_first() {
    let (good, bad, perfect) = (
        measured(&[1.0, 2.0], &[1.0, 2.01], Some(0.1)),
        measured(&[1.0, 2.0], &[-1.0, 2.5], Some(0.1)),
        measured(&[1.0], &[1.0], None),
    );
    for metric in Metric::ALL {
        assert_eq!(metric.to_string().parse::<Metric>().unwrap(), metric);
        let ascending = matches!(metric, Metric::Sqnr | Metric::Cosine);
        assert_eq!(metric.sort_order() == SortOrder::Ascending, ascending);
        if metric.of(&good).is_some() {
            let mut rows = [perfect, good, bad];
            rows.sort_by(|a, b| metric.worst_first(a, b));
            assert_eq!(rows, [bad, good, perfect], "{metric}");
        }
    }
    assert!(
        "snr"
            .parse::<Metric>()
            .unwrap_err()
            .to_string()
            .contains("sqnr")
    );
}

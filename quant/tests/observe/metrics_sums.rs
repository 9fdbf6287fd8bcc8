//! The cheap metrics against their formulas, and their edges.

use dual16_quant::metrics::{ErrorSums, Metric, Metrics, MetricsError, SortOrder};
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
        prop_assert!((metrics.cosine.unwrap() - cosine).abs() < 1e-12);
        prop_assert!(close(metrics.l1.unwrap(), of(|r, g| (g - r).abs()) / n));
        prop_assert!(close(metrics.mse.unwrap(), squares / n));
        prop_assert_eq!(metrics.atol, Some(atol));
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
        prop_assert!((a.cosine.unwrap() - b.cosine.unwrap()).abs() < 1e-12);
        prop_assert!(close(a.l1.unwrap(), b.l1.unwrap()) && close(a.mse.unwrap(), b.mse.unwrap()));
        prop_assert_eq!(a.atol, b.atol);
    }

    #[test]
    fn any_finite_pair_gives_finite_metrics(
        reference in prop::num::f32::NORMAL | prop::num::f32::SUBNORMAL | prop::num::f32::ZERO,
        got in prop::num::f32::NORMAL | prop::num::f32::SUBNORMAL | prop::num::f32::ZERO,
    ) {
        let m = measured(&[reference], &[got], None);
        let figures = [Some(m.sqnr_db.unwrap_or(0.0)), m.cosine, m.l1, m.mse, m.atol];
        prop_assert!(figures.iter().all(|figure| figure.unwrap().is_finite()), "{:?}", m);
        prop_assert_eq!(m.sqnr_db.is_none(), reference == got || reference == 0.0);
        prop_assert_eq!(m.reason.is_empty(), m.sqnr_db.is_some());
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
            cosine: Some(1.0),
            l1: Some(0.0),
            mse: Some(0.0),
            atol: Some(0.0),
            lsb: Some(0.0),
            reason: match values {
                [] => "no measured batch has an element of it".to_owned(),
                _ => "there is no error".to_owned(),
            },
            left_out: 0,
        };
        assert_eq!(metrics, expected, "{values:?}");
    }
}

#[test]
fn an_error_on_a_reference_of_zeros_is_the_worst_sqnr_not_the_best() {
    let metrics = measured(&[0.0, 0.0], &[0.0, 1e-3], None);
    assert_eq!((metrics.sqnr_db, metrics.cosine), (None, Some(0.0)));
    assert!(metrics.reason.contains("0 everywhere"), "{metrics:?}");
    let perfect = measured(&[0.0], &[0.0], None);
    assert_eq!(metrics.sqnr_rank(), f64::NEG_INFINITY);
    assert_eq!(perfect.sqnr_rank(), f64::INFINITY);
    let far = measured(&[1.0], &[1e6], None);
    let mut rows = [perfect.clone(), far.clone(), metrics.clone()];
    rows.sort_by(|a, b| Metric::Sqnr.worst_first(a, b));
    assert_eq!(rows, [metrics, far, perfect]);
}

#[test]
fn json_has_the_documented_fields() {
    let metrics = measured(&[1.0, 2.0], &[1.0, 2.5], Some(0.25));
    let json = serde_json::to_value(&metrics).unwrap();
    let mut fields: Vec<&String> = json.as_object().unwrap().keys().collect();
    fields.sort();
    assert_eq!(
        fields,
        [
            "atol", "cosine", "l1", "left_out", "lsb", "mse", "reason", "sqnr_db"
        ]
    );
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
    assert_eq!(sums, before);
}

#[test]
fn positions_without_a_finite_reference_are_left_out_and_counted() {
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    let reference = [1.0, nan, 2.0, -inf, inf];
    let mut metrics = measured(&reference, &[1.0, 5.0, 2.5, nan, inf], Some(0.5));
    assert_eq!(metrics.left_out, 3);
    metrics.left_out = 0;
    assert_eq!(metrics, measured(&[1.0, 2.0], &[1.0, 2.5], Some(0.5)));

    let nowhere = measured(&[nan, inf], &[0.0, 1.0], Some(0.5));
    assert_eq!(
        (nowhere.sqnr_db, nowhere.atol, nowhere.lsb),
        (None, None, None)
    );
    assert_eq!(nowhere.left_out, 2);
    assert!(nowhere.reason.contains("nowhere finite"), "{nowhere:?}");
}

#[test]
fn a_quantized_tensor_that_is_not_finite_has_no_figures() {
    for bad in [f32::NAN, f32::INFINITY] {
        let metrics = measured(&[1.0, f32::NAN, 3.0], &[1.0, bad, bad], Some(0.5));
        assert_eq!(metrics.left_out, 1);
        for metric in Metric::ALL {
            assert_eq!(metric.of(&metrics), None, "{metric}");
        }
        assert!(metrics.reason.contains("at 1 positions"), "{metrics:?}");
        assert_eq!(metrics.sqnr_rank(), f64::NEG_INFINITY);
    }
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
            let mut rows = [perfect.clone(), good.clone(), bad.clone()];
            rows.sort_by(|a, b| metric.worst_first(a, b));
            assert_eq!(
                rows,
                [bad.clone(), good.clone(), perfect.clone()],
                "{metric}"
            );
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

//! The fold over batches: order, parity with the naive formulas, and what happens where something
//! is missing.

use dual16_nash::dtype::IntDtype::{Int8, Int16};
use dual16_quant::observe::{
    EMA_CONSTANT, MergeMode, ObserveError, ObserverKind, Percentile, Range, Sketch, Statistics,
    Wants,
};
use proptest::prelude::*;

const KINDS: [&str; 4] = ["minmax", "mse", "percentile:99", "kl"];

fn kind(name: &str) -> ObserverKind {
    name.parse().unwrap()
}

fn sketch(values: &[f32]) -> Sketch {
    Sketch::of(values, &[values.len()], Wants::ALL)
}

fn batches() -> impl Strategy<Value = Vec<Vec<f32>>> {
    let value = prop_oneof![
        -1.0f32..1.0,
        -100.0f32..1000.0,
        Just(0.0),
        Just(-0.0),
        Just(1e-42)
    ];
    prop::collection::vec(prop::collection::vec(value, 1..200), 1..6)
}

/// Mean and population variance in two passes.
fn naive_moments(values: &[f32]) -> (f64, f64) {
    let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / values.len() as f64;
    let squares = values
        .iter()
        .map(|&v| (f64::from(v) - mean).powi(2))
        .sum::<f64>();
    (mean, squares / values.len() as f64)
}

fn close(a: f64, b: f64, scale: f64) -> bool {
    (a - b).abs() <= 1e-12 * scale.max(f64::MIN_POSITIVE)
}

proptest! {
    #[test]
    fn exact_does_not_depend_on_the_order(batches in batches(), turn in 0usize..6) {
        let forth: Vec<Sketch> = batches.iter().map(|batch| sketch(batch)).collect();
        let mut other = forth.clone();
        other.reverse();
        other.rotate_left(turn % forth.len());
        for merge in [MergeMode::Exact, MergeMode::Ema] {
            let (a, b) = (Statistics::fold(forth.clone(), merge), Statistics::fold(other.clone(), merge));
            for (name, dtype) in KINDS.iter().flat_map(|name| [(name, Int8), (name, Int16)]) {
                let range = |s: &Statistics| s.range(kind(name), dtype, MergeMode::Exact).unwrap().range;
                let bits = |r: Range| (r.min().to_bits(), r.max().to_bits());
                prop_assert_eq!(bits(range(&a)), bits(range(&b)), "{} {}", name, dtype);
            }
        }
    }

    #[test]
    fn ema_is_the_naive_fold_in_batch_order(batches in batches()) {
        let statistics = Statistics::fold(batches.iter().map(|b| sketch(b)), MergeMode::Ema);
        for (name, dtype) in KINDS.iter().flat_map(|name| [(name, Int8), (name, Int16)]) {
            let alone = |batch: &Vec<f32>| {
                let one = Statistics::fold([sketch(batch)], MergeMode::Exact);
                one.range(kind(name), dtype, MergeMode::Exact).unwrap().range
            };
            let ranges: Vec<Range> = batches.iter().map(alone).collect();
            let (mut min, mut max) = (ranges[0].min(), ranges[0].max());
            for range in &ranges[1..] {
                min += EMA_CONSTANT * (range.min() - min);
                max += EMA_CONSTANT * (range.max() - max);
            }
            let got = statistics.range(kind(name), dtype, MergeMode::Ema).unwrap().range;
            prop_assert_eq!((got.min(), got.max()), (min, max));
        }
    }

    #[test]
    fn moments_match_two_passes(batches in batches(), offset in prop_oneof![Just(0.0f32), Just(1e6)]) {
        let moved = |batch: &Vec<f32>| batch.iter().map(|v| v + offset).collect::<Vec<f32>>();
        let batches: Vec<Vec<f32>> = batches.iter().map(moved).collect();
        let statistics = Statistics::fold(batches.iter().map(|b| sketch(b)), MergeMode::Exact);
        let (mean, variance) = naive_moments(&batches.concat());
        let amax = f64::from(statistics.observed().unwrap().amax());
        prop_assert!(close(statistics.mean(), mean, amax));
        // Rounding of the mean enters the variance by amax * epsilon times the deviation.
        prop_assert!(close(statistics.variance(), variance, variance + amax * variance.sqrt()));
        prop_assert_eq!(statistics.count(), batches.concat().len() as u64);
    }

    #[test]
    fn statistics_survive_the_wire(batches in batches()) {
        let statistics = Statistics::fold(batches.iter().map(|b| sketch(b)), MergeMode::Ema);
        let bytes = postcard::to_stdvec(&statistics).unwrap();
        prop_assert_eq!(postcard::from_bytes::<Statistics>(&bytes).unwrap(), statistics);
    }
}

#[test]
fn constant_and_extreme_batches_give_a_range() {
    let (tiny, max) = (f32::from_bits(1), f32::MAX);
    for values in [
        &[0.0][..],
        &[-0.0, 0.0],
        &[3.5],
        &[-2.0; 9],
        &[tiny, -tiny],
        &[max, -max, 1.0],
    ] {
        let statistics = Statistics::fold([sketch(values), sketch(values)], MergeMode::Ema);
        let observed = statistics.observed().unwrap();
        for (name, merge) in KINDS
            .iter()
            .flat_map(|n| [(n, MergeMode::Exact), (n, MergeMode::Ema)])
        {
            let range = statistics.range(kind(name), Int8, merge).unwrap().range;
            assert!(
                range.amax() <= observed.amax(),
                "{name} of {values:?} gives {range:?}"
            );
        }
        let minmax = statistics
            .range(ObserverKind::MinMax, Int16, MergeMode::Ema)
            .unwrap();
        assert_eq!(minmax.range, observed);
        assert!(statistics.variance().is_finite());
    }
}

#[test]
fn ema_of_ends_whose_difference_overflows_stays_finite() {
    let statistics = Statistics::fold([sketch(&[f32::MIN]), sketch(&[f32::MAX])], MergeMode::Ema);
    let range = statistics
        .range(ObserverKind::MinMax, Int8, MergeMode::Ema)
        .unwrap()
        .range;
    let expected = -0.98 * f64::from(f32::MAX);
    assert!(
        (f64::from(range.min()) / expected - 1.0).abs() < 1e-6,
        "{range:?}"
    );
}

#[test]
fn percentile_drops_the_outlier_and_100_percent_keeps_it() {
    let mut values = vec![1.0f32; 9_999];
    values.push(-500.0);
    let statistics = Statistics::fold([sketch(&values)], MergeMode::Exact);
    let clip = |percent| {
        let kind = ObserverKind::Percentile(Percentile::new(percent).unwrap());
        statistics
            .range(kind, Int16, MergeMode::Exact)
            .unwrap()
            .range
    };
    let clipped = clip(99.99);
    assert!(
        clipped.max() == 1.0 && (-1.25..=-1.0).contains(&clipped.min()),
        "{clipped:?}"
    );
    assert_eq!(clip(100.0), statistics.observed().unwrap());
}

#[test]
fn kl_at_int16_says_that_it_fell_back() {
    let statistics = Statistics::fold([sketch(&[-1.0, 2.0, 700.0])], MergeMode::Exact);
    let choice = statistics
        .range(ObserverKind::Kl, Int16, MergeMode::Exact)
        .unwrap();
    assert_eq!(Some(choice.range), statistics.observed());
    assert!(choice.fell_back.unwrap().contains("minmax"));
    let int8 = statistics
        .range(ObserverKind::Kl, Int8, MergeMode::Exact)
        .unwrap();
    assert_eq!(int8.fell_back, None);
}

#[test]
fn a_missing_part_is_named() {
    let lean = Sketch::of(&[1.0, 2.0], &[2], Wants::default());
    let statistics = Statistics::fold([lean.clone(), sketch(&[3.0])], MergeMode::Exact);
    let error = |name, dtype| {
        statistics
            .range(kind(name), dtype, MergeMode::Exact)
            .unwrap_err()
    };
    for (name, dtype, part) in [
        ("percentile", Int8, "histogram"),
        ("kl", Int8, "histogram"),
        ("mse", Int8, "mse choice for int8"),
        ("mse", Int16, "mse choice for int16"),
    ] {
        assert!(
            error(name, dtype).to_string().contains(part),
            "{}",
            error(name, dtype)
        );
    }
    let summed = Statistics::fold([sketch(&[1.0]), sketch(&[3.0])], MergeMode::Exact);
    let percentile = kind("percentile");
    assert!(summed.range(percentile, Int8, MergeMode::Exact).is_ok());
    assert_eq!(
        summed.range(percentile, Int8, MergeMode::Ema),
        Err(ObserveError::NotPerBatch {
            observer: "percentile"
        })
    );
}

#[test]
fn batches_without_elements_do_not_count() {
    let empty = sketch(&[]);
    assert_eq!((empty.range(), empty.moments().count()), (None, 0));
    let nothing = Statistics::fold([empty.clone()], MergeMode::Exact);
    for name in KINDS {
        let range = nothing.range(kind(name), Int8, MergeMode::Exact);
        assert_eq!(range, Err(ObserveError::Empty), "{name}");
    }
    let some = Statistics::fold([empty.clone(), sketch(&[-4.0, 4.0]), empty], MergeMode::Ema);
    for name in KINDS {
        assert!(
            some.range(kind(name), Int8, MergeMode::Ema).is_ok(),
            "{name}"
        );
    }
    assert_eq!(some.count(), 2);
}

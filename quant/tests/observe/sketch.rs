//! The sketch of one batch: whole or streamed, with the parts that were wanted, or an error that says
//! where a value is not finite.

use dual16_nash::dtype::IntDtype::{Int8, Int16};
use dual16_quant::observe::{
    MergeMode, ObserverKind, Range, Sketch, SketchBuilder, Statistics, Wants,
};
use proptest::prelude::*;

const KINDS: [&str; 4] = ["minmax", "mse", "percentile:99", "kl"];

fn kind(name: &str) -> ObserverKind {
    name.parse().unwrap()
}

proptest! {
    #[test]
    fn a_stream_gives_the_sketch_of_the_whole(
        values in prop::collection::vec(-50.0f32..50.0, 0..6000),
        cuts in prop::collection::vec(0usize..6000, 0..5),
    ) {
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(values.len())).collect();
        cuts.extend([0, values.len()]);
        cuts.sort_unstable();
        let mut builder = SketchBuilder::new(&[values.len()], true);
        for cut in cuts.windows(2) {
            builder.update(&values[cut[0]..cut[1]]);
        }
        let (streamed, whole) = (builder.finish(), Sketch::of(&values, &[values.len()], Wants::ALL));
        prop_assert_eq!(streamed.range(), whole.range());
        prop_assert_eq!(streamed.moments(), whole.moments());
        prop_assert_eq!(streamed.histogram(), whole.histogram());
    }
}

#[test]
fn what_is_wanted_is_enough_and_no_more() {
    for (name, dtype) in KINDS.iter().flat_map(|name| [(name, Int8), (name, Int16)]) {
        let wants = Wants::of(kind(name), dtype);
        let sketch = Sketch::of(&[1.0, -2.0, 3.0], &[3], wants);
        assert_eq!(sketch.histogram().is_some(), wants.histogram);
        assert_eq!(sketch.mse(Int8).is_some(), wants.mse_int8);
        assert_eq!(sketch.mse(Int16).is_some(), wants.mse_int16);
        let statistics = Statistics::fold([sketch], MergeMode::Exact);
        assert!(
            statistics
                .range(kind(name), dtype, MergeMode::Exact)
                .is_ok(),
            "{name} {dtype}"
        );
    }
}

#[test]
fn a_stream_has_the_unclipped_int16_choice_and_none_at_int8() {
    let mut builder = SketchBuilder::new(&[2], false);
    builder.update(&[-1.0]);
    builder.update(&[5.0]);
    let sketch = builder.finish();
    let choice = sketch.mse(Int16).unwrap();
    assert_eq!(
        (choice.index, Some(choice.range), choice.loss),
        (0, sketch.range(), None)
    );
    assert_eq!(sketch.mse(Int8), None);
}

#[test]
fn known_extremes_stand_for_values_that_are_never_formed() {
    let sketch = Sketch::of_range(&[2, 3], -1.5, 4.0);
    let mut builder = SketchBuilder::new(&[2, 3], false);
    builder.update(&[0.0, 4.0, 1.0, -1.5, 2.0, 3.0]);
    let formed = builder.finish();
    assert_eq!(
        (sketch.shape(), sketch.range()),
        (formed.shape(), formed.range())
    );
    assert_eq!(sketch.mse(Int16), formed.mse(Int16));
    assert_eq!(sketch.moments().count(), 0);
    let statistics = Statistics::fold([sketch, formed], MergeMode::Exact);
    assert_eq!((statistics.count(), statistics.mean()), (6, 8.5 / 6.0));
    assert_eq!(Sketch::of_range(&[0, 3], 0.0, 0.0).range(), None);
    let infinite = Sketch::of_range(&[1], f32::NEG_INFINITY, 1.0).range();
    assert_eq!(infinite, Range::new(f32::MIN, 1.0));
    assert_eq!(Sketch::of_range(&[1], f32::NAN, f32::NAN).range(), None);
}

#[test]
fn values_that_are_not_finite_are_left_out_and_counted() {
    let finite: Vec<f32> = (0..5_000u16).map(|i| f32::from(i % 97) - 40.0).collect();
    let mut values = finite.clone();
    values.insert(4_321, f32::NEG_INFINITY);
    values.insert(100, f32::NAN);
    values.push(f32::INFINITY);
    let (whole, plain) = (
        Sketch::of(&values, &[5_003], Wants::ALL),
        Sketch::of(&finite, &[5_000], Wants::ALL),
    );
    assert_eq!((whole.left_out(), plain.left_out()), (3, 0));
    assert_eq!(whole.range(), plain.range());
    assert_eq!(whole.moments(), plain.moments());
    assert_eq!(whole.histogram(), plain.histogram());
    for dtype in [Int8, Int16] {
        assert_eq!(whole.mse(dtype), plain.mse(dtype));
    }
    let mut builder = SketchBuilder::new(&[5_003], true);
    values.chunks(700).for_each(|chunk| builder.update(chunk));
    let streamed = builder.finish();
    assert_eq!(streamed.left_out(), 3);
    assert_eq!(streamed.moments(), plain.moments());

    let nothing = Sketch::of(&[f32::NAN], &[1], Wants::ALL);
    assert_eq!((nothing.range(), nothing.left_out()), (None, 1));
    let statistics = Statistics::fold([nothing, whole], MergeMode::Exact);
    assert_eq!(
        (statistics.left_out(), statistics.observed()),
        (4, plain.range())
    );
}

#[test]
fn names_are_what_a_person_types() {
    for name in ["minmax", "mse", "percentile", "percentile:99.9", "kl"] {
        assert_eq!(kind(name).to_string(), name);
        let json = serde_json::to_string(&kind(name)).unwrap();
        assert_eq!(
            serde_json::from_str::<ObserverKind>(&json).unwrap(),
            kind(name)
        );
    }
    for wrong in [
        "",
        "MinMax",
        "percentile:",
        "percentile:0",
        "percentile:101",
        "percentile:NaN",
    ] {
        assert!(wrong.parse::<ObserverKind>().is_err(), "{wrong}");
    }
    for merge in [MergeMode::Exact, MergeMode::Ema] {
        assert_eq!(merge.to_string().parse::<MergeMode>().unwrap(), merge);
        assert_eq!(
            serde_json::to_string(&merge).unwrap(),
            format!("\"{merge}\"")
        );
    }
    assert!(
        "average"
            .parse::<MergeMode>()
            .unwrap_err()
            .to_string()
            .contains("exact, ema")
    );
}

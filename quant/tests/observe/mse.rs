//! The search over the 95 candidates against measuring all of them, and that against the definition.

use dual16_nash::dtype::IntDtype;
use dual16_quant::observe::{
    MSE_CANDIDATES, MseSearch, Range, choose_mse, choose_mse_exhaustive, mse_loss,
};
use proptest::prelude::*;

fn range_of(values: &[f32]) -> Range {
    let min = values.iter().copied().fold(f32::INFINITY, f32::min);
    let max = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    Range::new(min, max).unwrap()
}

/// Both searches agree to the bit, at both dtypes, whichever is asked for first.
fn check(values: &[f32]) {
    let range = range_of(values);
    let search = MseSearch::new(values, range);
    for dtype in IntDtype::ALL {
        let expected = choose_mse_exhaustive(values, range, dtype);
        let what = format!("{} values in {range:?} at {dtype}", values.len());
        assert_eq!(search.choose(dtype), expected, "{what}");
        assert_eq!(choose_mse(values, range, dtype), expected, "{what}");
    }
}

/// How a value comes from four uniform numbers in [0, 1).
#[derive(Debug, Clone, Copy)]
enum Shape {
    Uniform,
    Gaussian,
    /// Ratio of two numbers: no variance.
    Heavy,
    /// Nine zeros of ten.
    Sparse,
    OneSided,
    /// 17 distinct values: a bound that supposed a smooth density would fail here.
    Steps,
    /// Far from zero, as a mask of large negative numbers makes them.
    Offset,
}

const SHAPES: [Shape; 7] = [
    Shape::Uniform,
    Shape::Gaussian,
    Shape::Heavy,
    Shape::Sparse,
    Shape::OneSided,
    Shape::Steps,
    Shape::Offset,
];

impl Shape {
    fn value(self, [a, b, c, d]: [f32; 4]) -> f32 {
        match self {
            Self::Uniform => 2.0 * a - 1.0,
            Self::Gaussian => {
                (-2.0 * (1.0 - a).ln()).sqrt() * (b * std::f32::consts::TAU).cos() / 8.0
            }
            Self::Heavy => (a - 0.5) / (b + 1e-4) / 1e4,
            Self::Sparse if c < 0.9 => 0.0,
            Self::Sparse => d - 0.5,
            Self::OneSided => a * a,
            Self::Steps => (a * 17.0).floor() / 16.0 - 0.5,
            Self::Offset if c < 0.5 => a / 64.0 - 1.0,
            Self::Offset => a,
        }
    }
}

/// SplitMix64, Steele, Lea, Flood (2014): long inputs from one number, so that a failure is short.
fn values(shape: Shape, magnitude: f32, len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut uniform = move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1 << 24) as f32
    };
    (0..len)
        .map(|_| shape.value([uniform(), uniform(), uniform(), uniform()]) * magnitude)
        .collect()
}

fn magnitude() -> impl Strategy<Value = f32> {
    prop_oneof![
        6 => 1e-3f32..1e3,
        // Around the least scale, 2^-23: some candidates share it, or all do.
        2 => 1e-6f32..1e-2,
        1 => Just(1e-41f32),
        1 => Just(1e-30f32),
        1 => Just(1e30f32),
        1 => Just(f32::MAX),
    ]
}

fn len() -> impl Strategy<Value = usize> {
    prop_oneof![1usize..50, 50usize..4096, 4096usize..20_000]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(160))]
    #[test]
    fn the_search_finds_what_measuring_every_candidate_finds(
        shape in prop::sample::select(&SHAPES[..]),
        magnitude in magnitude(),
        len in len(),
        seed in any::<u64>(),
        outlier in prop_oneof![3 => Just(None), 1 => (-8.0f32..8.0).prop_map(Some)],
    ) {
        let mut values = values(shape, magnitude, len, seed);
        let outlier = outlier.map(|times| times * magnitude).filter(|x| x.is_finite());
        values.extend(outlier);
        check(&values);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]
    #[test]
    fn measuring_every_candidate_finds_the_least_loss_of_the_definition(
        shape in prop::sample::select(&SHAPES[..]),
        magnitude in 1e-3f32..1e3,
        len in 1usize..5000,
        seed in any::<u64>(),
    ) {
        let values = values(shape, magnitude, len, seed);
        let range = range_of(&values);
        for dtype in IntDtype::ALL {
            let choice = choose_mse_exhaustive(&values, range, dtype);
            let loss = |index| mse_loss(&values, range, dtype, index).unwrap();
            let least = (0..MSE_CANDIDATES).map(loss).fold(f64::INFINITY, f64::min);
            let got = choice.loss.unwrap();
            prop_assert!((got - loss(choice.index)).abs() <= 1e-12 * got);
            prop_assert!((got - least).abs() <= 1e-12 * least, "{} is not {}", got, least);
        }
    }
}

#[test]
fn the_search_holds_for_every_shape_at_length() {
    for shape in SHAPES {
        check(&values(shape, 3.0, 100_000, 7));
    }
}

#[test]
fn the_search_holds_for_constants_and_extremes() {
    for len in [1, 2, 5000] {
        for x in [
            0.0,
            -0.0,
            1.0,
            -1.0,
            1e-45,
            -1e-38,
            1e-5,
            f32::MAX,
            f32::MIN,
        ] {
            check(&vec![x; len]);
        }
    }
    let mut ends = vec![0.0; 5000];
    ends.extend([f32::MIN, f32::MAX, 1e-45]);
    check(&ends);
}

#[test]
fn of_nothing_the_last_candidate_is_chosen() {
    for dtype in IntDtype::ALL {
        let choice = choose_mse(&[], Range::ZERO, dtype);
        assert_eq!(choice, choose_mse_exhaustive(&[], Range::ZERO, dtype));
        assert_eq!((choice.index, choice.loss), (MSE_CANDIDATES - 1, Some(0.0)));
    }
}

#[test]
fn an_outlier_is_clipped_at_int8_and_never_at_int16() {
    let mut values: Vec<f32> = (0..40_000).map(|i| (i as f32 * 0.37).sin()).collect();
    values.push(6.0);
    let range = range_of(&values);
    let int8 = choose_mse(&values, range, IntDtype::Int8);
    assert!(int8.index > 0 && int8.range.max() < 6.0, "{int8:?}");
    assert_eq!(choose_mse(&values, range, IntDtype::Int16).index, 0);
}

#[test]
fn ties_go_to_the_larger_index() {
    let zeros = [0.0; 10];
    let choice = choose_mse(&zeros, range_of(&zeros), IntDtype::Int8);
    assert_eq!((choice.index, choice.loss), (MSE_CANDIDATES - 1, Some(0.0)));
}

#[test]
fn there_is_no_candidate_95() {
    assert_eq!(
        mse_loss(&[1.0], range_of(&[1.0]), IntDtype::Int8, MSE_CANDIDATES),
        None
    );
}

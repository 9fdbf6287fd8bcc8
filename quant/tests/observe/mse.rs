//! The search over the 95 candidates against the definition, one candidate at a time.

use dual16_nash::dtype::IntDtype;
use dual16_quant::observe::{MSE_CANDIDATES, Range, choose_mse, mse_loss};
use proptest::prelude::*;

fn range_of(values: &[f32]) -> Range {
    let min = values.iter().copied().fold(f32::INFINITY, f32::min);
    let max = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    Range::new(min, max).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn the_search_finds_the_least_loss_of_the_reference(
        bulk in prop::collection::vec(-1.0f32..1.0, 1..5000),
        outlier in prop_oneof![Just(0.0f32), Just(4.0f32), Just(-9.0f32)],
    ) {
        let values: Vec<f32> = bulk.into_iter().chain([outlier]).collect();
        let range = range_of(&values);
        for dtype in IntDtype::ALL {
            let choice = choose_mse(&values, range, dtype);
            let loss = |index| mse_loss(&values, range, dtype, index).unwrap();
            let least = (0..MSE_CANDIDATES).map(loss).fold(f64::INFINITY, f64::min);
            let got = choice.loss.unwrap();
            prop_assert!((got - loss(choice.index)).abs() <= 1e-12 * got);
            prop_assert!((got - least).abs() <= 1e-12 * least, "{} is not {}", got, least);
        }
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

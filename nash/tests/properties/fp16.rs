//! fp16 by arithmetic on its definition: 11 binary digits down to 2^-14, steps of 2^-24 below, infinite
//! from 65520 on.

use dual16_nash::decompose::layer_norm_fp16;
use proptest::{collection::vec, prelude::*};

/// To the nearest fp16, half to even. f64 holds every f32 and every product of two fp16 exactly.
fn half(x: f64) -> f64 {
    if x == 0.0 || !x.is_finite() {
        return x;
    }
    let (_, exponent) = libm::frexp(x);
    let step = 2f64.powi((exponent - 11).max(-24));
    let y = (x / step).round_ties_even() * step;
    match y.abs() >= 65536.0 {
        true => f64::INFINITY.copysign(x),
        false => y,
    }
}

fn reference(x: &[f32], eps: f64) -> Vec<f32> {
    let count = x.len() as f64;
    let mean = |values: &[f64]| half(f64::from((values.iter().sum::<f64>() / count) as f32));
    let x: Vec<f64> = x.iter().map(|&x| half(x.into())).collect();
    let average = mean(&x);
    let centred: Vec<f64> = x.iter().map(|x| half(x - average)).collect();
    let squares: Vec<f64> = centred.iter().map(|c| half(c * c)).collect();
    let variance = half(mean(&squares) + half(f64::from(eps as f32)));
    let inverse = half(f64::from((1.0 / variance.sqrt()) as f32));
    centred.iter().map(|c| half(c * inverse) as f32).collect()
}

proptest! {
    #[test]
    fn every_step_is_rounded_to_the_nearest_fp16(
        x in vec(prop_oneof![-250f32..250.0, -1f32..1.0, -1e-4f32..1e-4], 1..200),
        eps in prop_oneof![Just(1e-5), Just(1e-12), Just(1e-3)],
    ) {
        let mut y = vec![0.0; x.len()];
        layer_norm_fp16(&x, x.len(), eps, &mut y).unwrap();
        let bits = |y: &[f32]| y.iter().map(|y| y.to_bits()).collect::<Vec<_>>();
        let wanted = reference(&x, eps);
        for (y, wanted) in y.iter().zip(&wanted) {
            prop_assert!(y.to_bits() == wanted.to_bits() || (y.is_nan() && wanted.is_nan()));
        }
        // Rows know nothing of each other.
        let twice = [x.clone(), x.clone()].concat();
        let mut both = vec![0.0; twice.len()];
        layer_norm_fp16(&twice, x.len(), eps, &mut both).unwrap();
        prop_assert_eq!(bits(&both[x.len()..]), bits(&y));
    }
}

#[test]
fn buffers_that_do_not_fit_are_refused() {
    assert!(layer_norm_fp16(&[0.0; 6], 4, 1e-5, &mut [0.0; 6]).is_err());
    assert!(layer_norm_fp16(&[0.0; 8], 4, 1e-5, &mut [0.0; 6]).is_err());
}

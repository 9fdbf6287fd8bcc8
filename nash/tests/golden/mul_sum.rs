//! The fused mul+sum on five cases, K = 1 and a fixed scale that clips among them.

use dual16_nash::mul_sum::{MulSumCounts, mul_sum, mul_sum_fake_quant};
use dual16_nash::quantize::dequantize;
use dual16_nash::{GemmShape, Rescale};

use crate::data::Golden;

fn check(case: usize) {
    let golden = Golden::open("mul_sum");
    let name = |tensor: &str| format!("{case}.{tensor}");
    let [n, k] = golden.shape(&name("x"));
    let [o, _] = golden.shape::<2>(&name("w"));
    let shape = GemmShape { n, k, o };
    let (x, w) = (
        golden.tensor::<i16>(&name("x")),
        golden.tensor::<i16>(&name("w")),
    );
    let (sx, sw) = (golden.scale(&name("sx")), golden.scale(&name("sw")));
    let (sm, ss) = (golden.scale(&name("sm")), golden.scale(&name("ss")));
    let expected = golden.tensor::<i16>(&name("sum"));

    let product = Rescale::of_product(sx, sw, sm);
    let sum = Rescale::between(sm, ss);
    let mut out = vec![0; n * o];
    let counts = mul_sum(&x, &w, shape, product, sum, &mut out).unwrap();
    assert_eq!(out, expected);
    let count = |tensor| golden.one::<i64>(&name(tensor)).unsigned_abs();
    assert_eq!(
        counts,
        MulSumCounts {
            zero: count("zero"),
            clipped: count("clipped")
        }
    );

    // The float twin has no 15-bit multiplier and rounds halves to even, so a product near a half
    // may go the other way: a few steps in a sum of up to 1000, where a wrong scale gives thousands.
    let (mut float_x, mut float_w) = (vec![0.0; n * k], vec![0.0; o * k]);
    dequantize(&x, sx, &mut float_x).unwrap();
    dequantize(&w, sw, &mut float_w).unwrap();
    let mut float = vec![0.0; n * o];
    mul_sum_fake_quant(&float_x, &float_w, shape, sm, &mut float).unwrap();
    for (y, &q) in float.iter().zip(&expected) {
        if q == i16::MAX || q == i16::MIN {
            continue;
        }
        let steps = (f64::from(*y) / ss.to_f64() - f64::from(q)).abs();
        assert!(steps <= 6.0, "{y} is {steps} steps from {q}");
    }
}

#[test]
fn outliers() {
    check(0);
}

#[test]
fn odd_sizes() {
    check(1);
}

#[test]
fn k_of_one() {
    check(2);
}

#[test]
fn fixed_scale_clips() {
    check(3);
}

#[test]
fn large_k() {
    check(4);
}

//! The GEMM against three plain loops in i64.

use dual16_nash::linear::{
    RightOperand, accumulator_bits, channel_rescales, linear, linear_acc, matmul, matmul_acc,
    quantize_bias, saturated_biases,
};
use dual16_nash::{GemmShape, QInt, QuantizeError, Rescale, Scale, ShapeError};
use proptest::collection::vec;
use proptest::prelude::*;

fn naive<A: QInt, W: QInt>(x: &[A], w: &[W], shape: GemmShape, bias: &[i32]) -> Vec<i64> {
    let GemmShape { n, k, o } = shape;
    let mut acc = Vec::new();
    for row in 0..n {
        for channel in 0..o {
            let products = (0..k).map(|i| x[row * k + i].to_i64() * w[channel * k + i].to_i64());
            acc.push(products.sum::<i64>() + i64::from(bias[channel]));
        }
    }
    acc
}

fn check<A: QInt, W: QInt>(x: &[A], w: &[W], shape: GemmShape, bias: &[i32]) {
    let expected = naive(x, w, shape, bias);
    let max_abs = expected.iter().map(|acc| acc.unsigned_abs()).max().unwrap();
    let mut acc = vec![0; expected.len()];
    let peak = linear_acc(x, w, shape, Some(bias), &mut acc).unwrap();
    assert_eq!(acc, expected);
    assert_eq!(peak.max_abs(), max_abs);

    let rescales: Vec<Rescale> = (0..shape.o)
        .map(|o| Rescale::new(1e-4 * (o + 1) as f64).unwrap())
        .collect();
    let mut y = vec![0i16; expected.len()];
    assert_eq!(
        linear(x, w, shape, Some(bias), &rescales, &mut y).unwrap(),
        peak
    );
    let requantized: Vec<i16> = expected
        .iter()
        .enumerate()
        .map(|(i, &acc)| rescales[i % shape.o].requant(acc))
        .collect();
    assert_eq!(y, requantized);

    // The other layout of the right operand, without a bias.
    let GemmShape { k, o, .. } = shape;
    let by_k: Vec<W> = (0..k)
        .flat_map(|i| (0..o).map(move |c| w[c * k + i]))
        .collect();
    let (mut direct, mut copied) = (acc.clone(), acc);
    matmul_acc(x, w, RightOperand::OByK, shape, &mut direct).unwrap();
    matmul_acc(x, &by_k, RightOperand::KByO, shape, &mut copied).unwrap();
    assert_eq!(direct, naive(x, w, shape, &vec![0; o]));
    assert_eq!(copied, direct);
    let mut y8 = vec![0i8; direct.len()];
    matmul(x, &by_k, RightOperand::KByO, shape, rescales[0], &mut y8).unwrap();
    let requantized: Vec<i8> = direct.iter().map(|&acc| rescales[0].requant(acc)).collect();
    assert_eq!(y8, requantized);
}

/// Every product at the end of the format, over more than one block of 32-bit sums.
#[test]
fn extremes_do_not_overflow() {
    let k = 70_000;
    let shape = GemmShape { n: 1, k, o: 2 };
    let (x16, w16) = (vec![i16::MIN; k], vec![i16::MIN; 2 * k]);
    let (x8, w8) = (vec![i8::MIN; k], vec![i8::MIN; 2 * k]);
    let bias = [i32::MAX, i32::MIN];
    check(&x8, &w8, shape, &bias);
    check(&x16, &w8, shape, &bias);
    check(&x8, &w16, shape, &bias);
    check(&x16, &w16, shape, &bias);
}

#[test]
fn accumulator_bits_count_the_magnitude() {
    assert_eq!(accumulator_bits(0), 0);
    assert_eq!(accumulator_bits(i32::MAX as u64), 31);
    assert_eq!(accumulator_bits(256 * 32767 * 32767), 38);
}

#[test]
fn buffers_that_do_not_fit() {
    let shape = GemmShape { n: 1, k: 2, o: 2 };
    let one = Rescale::new(1.0).unwrap();
    let (x, w) = ([1i8; 2], [1i8; 4]);
    let mut y = [0i8; 2];
    let length =
        |what| move |e: ShapeError| matches!(e, ShapeError::Length { what: w, .. } if w == what);
    assert!(linear(&x[..1], &w, shape, None, &[one], &mut y).is_err_and(length("x")));
    assert!(linear(&x, &w[..3], shape, None, &[one], &mut y).is_err_and(length("w")));
    assert!(linear(&x, &w, shape, Some(&[1]), &[one], &mut y).is_err_and(length("bias")));
    assert!(linear(&x, &w, shape, None, &[one; 3], &mut y).is_err_and(length("rescales")));
    assert!(linear(&x, &w, shape, None, &[one], &mut y[..1]).is_err_and(length("output")));
}

#[test]
fn bias_is_clamped_to_int32() {
    let (tiny, one) = (Scale::new(1e-7).unwrap(), Scale::new(1.0).unwrap());
    let bias = quantize_bias(
        &[1e9, -1e9, 0.5, 1.5, -2.5],
        one,
        &[tiny, tiny, one, one, one],
    );
    assert_eq!(bias.unwrap(), [i32::MAX, i32::MIN, 0, 2, -2]);
    let clamped = |bias: &[f32]| -> Vec<(usize, f64)> {
        let weight = [one];
        let found = saturated_biases(bias, one, &weight);
        found.map(|bias| (bias.channel, bias.steps)).collect()
    };
    let (min, above) = (-(2f32.powi(31)), 2f32.powi(31));
    assert_eq!(clamped(&[min, 0.0, 2147483520.0]), []);
    assert_eq!(
        clamped(&[1.0, above, 1e30]),
        [(1, 2f64.powi(31)), (2, f64::from(1e30f32))]
    );
    let nan = quantize_bias(&[0.0, f32::NAN], one, &[one]);
    assert!(matches!(
        nan,
        Err(QuantizeError::NonFinite { index: 1, .. })
    ));
    assert_eq!(channel_rescales(one, &[one, tiny], one).len(), 2);
}

macro_rules! equals_naive {
    ($($name:ident: $a:ty, $w:ty;)*) => {
        proptest! {$(
            #[test]
            fn $name(
                (shape, x, w, bias) in (1usize..9, 1usize..600, 1usize..19).prop_flat_map(|(n, k, o)| (
                    Just(GemmShape { n, k, o }),
                    vec(any::<$a>(), n * k),
                    vec(any::<$w>(), o * k),
                    vec(any::<i32>(), o),
                )),
            ) {
                check(&x, &w, shape, &bias);
            }
        )*}
    };
}

equals_naive! {
    a8w8_equals_naive: i8, i8;
    a16w8_equals_naive: i16, i8;
    a8w16_equals_naive: i8, i16;
    a16w16_equals_naive: i16, i16;
}

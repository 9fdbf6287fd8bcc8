//! Quantization and its way back on every instruction set of this machine against the scalar
//! reference, to the bit; the portable one is the reference.

use dual16_nash::quantize::{
    Rounding, check_finite_on, count_on, dequantize_on, fake_quantize_in_place_on,
    fake_quantize_on, quantize_counted_on, quantize_on,
};
use dual16_nash::{IntDtype, Isa, QInt, QuantizeError, Scale};
use proptest::collection::vec;
use proptest::prelude::*;

const ROUNDINGS: [Rounding; 2] = [Rounding::HalfEven, Rounding::Floor];

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|v| v.to_bits()).collect()
}

fn check_format<Q: QInt>(x: &[f32], scale: Scale, rounding: Rounding) {
    let dtype = Q::DTYPE;
    let run = |isa| {
        let mut quantized = vec![Q::default(); x.len()];
        quantize_on(isa, x, scale, rounding, &mut quantized).unwrap();
        let mut with_counts = vec![Q::default(); x.len()];
        let counts = quantize_counted_on(isa, x, scale, rounding, &mut with_counts).unwrap();
        assert!(with_counts == quantized, "{isa}");
        assert_eq!(count_on(isa, x, scale, dtype, rounding), counts, "{isa}");
        let mut real = vec![0.0; x.len()];
        dequantize_on(isa, &quantized, scale, &mut real).unwrap();
        let mut fake = vec![0.0; x.len()];
        fake_quantize_on(isa, x, scale, dtype, rounding, &mut fake).unwrap();
        let mut in_place = x.to_vec();
        fake_quantize_in_place_on(isa, &mut in_place, scale, dtype, rounding);
        assert!(bits(&in_place) == bits(&fake), "{isa}");
        (quantized, counts, bits(&real), bits(&fake))
    };
    let expected = run(Isa::PORTABLE);
    for isa in Isa::available() {
        assert!(run(isa) == expected, "{isa} {dtype} {rounding} {scale:?}");
    }
}

fn check(x: &[f32], scale: f32) {
    let scale = Scale::new(scale).unwrap();
    for rounding in ROUNDINGS {
        check_format::<i8>(x, scale, rounding);
        check_format::<i16>(x, scale, rounding);
    }
}

/// Both ends and the middle of both formats at and beside every half, huge, subnormal, -0.
#[test]
fn edges() {
    let mut x: Vec<f32> = (-600..600).map(|i| i as f32 * 0.25).collect();
    for end in [
        32_766.5, 32_767.0, 32_767.5, 32_768.0, 32_768.5, 32_769.0, 1e30,
    ] {
        x.extend([end, -end, f32::next_up(end), f32::next_down(-end)]);
    }
    x.extend([0.0, -0.0, 0.499_999_97, -0.499_999_97, f32::MAX, f32::MIN]);
    x.extend([f32::MIN_POSITIVE, f32::from_bits(1), -f32::from_bits(1)]);
    for scale in [1.0, 0.1, 3.0, 1e-6, f32::MIN_POSITIVE, f32::from_bits(1)] {
        check(&x, scale);
    }
}

/// The loops take whole vectors first and what remains after them; blocks end in between.
#[test]
fn every_length() {
    let x: Vec<f32> = (0..9000).map(|i| (i * 37 % 1001) as f32 - 500.0).collect();
    for len in (0..130).chain([4095, 4096, 4097, 8191, 8193, 9000]) {
        check(&x[..len], 3.9);
    }
}

/// Found and settled wherever blocks and vectors end; the values beside it are as without it.
#[test]
fn values_that_are_not_finite_saturate() {
    let scale = Scale::new(1.0).unwrap();
    let (dtype, rounding) = (IntDtype::Int8, Rounding::Floor);
    for isa in Isa::available() {
        for (bad, wanted) in [
            (f32::NAN, 0i16),
            (-f32::NAN, 0),
            (f32::INFINITY, i16::MAX),
            (f32::NEG_INFINITY, i16::MIN),
        ] {
            for at in [0, 1, 15, 16, 31, 4095, 4096, 5000] {
                let mut x = vec![0.75f32; 5001];
                x[at] = bad;
                x[4000] = f32::NAN;
                let first = check_finite_on(isa, &x).unwrap_err();
                let found = matches!(first, QuantizeError::NonFinite { index, .. } if index == at.min(4000));
                assert!(found, "{isa}: {first}");
                let mut q = vec![7i16; x.len()];
                let counts = quantize_on(isa, &x, scale, Rounding::HalfEven, &mut q).unwrap();
                assert_eq!(counts.total(), 2, "{isa}");
                assert_eq!(counts.infinite, u64::from(bad.is_infinite()), "{isa}");
                for (i, &q) in q.iter().enumerate() {
                    let expected = match i {
                        4000 => 0,
                        i if i == at => wanted,
                        _ => 1,
                    };
                    assert_eq!(q, expected, "{isa} {bad} {i}");
                }
                let mut out = vec![7.0; x.len()];
                let apart = fake_quantize_on(isa, &x, scale, dtype, rounding, &mut out).unwrap();
                let in_place = fake_quantize_in_place_on(isa, &mut x, scale, dtype, rounding);
                assert_eq!((apart, in_place), (counts, counts), "{isa}");
                assert!(bits(&x) == bits(&out), "{isa}");
                assert_eq!(
                    x[at],
                    f32::from(i8::try_from(wanted.clamp(-128, 127)).unwrap())
                );
            }
        }
    }
}

proptest! {
    #[test]
    fn equals_scalar(
        x in vec(prop_oneof![-9f32..9.0, proptest::num::f32::NORMAL | proptest::num::f32::ZERO
            | proptest::num::f32::SUBNORMAL], 0..300),
        scale in -7f32..2.0,
    ) {
        check(&x, 10f32.powf(scale));
    }
}

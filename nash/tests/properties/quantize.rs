//! Quantization at the ends of its formats, and everything that must be refused.

use dual16_nash::quantize::{
    QuantizeCounts, Rounding, count, dequantize_per_channel, fake_quantize_in_place, quantize,
    quantize_counted, quantize_per_channel,
};
use dual16_nash::scale::{MIN_SCALE, ScaleRule, per_channel_scales, scale_from_range};
use dual16_nash::split::{SPLIT_QMAX, SplitWeight};
use dual16_nash::{IntDtype, Isa, QuantizeError, Scale, ScaleError};
use proptest::collection::vec;
use proptest::prelude::*;

fn scale(value: f32) -> Scale {
    Scale::new(value).unwrap()
}

#[test]
fn halves_and_ends() {
    let x = [
        0.5,
        1.5,
        2.5,
        -0.5,
        -1.5,
        126.5,
        127.49,
        127.5,
        -128.5,
        -128.51,
        f32::MAX,
        f32::MIN,
    ];
    let mut even = [0i8; 12];
    let counts = quantize_counted(&x, scale(1.0), Rounding::HalfEven, &mut even).unwrap();
    assert_eq!(even, [0, 2, 2, 0, -2, 126, 127, 127, -128, -128, 127, -128]);
    assert_eq!(
        counts,
        QuantizeCounts {
            zero: 2,
            clipped: 4
        }
    );

    let mut up = [0i8; 12];
    let counts = quantize_counted(&x, scale(1.0), Rounding::Floor, &mut up).unwrap();
    assert_eq!(up, [1, 2, 3, 0, -1, 127, 127, 127, -128, -128, 127, -128]);
    assert_eq!(
        counts,
        QuantizeCounts {
            zero: 1,
            clipped: 4
        }
    );
}

/// Quotients beyond f32 saturate like any other.
#[test]
fn infinite_quotients_saturate() {
    let mut q = [0i16; 2];
    quantize(
        &[f32::MAX, f32::MIN],
        scale(f32::MIN_POSITIVE),
        Rounding::HalfEven,
        &mut q,
    )
    .unwrap();
    assert_eq!(q, [i16::MAX, i16::MIN]);
}

#[test]
fn values_that_are_not_finite_saturate_and_are_counted() {
    let x = [1.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
    for rounding in [Rounding::HalfEven, Rounding::Floor] {
        let mut q = [7i8; 4];
        let found = quantize(&x, scale(1.0), rounding, &mut q).unwrap();
        assert_eq!(q, [1, 0, 127, -128]);
        assert_eq!((found.nan, found.infinite), (1, 2));
        let mut y = x;
        let found = fake_quantize_in_place(&mut y, scale(0.5), IntDtype::Int8, rounding);
        assert_eq!(y, [1.0, 0.0, 63.5, -64.0]);
        assert_eq!(found.total(), 3);
    }
    let lost = quantize_counted(&x, scale(1.0), Rounding::HalfEven, &mut [0i8; 4]).unwrap();
    assert_eq!((lost.zero, lost.clipped), (1, 2));
}

/// Those of a parameter are named: a weight that holds one is broken.
#[test]
fn parameters_that_are_not_finite_are_named() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let x = [1.0, 2.0, bad, 4.0];
        let index = |e: QuantizeError| matches!(e, QuantizeError::NonFinite { index: 2, .. });
        let (int8, rule) = (IntDtype::Int8, ScaleRule::Range);
        assert!(per_channel_scales(&x, [2, 2], int8, rule, false).is_err_and(index));
        assert!(SplitWeight::new(&x, [1, 4]).is_err_and(index));
    }
}

/// A range may end where f32 does: its integers still stand for finite values.
#[test]
fn the_widest_range_has_finite_values() {
    for dtype in IntDtype::ALL {
        for rule in ScaleRule::ALL {
            for power_of_two in [false, true] {
                let widest = scale_from_range(f32::MIN, f32::MAX, dtype, rule, power_of_two);
                let mut x = [f32::MIN, f32::MAX, 0.0];
                fake_quantize_in_place(&mut x, widest.unwrap(), dtype, Rounding::HalfEven);
                assert!(x.iter().all(|v| v.is_finite()), "{dtype} {rule}: {x:?}");
                let zero = scale_from_range(0.0, 0.0, dtype, rule, power_of_two).unwrap();
                assert_eq!(zero.get(), MIN_SCALE);
            }
        }
    }
}

#[test]
fn numbers_that_are_no_scale() {
    for bad in [0.0, -0.0, -1.0, f32::NAN, f32::INFINITY] {
        assert!(
            matches!(Scale::new(bad), Err(ScaleError::NotPositive { .. })),
            "{bad}"
        );
    }
    let range = |min, max| scale_from_range(min, max, IntDtype::Int8, ScaleRule::Range, false);
    assert!(matches!(
        range(1.0, 0.0),
        Err(ScaleError::InvalidRange { .. })
    ));
    assert!(matches!(
        range(f32::NAN, 0.0),
        Err(ScaleError::InvalidRange { .. })
    ));
    assert!(matches!(
        range(0.0, f32::INFINITY),
        Err(ScaleError::InvalidRange { .. })
    ));
}

#[test]
fn rules_and_powers_of_two() {
    let of = |max, dtype, rule, pow2| {
        scale_from_range(-1.0, max, dtype, rule, pow2)
            .unwrap()
            .get()
    };
    assert_eq!(of(255.0, IntDtype::Int8, ScaleRule::Range, false), 2.0);
    assert_eq!(of(256.0, IntDtype::Int8, ScaleRule::Threshold, false), 2.0);
    assert_eq!(of(65535.0, IntDtype::Int16, ScaleRule::Range, false), 2.0);
    assert_eq!(
        of(65536.0, IntDtype::Int16, ScaleRule::Threshold, false),
        2.0
    );
    // An exact power stays, anything above it goes up.
    assert_eq!(of(256.0, IntDtype::Int8, ScaleRule::Threshold, true), 2.0);
    assert_eq!(of(256.1, IntDtype::Int8, ScaleRule::Threshold, true), 4.0);
    let nothing = scale_from_range(0.0, 0.0, IntDtype::Int16, ScaleRule::Range, true).unwrap();
    assert_eq!(nothing.get(), MIN_SCALE);
    // A range on one side of 0 counts its far end only.
    let one_sided = scale_from_range(-255.0, -3.0, IntDtype::Int8, ScaleRule::Range, false);
    assert_eq!(one_sided.unwrap().get(), 2.0);
}

#[test]
fn channels_have_scales_of_their_own() {
    let weight = [1.0, -127.5, 0.0, 0.0, 255.0, 2.0];
    let scales =
        per_channel_scales(&weight, [3, 2], IntDtype::Int8, ScaleRule::Range, false).unwrap();
    assert_eq!(scales, [scale(1.0), scale(MIN_SCALE), scale(2.0)]);
    let mut q = [0i8; 6];
    quantize_per_channel(&weight, [3, 2], &scales, Rounding::HalfEven, &mut q).unwrap();
    assert_eq!(q, [1, -128, 0, 0, 127, 1]);
    let mut back = [0.0; 6];
    dequantize_per_channel(&q, [3, 2], &scales, &mut back).unwrap();
    assert_eq!(back, [1.0, -128.0, 0.0, 0.0, 254.0, 2.0]);
    let short = quantize_per_channel(&weight, [3, 2], &scales[..2], Rounding::HalfEven, &mut q);
    assert!(matches!(short, Err(QuantizeError::Shape(_))));
}

proptest! {
    #[test]
    fn equals_the_definition(
        x in vec(-300f32..300.0, 1..50),
        s in -3f32..1.0,
    ) {
        let s = scale(10f32.powf(s));
        for rounding in [Rounding::HalfEven, Rounding::Floor] {
            let round = |v: f32| match rounding {
                Rounding::HalfEven => (v / s.get()).round_ties_even(),
                Rounding::Floor => (v / s.get() + 0.5).floor(),
            };
            let mut q = vec![0i16; x.len()];
            quantize(&x, s, rounding, &mut q).unwrap();
            let expected: Vec<i16> =
                x.iter().map(|&v| round(v).clamp(-32768.0, 32767.0) as i16).collect();
            prop_assert_eq!(&q, &expected);
            let zero = q.iter().filter(|&&q| q == 0).count() as u64;
            let outside = |v: f32| !(-32768.0..=32767.0).contains(&round(v));
            let clipped = x.iter().filter(|&&v| outside(v)).count() as u64;
            let counts = count(&x, s, IntDtype::Int16, rounding);
            prop_assert_eq!(counts, QuantizeCounts { zero, clipped });
        }
    }

    #[test]
    fn planes_add_up_to_the_weight(w in vec(-4f32..4.0, 12)) {
        let planes = SplitWeight::new(&w, [3, 4]).unwrap();
        for (i, &w) in w.iter().enumerate() {
            let s = planes.scales[i / 4].get();
            let q = 256 * i32::from(planes.hi[i]) + i32::from(planes.lo[i]);
            prop_assert!(q.abs() <= SPLIT_QMAX);
            prop_assert_eq!(q as f32, (w / s).round_ties_even().clamp(-32639.0, 32639.0));
        }
    }

    #[test]
    fn planes_are_the_same_on_every_instruction_set(
        k in 0usize..70,
        seed in vec(-4f32..4.0, 3 * 70),
        extreme in proptest::sample::select(vec![0.0, -0.0, 1e-40, 1e38, -1e38, 4.0]),
    ) {
        let mut w = seed[..3 * k].to_vec();
        if let Some(first) = w.first_mut() {
            *first = extreme;
        }
        let reference = SplitWeight::new_on(Isa::PORTABLE, &w, [3, k]).unwrap();
        for isa in Isa::available() {
            let planes = SplitWeight::new_on(isa, &w, [3, k]).unwrap();
            prop_assert_eq!(&planes, &reference, "{}", isa);
        }
    }
}

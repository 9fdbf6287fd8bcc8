//! The multiplier against its definition in 128 bits.

use dual16_nash::{IntDtype, Rescale, RescaleError, Scale};
use proptest::prelude::*;

fn definition(acc: i64, rescale: Rescale) -> i128 {
    let (m, k) = (i128::from(rescale.multiplier()), rescale.shift());
    if k > 62 {
        0
    } else {
        (i128::from(acc) * m + (1 << (k - 1))) >> k
    }
}

fn check(acc: i64, rescale: Rescale) {
    let expected = definition(acc, rescale);
    let expected_i64 = expected.clamp(i64::MIN.into(), i64::MAX.into());
    assert_eq!(
        i128::from(rescale.apply(acc)),
        expected_i64,
        "{acc} by {rescale:?}"
    );
    assert_eq!(
        i128::from(rescale.requant::<i8>(acc)),
        expected.clamp(-128, 127)
    );
    assert_eq!(
        i128::from(rescale.requant::<i16>(acc)),
        expected.clamp(-32768, 32767)
    );
}

/// 0.75 * 2^(15 - shift) needs exactly this shift.
fn with_shift(shift: i32) -> Rescale {
    let rescale = Rescale::new(0.75 * f64::powi(2.0, 15 - shift)).unwrap();
    assert_eq!((rescale.multiplier(), rescale.shift()), (24576, shift));
    rescale
}

#[test]
fn every_shift_at_the_extremes() {
    for shift in 1..=80 {
        let rescale = with_shift(shift);
        for bits in 0..63 {
            for near in -2..=2 {
                let acc = (1i64 << bits) + near;
                check(acc, rescale);
                check(-acc, rescale);
            }
        }
        for acc in [0, i64::MAX, i64::MIN, i64::MAX - 1, i64::MIN + 1] {
            check(acc, rescale);
        }
    }
}

#[test]
fn ratio_of_one_keeps_every_value() {
    let one = Rescale::new(1.0).unwrap();
    for q in i16::MIN..=i16::MAX {
        assert_eq!(one.requant::<i16>(q.into()), q);
    }
}

#[test]
fn ratios_that_have_no_multiplier() {
    for ratio in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(
            matches!(Rescale::new(ratio), Err(RescaleError::NotPositive { .. })),
            "{ratio}"
        );
    }
    assert!(matches!(
        Rescale::new(32768.0),
        Err(RescaleError::OutOfRange { shift: -1, .. })
    ));
    // Rounding up to 2^15 takes the last shift away.
    assert!(matches!(
        Rescale::new(16384.0 - 1e-3),
        Err(RescaleError::OutOfRange { shift: 0, .. })
    ));
    assert_eq!(Rescale::new(16383.0).unwrap().shift(), 1);
}

/// Scales are never so far apart that nothing runs: the multiplier saturates at its largest, and
/// below the smallest shift everything is 0.
#[test]
fn ratios_beyond_the_multiplier_saturate() {
    assert_eq!(Rescale::new(16383.5).unwrap(), Rescale::LARGEST);
    for ratio in [16384.0 - 1e-3, 16384.0, 1e30, f64::MAX, f64::INFINITY] {
        let rescale = Rescale::saturating(ratio);
        assert_eq!(rescale, Rescale::LARGEST, "{ratio}");
        for (acc, q) in [
            (0, 0),
            (1, 16384),
            (3, i16::MAX),
            (-3, i16::MIN),
            (i64::MIN, i16::MIN),
        ] {
            assert_eq!(rescale.requant::<i16>(acc), q, "{acc} by {ratio}");
        }
    }
    for ratio in [0.0, -1.0, f64::NAN, 1e-300, 5e-324] {
        let rescale = Rescale::saturating(ratio);
        for acc in [i64::MIN, -1, 0, 1, i64::MAX] {
            assert_eq!(rescale.apply(acc), 0, "{acc} by {ratio}");
        }
        assert!(rescale.vanishes(IntDtype::Int16));
    }
    let of = |value| Scale::new(value).unwrap();
    let (tiny, one, huge) = (of(f32::from_bits(1)), of(1.0), of(f32::MAX));
    assert_eq!(Rescale::between(huge, tiny), Rescale::LARGEST);
    assert_eq!(Rescale::of_product(huge, huge, tiny), Rescale::LARGEST);
    assert_eq!(Rescale::between(tiny, huge).apply(i64::MAX), 0);
    assert_eq!(Rescale::of_mean(one, 0, one).apply(0), 0);
}

/// The largest magnitude of a format, by half a step of the result and just below it.
#[test]
fn a_format_vanishes_where_its_ends_become_0() {
    let half = |dtype: IntDtype| 0.5 / -f64::from(dtype.qmin());
    for dtype in IntDtype::ALL {
        // Halves are rounded up, so it takes a little less.
        let below = Rescale::saturating(half(dtype) * 0.999);
        assert!(below.vanishes(dtype), "{dtype}");
        let above = Rescale::saturating(half(dtype) * 1.02);
        assert!(!above.vanishes(dtype), "{dtype}");
    }
}

proptest! {
    #[test]
    fn equals_the_definition(acc: i64, shift in 0u32..64, ratio in -21f64..4.0) {
        check(acc >> shift, Rescale::new(10f64.powf(ratio)).unwrap());
    }

    #[test]
    fn multiplier_is_the_nearest(ratio in -21f64..4.0) {
        let ratio = 10f64.powf(ratio);
        let rescale = Rescale::new(ratio).unwrap();
        prop_assert!((16384..=32767).contains(&rescale.multiplier()));
        let real = f64::from(rescale.multiplier()) * 2f64.powi(-rescale.shift());
        prop_assert!((real / ratio - 1.0).abs() <= 1.0 / 32768.0);
    }
}

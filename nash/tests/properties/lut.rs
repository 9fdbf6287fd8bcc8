//! Tables against the functions they stand for.

use dual16_nash::lut::{LutSpec, SEGMENTS};
use dual16_nash::{IntDtype, Lut, LutError, LutFunction, Scale};

const FUNCTIONS: [LutFunction; 12] = [
    LutFunction::Sigmoid,
    LutFunction::Tanh,
    LutFunction::Gelu,
    LutFunction::GeluTanh,
    LutFunction::Silu,
    LutFunction::Exp,
    LutFunction::Rsqrt { eps: 1e-5 },
    LutFunction::Reciprocal,
    LutFunction::Sqrt,
    LutFunction::Log,
    LutFunction::Erf,
    LutFunction::Softplus,
];

fn scale(value: f32) -> Scale {
    Scale::new(value).unwrap()
}

/// Inputs to +-8 (positive ones where the function needs them) and the scale their outputs need.
fn spec(function: LutFunction, input: IntDtype, output: IntDtype) -> LutSpec {
    let positive = matches!(
        function,
        LutFunction::Rsqrt { .. } | LutFunction::Reciprocal | LutFunction::Sqrt | LutFunction::Log
    );
    let (min, max) = match function {
        LutFunction::Exp => (-8.0, 0.0),
        _ if positive => (0.25, 8.0),
        _ => (-8.0, 8.0),
    };
    let peak = function
        .eval(min.into())
        .abs()
        .max(function.eval(max.into()).abs()) as f32;
    LutSpec {
        function,
        input,
        input_scale: scale(8.0 / input.qmax() as f32),
        output,
        output_scale: scale(peak / output.qmax() as f32),
        observed: Some((min, max)),
    }
}

#[test]
fn int8_to_int8_is_exact() {
    for function in FUNCTIONS {
        let spec = spec(function, IntDtype::Int8, IntDtype::Int8);
        let lut = Lut::build(&spec).unwrap();
        let x: Vec<i8> = (i8::MIN..=i8::MAX).collect();
        let mut y = vec![0i8; 256];
        lut.apply(&x, &mut y).unwrap();
        let step = spec.input_scale.to_f64();
        for (&q, &y) in x.iter().zip(&y) {
            let real = function.eval_on_grid(f64::from(q) * step, step);
            let exact = (real / spec.output_scale.to_f64())
                .round_ties_even()
                .clamp(-128.0, 127.0);
            assert_eq!(f64::from(y), exact, "{function} at {q}");
        }
        assert!(lut.segments().is_none());
        assert!(lut.max_error_lsb() <= 0.5, "{function}");
    }
}

/// 256 inputs fit into 6 * 64 entries, so nothing is interpolated and only rounding is left.
#[test]
fn int8_to_int16_has_an_entry_for_each_input() {
    for function in FUNCTIONS {
        let lut = Lut::build(&spec(function, IntDtype::Int8, IntDtype::Int16)).unwrap();
        assert!(
            lut.max_error_lsb() <= 0.5 + 1e-6,
            "{function}: {}",
            lut.max_error_lsb()
        );
    }
}

#[test]
fn int16_to_int8_is_within_a_step() {
    for function in FUNCTIONS {
        let lut = Lut::build(&spec(function, IntDtype::Int16, IntDtype::Int8)).unwrap();
        assert!(
            lut.max_error_lsb() <= 1.0,
            "{function}: {}",
            lut.max_error_lsb()
        );
    }
}

/// The reported error is the error, and it is small: a few steps of 32767, more where the function
/// has a pole close to its range.
#[test]
fn int16_to_int16_reports_its_error() {
    for function in FUNCTIONS {
        let spec = spec(function, IntDtype::Int16, IntDtype::Int16);
        let lut = Lut::build(&spec).unwrap();
        let (min, max) = spec.observed.unwrap();
        let step = spec.input_scale.to_f64();
        let x: Vec<i16> = (i16::MIN..=i16::MAX)
            .filter(|&q| (f64::from(min)..=f64::from(max)).contains(&(f64::from(q) * step)))
            .collect();
        let mut y = vec![0i16; x.len()];
        lut.apply(&x, &mut y).unwrap();
        let mut worst = 0f64;
        for (&q, &y) in x.iter().zip(&y) {
            let ideal = (function.eval(f64::from(q) * step) / spec.output_scale.to_f64())
                .clamp(-32768.0, 32767.0);
            worst = worst.max((f64::from(y) - ideal).abs());
        }
        // The table's range is rounded outwards to whole steps.
        assert!(worst <= lut.max_error_lsb() + 1e-9, "{function}");
        let limit = if spec.observed == Some((0.25, 8.0)) {
            40.0
        } else {
            5.0
        };
        assert!(
            lut.max_error_lsb() <= limit,
            "{function}: {}",
            lut.max_error_lsb()
        );
    }
}

/// The whole input format, tails included, singular points and negative inputs too.
#[test]
fn every_input_has_a_value_within_the_ideal_range() {
    for function in FUNCTIONS {
        let spec = LutSpec {
            observed: None,
            ..spec(function, IntDtype::Int16, IntDtype::Int16)
        };
        let lut = Lut::build(&spec).unwrap();
        let x: Vec<i16> = (i16::MIN..=i16::MAX).collect();
        let mut y = vec![0i16; x.len()];
        lut.apply(&x, &mut y).unwrap();
        let step = spec.input_scale.to_f64();
        let worst = x.iter().zip(&y).fold(0f64, |worst, (&q, &y)| {
            let real = function.eval_on_grid(f64::from(q) * step, step);
            let ideal = (real / spec.output_scale.to_f64()).clamp(-32768.0, 32767.0);
            worst.max((f64::from(y) - ideal).abs())
        });
        assert!((worst - lut.max_error_lsb()).abs() < 1e-9, "{function}");
        let bounds = lut.segments().unwrap().bounds();
        assert_eq!(bounds.len(), SEGMENTS + 1);
        assert!(
            bounds.windows(2).all(|pair| pair[0] < pair[1]),
            "{function}: {bounds:?}"
        );
    }
}

/// A function that is flat outside of a small middle part needs its segments there.
#[test]
fn segments_go_where_the_function_bends() {
    let spec = LutSpec {
        function: LutFunction::Sigmoid,
        input: IntDtype::Int16,
        input_scale: scale(200.0 / 32767.0),
        output: IntDtype::Int16,
        output_scale: scale(1.0 / 32767.0),
        observed: None,
    };
    let lut = Lut::build(&spec).unwrap();
    // Evenly over the whole range, an entry would stand for 1.06, and errors be hundreds of steps.
    assert!(lut.max_error_lsb() < 20.0, "{}", lut.max_error_lsb());
}

#[test]
fn what_a_table_refuses() {
    let good = spec(LutFunction::Tanh, IntDtype::Int8, IntDtype::Int16);
    for observed in [(f32::NAN, 1.0), (1.0, 0.0), (0.0, f32::INFINITY)] {
        let bad = LutSpec {
            observed: Some(observed),
            ..good
        };
        assert!(matches!(
            Lut::build(&bad),
            Err(LutError::InvalidRange { .. })
        ));
    }
    let nan = LutSpec {
        function: LutFunction::Rsqrt { eps: f64::NAN },
        ..good
    };
    assert!(matches!(
        Lut::build(&nan),
        Err(LutError::NotFinite {
            function: "rsqrt",
            ..
        })
    ));
    let lut = Lut::build(&good).unwrap();
    assert!(matches!(
        lut.apply(&[0i16], &mut [0i16]),
        Err(LutError::Dtype { port: "input", .. })
    ));
    assert!(matches!(
        lut.apply(&[0i8], &mut [0i8]),
        Err(LutError::Dtype { port: "output", .. })
    ));
    assert!(matches!(
        lut.apply(&[0i8], &mut [0i16; 2]),
        Err(LutError::Shape(_))
    ));
}

/// exp over a range of which most is 0, and inputs that are nearly all there.
fn far_ranged() -> (LutSpec, Vec<f64>) {
    let spec = LutSpec {
        function: LutFunction::Exp,
        input: IntDtype::Int16,
        input_scale: scale(20.0 / 32767.5),
        output: IntDtype::Int16,
        output_scale: scale(1.0 / 32767.5),
        observed: Some((-20.0, 0.0)),
    };
    let step = spec.input_scale.to_f64();
    let bell = |q: i32| {
        let x = f64::from(q) * step;
        let seen = x <= 0.0;
        f64::from(u8::from(seen)) * (1e-4 + (-(x + 13.0) * (x + 13.0) / 2.0).exp())
    };
    let inputs = i32::from(i16::MIN)..=i32::from(i16::MAX);
    (spec, inputs.map(bell).collect())
}

/// Mean of the table's error over the inputs seen, in LSB.
fn mean_error(lut: &Lut, spec: &LutSpec, seen: &[f64]) -> f64 {
    let errors = lut.errors(spec).unwrap();
    let sum: f64 = errors
        .iter()
        .zip(seen)
        .map(|(&e, w)| f64::from(e) * w)
        .sum();
    sum / seen.iter().sum::<f64>()
}

#[test]
fn a_table_divided_by_its_inputs_has_no_bias_where_they_lie() {
    let (spec, seen) = far_ranged();
    let own = Lut::build(&spec).unwrap();
    let biased = mean_error(&own, &spec, &seen);
    assert!(biased > 0.5, "{biased}");
    let bounds = Lut::division_for(&spec, &seen, 20_000).unwrap().unwrap();
    let divided = Lut::divided(&spec, &bounds).unwrap();
    assert_eq!(divided.segments().unwrap().bounds(), bounds);
    let left = mean_error(&divided, &spec, &seen).abs();
    assert!(left < 0.01, "{left}");
}

#[test]
fn a_division_by_inputs_is_never_worse_over_them() {
    for function in FUNCTIONS {
        for output in IntDtype::ALL {
            let spec = spec(function, IntDtype::Int16, output);
            // Nearly all inputs in one place.
            let place = |q: i32| (-(f64::from(q) - 9000.0).powi(2) / 1e6).exp();
            let inputs = i32::from(i16::MIN)..=i32::from(i16::MAX);
            let seen: Vec<f64> = inputs.map(place).collect();
            let energy = |lut: &Lut| {
                let errors = lut.errors(&spec).unwrap();
                let squares = errors.iter().zip(&seen);
                squares
                    .map(|(&e, w)| f64::from(e) * f64::from(e) * w)
                    .sum::<f64>()
            };
            let bounds = Lut::division_for(&spec, &seen, 0).unwrap().unwrap();
            let divided = energy(&Lut::divided(&spec, &bounds).unwrap());
            let own = energy(&Lut::build(&spec).unwrap());
            assert!(divided <= own * (1.0 + 1e-9), "{function}: {divided} {own}");
        }
    }
}

#[test]
fn bounds_that_do_not_increase_are_refused() {
    let (spec, seen) = far_ranged();
    let refused = |bounds| Lut::divided(&spec, &bounds).unwrap_err();
    let equal = [-9, -9, -8, -7, -6, -5, -4];
    assert_eq!(refused(equal), LutError::Bounds { bounds: equal });
    let beyond = [-40_000, -9, -8, -7, -6, -5, -4];
    assert_eq!(refused(beyond), LutError::Bounds { bounds: beyond });
    assert!(matches!(
        Lut::division_for(&spec, &seen[1..], 1).unwrap_err(),
        LutError::Shape(_)
    ));
    let exact = self::spec(LutFunction::Exp, IntDtype::Int8, IntDtype::Int8);
    assert_eq!(Lut::division_for(&exact, &[1.0; 256], 1), Ok(None));
}

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

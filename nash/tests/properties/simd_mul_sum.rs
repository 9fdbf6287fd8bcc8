//! The fused mul+sum on every instruction set of this machine against the scalar reference, to the
//! bit and with its counts.

use dual16_nash::mul_sum::{mul_sum_fake_quant_on, mul_sum_on, scalar};
use dual16_nash::{GemmShape, Isa, Rescale, Scale};
use proptest::collection::vec;
use proptest::prelude::*;

fn check(x: &[i16], w: &[i16], shape: GemmShape, product: Rescale) {
    let sum = Rescale::new(0.01).unwrap();
    let mut expected = vec![0; shape.n * shape.o];
    let counts = scalar::mul_sum(x, w, shape, product, sum, &mut expected);
    for isa in Isa::available() {
        let mut out = vec![0; expected.len()];
        let got = mul_sum_on(isa, x, w, shape, product, sum, &mut out).unwrap();
        assert_eq!(got, counts, "{isa} {shape:?} {product:?}");
        assert!(out == expected, "{isa} {shape:?} {product:?}");
    }
}

/// The portable one is the scalar reference; bits are compared, so that -0 is not 0.
fn check_float(x: &[f32], w: &[f32], shape: GemmShape, scale: Scale) {
    let run = |isa| {
        let mut out = vec![0.0; shape.n * shape.o];
        let counts = mul_sum_fake_quant_on(isa, x, w, shape, scale, &mut out).unwrap();
        let bits: Vec<u32> = out.into_iter().map(f32::to_bits).collect();
        (counts, bits)
    };
    let expected = run(Isa::PORTABLE);
    for isa in Isa::available() {
        assert!(run(isa) == expected, "{isa} {shape:?} {scale:?}");
    }
}

/// The smallest, a middle and the largest multiplier of a shift.
fn rescales(shift: i32) -> [Rescale; 3] {
    [0.5, 0.75, 0.999_969].map(|f| Rescale::new(f * f64::powi(2.0, 15 - shift)).unwrap())
}

/// Every product of the values where halves, signs and carries change, for every shift.
#[test]
fn every_shift_at_the_extremes() {
    let edges = [
        i16::MIN,
        i16::MIN + 1,
        -16_385,
        -257,
        -256,
        -255,
        -2,
        -1,
        0,
        1,
        2,
        127,
        255,
        256,
        16_384,
        i16::MAX - 1,
        i16::MAX,
    ];
    let shape = GemmShape {
        n: edges.len(),
        k: 1,
        o: edges.len(),
    };
    for shift in 1..=70 {
        for product in rescales(shift) {
            check(&edges, &edges, shape, product);
        }
    }
}

/// More products than one block sums in 32 bits, all of them at an end of the format.
#[test]
fn long_rows_do_not_overflow() {
    for k in [32_767, 32_768, 32_769, 70_000] {
        let shape = GemmShape { n: 3, k, o: 2 };
        for a in [i16::MIN, i16::MAX] {
            for b in [i16::MIN, i16::MAX] {
                for shift in [17, 28, 29, 30, 31, 45] {
                    check(&vec![a; 3 * k], &vec![b; 2 * k], shape, rescales(shift)[2]);
                }
            }
        }
    }
}

/// Quotients at and beside every half, at both ends of int16, huge, tiny, subnormal and -0.
#[test]
fn float_edges() {
    let mut x: Vec<f32> = (-300..300).map(|i| i as f32 * 0.25).collect();
    for end in [
        32_766.5, 32_767.0, 32_767.5, 32_768.0, 32_768.5, 32_769.0, 1e30,
    ] {
        x.extend([end, -end, f32::next_up(end), f32::next_down(-end)]);
    }
    x.extend([
        0.0,
        -0.0,
        f32::MIN_POSITIVE,
        f32::from_bits(1),
        0.499_999_97,
    ]);
    let shape = GemmShape {
        n: x.len(),
        k: 1,
        o: 4,
    };
    for scale in [1.0, 0.1, 3.0, 1e-6] {
        check_float(
            &x,
            &[1.0, -1.0, 0.3, 1e-20],
            shape,
            Scale::new(scale).unwrap(),
        );
    }
}

#[test]
fn long_float_rows_do_not_overflow() {
    let scale = Scale::new(1e-3).unwrap();
    for k in [16_385, 32_767, 32_769, 70_000] {
        let shape = GemmShape { n: 1, k, o: 2 };
        for end in [-1e3, 1e3] {
            check_float(&vec![end; k], &vec![1.0; 2 * k], shape, scale);
        }
    }
}

fn operand(len: usize) -> impl Strategy<Value = Vec<i16>> {
    let ends = prop_oneof![Just(i16::MIN), Just(i16::MAX), -300i16..300];
    prop_oneof![
        vec(any::<i16>(), len),
        vec(-300i16..300, len),
        vec(ends, len)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn equals_scalar(
        (shape, x, w) in (0usize..9, 0usize..131, 0usize..14).prop_flat_map(|(n, k, o)| (
            Just(GemmShape { n, k, o }),
            operand(n * k),
            operand(o * k),
        )),
        shift in 15i32..48,
        fraction in 0.5f64..1.0,
    ) {
        check(&x, &w, shape, Rescale::new(fraction * f64::powi(2.0, 15 - shift)).unwrap());
    }

    #[test]
    fn float_equals_scalar(
        (shape, x, w) in (0usize..9, 0usize..131, 0usize..14).prop_flat_map(|(n, k, o)| (
            Just(GemmShape { n, k, o }),
            vec(-9f32..9.0, n * k),
            vec(-9f32..9.0, o * k),
        )),
        scale in -6f32..1.0,
    ) {
        check_float(&x, &w, shape, Scale::new(10f32.powf(scale)).unwrap());
    }
}

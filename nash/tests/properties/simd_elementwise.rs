//! Element-wise ops, requantization, reductions and tables on every instruction set of this machine
//! against the scalar reference, to the bit; the portable one is the reference.

use dual16_nash::elementwise::{add_on, mul_on, relu_on, rescale_to_on, sub_on};
use dual16_nash::linear::{AccumulatorPeak, linear_acc_on, linear_on};
use dual16_nash::lut::LutSpec;
use dual16_nash::reduce::{reduce_dot_on, reduce_max_on, reduce_sum_on};
use dual16_nash::{
    GemmShape, IntDtype, Isa, Lut, LutFunction, QInt, Rescale, Scale, Tensor, TensorRef,
};
use proptest::collection::vec;
use proptest::prelude::*;

const EDGES: [i16; 17] = [
    i16::MIN,
    i16::MIN + 1,
    -16_385,
    -257,
    -256,
    -128,
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

/// The same on every instruction set as on the portable one.
fn all_equal<T: PartialEq>(what: &str, run: impl Fn(Isa) -> T) {
    let expected = run(Isa::PORTABLE);
    for isa in Isa::available() {
        assert!(run(isa) == expected, "{what} on {isa}");
    }
}

/// The smallest, a middle and the largest multiplier of a shift.
fn rescales(shift: i32) -> [Rescale; 3] {
    [0.5, 0.75, 0.999_969].map(|f| Rescale::new(f * f64::powi(2.0, 15 - shift)).unwrap())
}

fn narrow(x: &[i16]) -> Vec<i8> {
    x.iter().map(|&q| i8::saturate_i32(q.into())).collect()
}

fn binary<A: QInt, B: QInt, Y: QInt>(
    a: (&[A], &[usize]),
    b: (&[B], &[usize]),
    first: Rescale,
    second: Rescale,
) {
    let a = TensorRef::new(a.0, a.1).unwrap();
    let b = TensorRef::new(b.0, b.1).unwrap();
    let what = |op| format!("{op} {:?} {:?} {first:?} {second:?}", a.shape(), b.shape());
    all_equal(&what("mul"), |isa| -> Tensor<Y> {
        mul_on(isa, a, b, first).unwrap()
    });
    all_equal(&what("add"), |isa| -> Tensor<Y> {
        add_on(isa, a, first, b, second).unwrap()
    });
    all_equal(&what("sub"), |isa| -> Tensor<Y> {
        sub_on(isa, a, first, b, second).unwrap()
    });
}

fn unary<A: QInt, Y: QInt>(x: &[A], rescale: Rescale) {
    let run = |f: &dyn Fn(&mut [Y])| {
        let mut y = vec![Y::default(); x.len()];
        f(&mut y);
        y
    };
    all_equal(&format!("rescale_to {rescale:?}"), |isa| {
        run(&|y| rescale_to_on(isa, x, rescale, y).unwrap())
    });
    for rescale in [None, Some(rescale)] {
        all_equal(&format!("relu {rescale:?}"), |isa| {
            run(&|y| relu_on(isa, x, rescale, y).unwrap())
        });
    }
}

/// Every pair of the values where halves, signs and carries change, for every shift.
#[test]
fn every_shift_at_the_extremes() {
    let (len, small) = (EDGES.len(), narrow(&EDGES));
    let (column, row) = ([len, 1], [1, len]);
    for shift in 1..=70 {
        for rescale in rescales(shift) {
            let other = rescales(shift % 33 + 1)[1];
            binary::<i16, i16, i16>((&EDGES, &column), (&EDGES, &row), rescale, other);
            binary::<i16, i8, i8>((&EDGES, &column), (&small, &row), rescale, other);
            binary::<i8, i8, i16>((&small, &column), (&small, &row), rescale, other);
            unary::<i16, i16>(&EDGES, rescale);
            unary::<i16, i8>(&EDGES, rescale);
            unary::<i8, i16>(&small, rescale);
        }
    }
}

/// The requantization of a GEMM: a k of 1 makes every accumulator, the bias moves it to both ends of
/// 32 bits, and the channels have different shifts, those beyond the largest included.
#[test]
fn accumulators_with_every_shift() {
    let rescales: Vec<Rescale> = (1..=70).flat_map(rescales).collect();
    let o = rescales.len();
    let shape = GemmShape {
        n: EDGES.len(),
        k: 1,
        o,
    };
    for w in [i16::MIN, -1, 1, i16::MAX] {
        let w = vec![w; o];
        for bias in [i32::MIN, -1, 0, i32::MAX] {
            let bias = vec![bias; o];
            all_equal("linear", |isa| {
                let mut y = vec![0i16; shape.n * o];
                let peak =
                    linear_on(isa, &EDGES, &w, shape, Some(&bias), &rescales, &mut y).unwrap();
                (y, peak)
            });
            all_equal("linear_acc", |isa| {
                let mut acc = vec![0; shape.n * o];
                let peak = linear_acc_on(isa, &EDGES, &w, shape, Some(&bias), &mut acc).unwrap();
                (acc, peak)
            });
        }
    }
}

/// Accumulators beyond 2^47, which leave no room for the multiplier in 64 bits.
#[test]
fn accumulators_too_wide_for_vectors() {
    let k = (1 << 17) + 3;
    let shape = GemmShape { n: 1, k, o: 3 };
    let x = vec![i16::MIN; k];
    let w = [vec![i16::MIN; k], vec![1; k], vec![i16::MAX; k]].concat();
    let rescales = [1, 30, 47].map(|shift| rescales(shift)[2]);
    all_equal("linear", |isa| {
        let mut y = [0i16; 3];
        let peak = linear_on(isa, &x, &w, shape, None, &rescales, &mut y).unwrap();
        assert!(peak.bits() > 47);
        (y, peak)
    });
}

/// Large enough for several threads, with a number of rows that no block divides.
#[test]
fn the_number_of_threads_changes_nothing() {
    let (n, k, o) = (67, 301, 259);
    let shape = GemmShape { n, k, o };
    let x: Vec<i16> = (0..n * k).map(|i| (i * 7919) as i16).collect();
    let w: Vec<i8> = (0..o * k).map(|i| (i * 31) as i8).collect();
    let rescale = [Rescale::new(1e-3).unwrap()];
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build().unwrap().install(|| {
            let mut y = vec![0i16; n * o];
            let peak = linear_on(Isa::best(), &x, &w, shape, None, &rescale, &mut y).unwrap();
            (y, peak)
        })
    };
    let expected = run(1);
    for threads in [2, 3, 7] {
        assert!(run(threads) == expected, "{threads} threads");
    }
}

/// Sums that leave 32 bits if they are taken there too long.
#[test]
fn long_rows_do_not_overflow() {
    let rescale = Rescale::new(1e-6).unwrap();
    for end in [i16::MIN, i16::MAX] {
        for len in [32_767, 32_768, 32_769, 200_000] {
            let x = vec![end; len];
            let shape = [len];
            let x = TensorRef::new(&x, &shape).unwrap();
            all_equal("sum", |isa| -> Tensor<i16> {
                reduce_sum_on(isa, x, &[], false, rescale).unwrap()
            });
        }
    }
}

/// Every input of a format.
#[test]
fn tables() {
    let wide: Vec<i16> = (i16::MIN..=i16::MAX).collect();
    let small: Vec<i8> = (i8::MIN..=i8::MAX).collect();
    for function in [LutFunction::Sigmoid, LutFunction::Exp, LutFunction::Gelu] {
        for observed in [None, Some((-3.0, 2.0))] {
            table::<i16, i16>(function, observed, &wide);
            table::<i16, i8>(function, observed, &wide);
            table::<i8, i16>(function, observed, &small);
            table::<i8, i8>(function, observed, &small);
        }
    }
}

fn table<A: QInt, Y: QInt>(function: LutFunction, observed: Option<(f32, f32)>, x: &[A]) {
    let step = |dtype: IntDtype| Scale::new(4.0 / dtype.qmax() as f32).unwrap();
    let spec = LutSpec {
        function,
        input: A::DTYPE,
        input_scale: step(A::DTYPE),
        output: Y::DTYPE,
        output_scale: step(Y::DTYPE),
        observed,
    };
    // Nearly all inputs in one place, so that the segments are of very different widths.
    let (qmin, qmax) = (A::DTYPE.qmin(), A::DTYPE.qmax());
    let seen = (qmin..=qmax).map(|q| 1.0 / (1.0 + f64::from(q.abs())));
    let bounds = Lut::division_for(&spec, &seen.collect::<Vec<_>>(), 100).unwrap();
    let own = Lut::build(&spec).unwrap();
    let divided = bounds.map(|bounds| Lut::divided(&spec, &bounds).unwrap());
    for lut in std::iter::once(own).chain(divided) {
        all_equal(&format!("{spec:?} {:?}", lut.segments()), |isa| {
            let mut y = vec![Y::default(); x.len()];
            lut.apply_on(isa, x, &mut y).unwrap();
            y
        });
    }
}

fn operand(len: usize) -> impl Strategy<Value = Vec<i16>> {
    let ends = prop_oneof![Just(i16::MIN), Just(i16::MAX), -300i16..300];
    prop_oneof![vec(any::<i16>(), len), vec(ends, len)]
}

fn rescale() -> impl Strategy<Value = Rescale> {
    (0.5f64..1.0, 1i32..50)
        .prop_map(|(f, shift)| Rescale::new(f * f64::powi(2.0, 15 - shift)).unwrap())
}

proptest! {
    #[test]
    fn binary_equals_scalar(
        (rows, columns, a, b) in (0usize..4, 0usize..131).prop_flat_map(|(r, c)| (
            Just(r), Just(c), operand(r * c), operand(r * c),
        )),
        first in rescale(),
        second in rescale(),
    ) {
        let full = [rows, columns];
        binary::<i16, i16, i16>((&a, &full), (&b, &full), first, second);
        binary::<i16, i16, i8>((&a, &full), (&b, &full), first, second);
        if rows > 0 && columns > 0 {
            let (row, column) = ([columns], [rows, 1]);
            binary::<i16, i16, i16>((&a, &full), (&b[..columns], &row), first, second);
            binary::<i16, i16, i16>((&a[..rows], &column), (&b, &full), first, second);
        }
        unary::<i16, i16>(&a, first);
    }

    #[test]
    fn sums_of_products_equal_scalar(
        (shape, a, b) in (1usize..5, 1usize..5, 1usize..131).prop_flat_map(|(i, j, k)| (
            Just([i, j, k]), operand(i * j * k), operand(i * j * k),
        )),
        rescale in rescale(),
    ) {
        let small = narrow(&b);
        for axes in [&[][..], &[0], &[1], &[2], &[0, 1], &[0, 2], &[1, 2]] {
            let view = |x| TensorRef::new(x, &shape).unwrap();
            all_equal("dot", |isa| -> (Tensor<i16>, AccumulatorPeak) {
                reduce_dot_on(isa, view(&a), view(&b), axes, true, rescale).unwrap()
            });
            let narrow = TensorRef::new(&small, &shape).unwrap();
            all_equal("dot", |isa| -> (Tensor<i16>, AccumulatorPeak) {
                reduce_dot_on(isa, view(&a), narrow, axes, false, rescale).unwrap()
            });
        }
    }

    #[test]
    fn reductions_equal_scalar(
        (shape, x) in (1usize..5, 1usize..5, 1usize..131).prop_flat_map(|(a, b, c)| (
            Just([a, b, c]), operand(a * b * c),
        )),
        rescale in rescale(),
    ) {
        let small = narrow(&x);
        for axes in [&[][..], &[0], &[1], &[2], &[0, 1], &[0, 2], &[1, 2]] {
            let view = TensorRef::new(&x, &shape).unwrap();
            all_equal("sum", |isa| -> Tensor<i16> {
                reduce_sum_on(isa, view, axes, true, rescale).unwrap()
            });
            all_equal("max", |isa| reduce_max_on(isa, view, axes, true).unwrap());
            let view = TensorRef::new(&small, &shape).unwrap();
            all_equal("sum", |isa| -> Tensor<i8> {
                reduce_sum_on(isa, view, axes, true, rescale).unwrap()
            });
            all_equal("max", |isa| reduce_max_on(isa, view, axes, true).unwrap());
        }
    }
}

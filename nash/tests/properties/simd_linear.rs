//! The GEMM on every instruction set of this machine against the scalar reference, to the bit.

use dual16_nash::linear::{gemm, scalar};
use dual16_nash::{GemmShape, Isa, QInt};
use proptest::collection::vec;
use proptest::prelude::*;

/// Also checks that every output is met exactly once.
fn check<A: QInt, W: QInt>(x: &[A], w: &[W], shape: GemmShape) {
    let mut expected = vec![None; shape.n * shape.o];
    scalar::gemm(x, w, shape, |n, o, sum| {
        expected[n * shape.o + o] = Some(sum);
    });
    for isa in Isa::available() {
        let mut sums = vec![None; expected.len()];
        gemm(isa, x, w, shape, |n, first, run| {
            assert!(first + run.len() <= shape.o);
            for (o, &sum) in (first..).zip(run) {
                assert_eq!(sums[n * shape.o + o].replace(sum), None, "{isa}");
            }
        });
        assert!(sums == expected, "{isa} {shape:?}");
    }
}

#[test]
fn the_best_is_the_last_available() {
    assert_eq!(Isa::available().next(), Some(Isa::PORTABLE));
    assert_eq!(Isa::available().last(), Some(Isa::best()));
}

/// Every k around the blocks that are summed in 32 bits, all products at an end of the format.
fn extremes<A: QInt, W: QInt>() {
    let ends = |bits: u32| [-(1i32 << (bits - 1)), (1 << (bits - 1)) - 1];
    for a in ends(A::DTYPE.bits()) {
        for b in ends(W::DTYPE.bits()) {
            for k in [0, 1, 2, 383, 384, 385, 510, 513, 768, 5000, 70_000] {
                let shape = GemmShape { n: 3, k, o: 2 };
                let x = vec![A::saturate_i32(a); 3 * k];
                let w = vec![W::saturate_i32(b); 2 * k];
                check(&x, &w, shape);
            }
        }
    }
}

#[test]
fn extremes_do_not_overflow() {
    extremes::<i8, i8>();
    extremes::<i16, i8>();
    extremes::<i8, i16>();
    extremes::<i16, i16>();
}

/// Both planes of a 16-bit weight, against every value of it.
#[test]
fn every_weight_of_16_bits() {
    let w: Vec<i16> = (i16::MIN..=i16::MAX).collect();
    for x in [i16::MIN, -1, 1, i16::MAX] {
        let shape = GemmShape {
            n: 1,
            k: 1,
            o: w.len(),
        };
        check(&[x], &w, shape);
    }
}

/// More rows than are packed together.
#[test]
fn many_rows() {
    let shape = GemmShape {
        n: 700,
        k: 5,
        o: 33,
    };
    let x: Vec<i16> = (0..700 * 5).map(|i| (i * 37) as i16).collect();
    let w: Vec<i8> = (0..33 * 5).map(|i| (i * 11) as i8).collect();
    check(&x, &w, shape);
}

/// What a GEMM asks of its thread is there again after another one has run in between.
#[test]
fn one_within_another() {
    let shape = GemmShape { n: 70, k: 3, o: 70 };
    let ones = vec![1i8; 70 * 3];
    for isa in Isa::available() {
        gemm(isa, &ones, &ones, shape, |_, _, sums| {
            assert!(sums.iter().all(|&sum| sum == 3), "{isa}");
            gemm(
                isa,
                &ones[..3],
                &ones[..3],
                GemmShape { n: 1, k: 3, o: 1 },
                |_, _, sums| {
                    assert_eq!(sums, [3], "{isa}");
                },
            );
        });
    }
}

fn size() -> impl Strategy<Value = usize> {
    prop_oneof![0usize..10, 0usize..131]
}

/// Either any value, or mostly the ends of the format.
fn operand<T: QInt + Arbitrary>(len: usize) -> impl Strategy<Value = Vec<T>> {
    let ends = || {
        prop_oneof![
            Just(T::saturate(i64::MIN)),
            Just(T::saturate(i64::MAX)),
            Just(T::saturate(-1)),
            any::<T>(),
        ]
    };
    prop_oneof![vec(any::<T>(), len), vec(ends(), len)]
}

macro_rules! equals_scalar {
    ($($name:ident: $a:ty, $w:ty;)*) => {
        proptest! {$(
            #[test]
            fn $name(
                (shape, x, w) in (size(), size(), size()).prop_flat_map(|(n, k, o)| (
                    Just(GemmShape { n, k, o }),
                    operand::<$a>(n * k),
                    operand::<$w>(o * k),
                )),
            ) {
                check(&x, &w, shape);
            }
        )*}
    };
}

equals_scalar! {
    a8w8_equals_scalar: i8, i8;
    a16w8_equals_scalar: i16, i8;
    a8w16_equals_scalar: i8, i16;
    a16w16_equals_scalar: i16, i16;
}

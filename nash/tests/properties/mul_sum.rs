//! The fused mul+sum against one that materializes its products.

use dual16_nash::mul_sum::{
    MulSumCounts, PRODUCT_CHUNK, for_each_products, mul_sum, mul_sum_fake_quant, product_range,
};
use dual16_nash::{GemmShape, Rescale, Scale};
use proptest::collection::vec;
use proptest::prelude::*;

fn products<T: Copy, P>(x: &[T], w: &[T], shape: GemmShape, f: impl Fn(T, T) -> P) -> Vec<P> {
    let GemmShape { n, k, o } = shape;
    let mut all = Vec::new();
    for row in 0..n {
        for channel in 0..o {
            all.extend((0..k).map(|i| f(x[row * k + i], w[channel * k + i])));
        }
    }
    all
}

fn naive(
    x: &[i16],
    w: &[i16],
    shape: GemmShape,
    product: Rescale,
    sum: Rescale,
) -> (Vec<i16>, MulSumCounts) {
    let unclipped = products(x, w, shape, |a, b| {
        product.apply(i64::from(a) * i64::from(b))
    });
    let counts = MulSumCounts {
        zero: unclipped.iter().filter(|&&q| q == 0).count() as u64,
        clipped: unclipped
            .iter()
            .filter(|&&q| i16::try_from(q).is_err())
            .count() as u64,
    };
    let saturated: Vec<i64> = unclipped.iter().map(|&q| q.clamp(-32768, 32767)).collect();
    let out = saturated
        .chunks(shape.k)
        .map(|row| sum.requant(row.iter().sum()))
        .collect();
    (out, counts)
}

fn check(x: &[i16], w: &[i16], shape: GemmShape, product: Rescale) {
    let sum = Rescale::new(0.3).unwrap();
    let mut out = vec![0; shape.n * shape.o];
    let counts = mul_sum(x, w, shape, product, sum, &mut out).unwrap();
    assert_eq!(
        (out, counts),
        naive(x, w, shape, product, sum),
        "{product:?}"
    );
}

#[test]
fn every_shift_at_the_extremes() {
    let edges = [
        i16::MIN,
        i16::MIN + 1,
        -257,
        -256,
        -1,
        0,
        1,
        255,
        256,
        32766,
        i16::MAX,
    ];
    let shape = GemmShape {
        n: edges.len(),
        k: 1,
        o: edges.len(),
    };
    for shift in 1..=70 {
        for fraction in [0.5, 0.75, 0.999_969] {
            let product = Rescale::new(fraction * f64::powi(2.0, 15 - shift)).unwrap();
            check(&edges, &edges, shape, product);
        }
    }
}

/// More products than one block sums in 32 bits, all of them at the end of the format.
#[test]
fn long_rows_do_not_overflow() {
    let k = 200_000;
    let (x, w) = (vec![i16::MIN; k], vec![i16::MIN; k]);
    let shape = GemmShape { n: 1, k, o: 1 };
    check(
        &x,
        &w,
        shape,
        Rescale::new(32767.0 / f64::powi(2.0, 30)).unwrap(),
    );
    check(&x, &w, shape, Rescale::new(1.0).unwrap());
}

#[test]
fn sizes_of_zero() {
    let one = Rescale::new(1.0).unwrap();
    let mut out = [7];
    mul_sum(&[], &[], GemmShape { n: 1, k: 0, o: 1 }, one, one, &mut out).unwrap();
    assert_eq!(out, [0]);
    mul_sum(
        &[],
        &[1, 2],
        GemmShape { n: 0, k: 2, o: 1 },
        one,
        one,
        &mut [],
    )
    .unwrap();
    assert!(
        mul_sum(
            &[1],
            &[1, 2],
            GemmShape { n: 1, k: 2, o: 1 },
            one,
            one,
            &mut out
        )
        .is_err()
    );
    assert_eq!(
        product_range(&[], &[], GemmShape { n: 1, k: 0, o: 1 }).unwrap(),
        (0.0, 0.0)
    );
}

#[test]
fn stream_is_bounded_and_complete() {
    for k in [3, PRODUCT_CHUNK - 1, PRODUCT_CHUNK, 2 * PRODUCT_CHUNK + 5] {
        let shape = GemmShape { n: 3, k, o: 2 };
        let x: Vec<f32> = (0..3 * k).map(|i| i as f32 * 0.01).collect();
        let w: Vec<f32> = (0..2 * k).map(|i| 1.0 - i as f32 * 0.001).collect();
        let mut streamed = Vec::new();
        for_each_products(&x, &w, shape, |chunk| {
            assert!(!chunk.is_empty() && chunk.len() <= PRODUCT_CHUNK);
            streamed.extend_from_slice(chunk);
        })
        .unwrap();
        assert!(streamed == products(&x, &w, shape, |a, b| a * b));
    }
}

fn operands<T: Strategy + Clone>(
    element: T,
) -> impl Strategy<Value = (GemmShape, Vec<T::Value>, Vec<T::Value>)>
where
    T::Value: Clone,
{
    (1usize..12, 1usize..70, 1usize..20).prop_flat_map(move |(n, k, o)| {
        (
            Just(GemmShape { n, k, o }),
            vec(element.clone(), n * k),
            vec(element.clone(), o * k),
        )
    })
}

proptest! {
    #[test]
    fn fused_equals_materialized(
        (shape, x, w) in operands(any::<i16>()),
        ratio in -14f64..4.0,
    ) {
        check(&x, &w, shape, Rescale::new(10f64.powf(ratio)).unwrap());
    }

    #[test]
    fn float_twin_equals_materialized(
        (shape, x, w) in operands(-9f32..9.0),
        scale in -6f32..1.0,
    ) {
        let scale = Scale::new(10f32.powf(scale)).unwrap();
        let rounded = products(&x, &w, shape, |a, b| (a * b / scale.get()).round_ties_even());
        let counts = MulSumCounts {
            zero: rounded.iter().filter(|&&q| q == 0.0).count() as u64,
            clipped: rounded.iter().filter(|&&q| !(-32768.0..=32767.0).contains(&q)).count() as u64,
        };
        let q: Vec<i64> = rounded.iter().map(|&q| q.clamp(-32768.0, 32767.0) as i64).collect();
        let expected: Vec<f32> = q
            .chunks(shape.k)
            .map(|row| (row.iter().sum::<i64>() as f64 * scale.to_f64()) as f32)
            .collect();
        let mut out = vec![0.0; shape.n * shape.o];
        prop_assert_eq!(mul_sum_fake_quant(&x, &w, shape, scale, &mut out).unwrap(), counts);
        prop_assert_eq!(out, expected);
    }

    #[test]
    fn range_is_that_of_the_products((shape, x, w) in operands(-9f32..9.0)) {
        let all = products(&x, &w, shape, |a, b| a * b);
        let min = all.iter().copied().fold(f32::INFINITY, f32::min);
        let max = all.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        prop_assert_eq!(product_range(&x, &w, shape).unwrap(), (min, max));
    }
}

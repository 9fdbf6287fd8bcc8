//! Reductions against sums by hand.

use dual16_nash::reduce::{
    reduce_dot, reduce_dot_f32, reduce_max, reduce_mean_f32, reduce_sum, reduce_sum_f32,
    reduced_count,
};
use dual16_nash::{Rescale, Scale, ShapeError, TensorRef};
use proptest::prelude::*;

const SHAPE: [usize; 3] = [2, 3, 4];

fn flat(i: usize, j: usize, k: usize) -> usize {
    (i * 3 + j) * 4 + k
}

proptest! {
    #[test]
    fn sums_and_means_round_once(x: [i16; 24], ratio in -5f64..1.0) {
        let rescale = Rescale::new(10f64.powf(ratio)).unwrap();
        let t = TensorRef::new(&x, &SHAPE).unwrap();
        let y = reduce_sum::<_, i16>(t, &[1], false, rescale).unwrap();
        prop_assert_eq!(&y.shape, &[2, 4]);
        for i in 0..2 {
            for k in 0..4 {
                let sum: i64 = (0..3).map(|j| i64::from(x[flat(i, j, k)])).sum();
                prop_assert_eq!(y.data[i * 4 + k], rescale.requant::<i16>(sum));
            }
        }
        let y = reduce_sum::<_, i16>(t, &[-1, 0], true, rescale).unwrap();
        prop_assert_eq!(&y.shape, &[1, 3, 1]);
        for j in 0..3 {
            let rows = (0..2).flat_map(|i| (0..4).map(move |k| flat(i, j, k)));
            let sum: i64 = rows.map(|at| i64::from(x[at])).sum();
            prop_assert_eq!(y.data[j], rescale.requant::<i16>(sum));
        }
        let all = reduce_max(t, &[], false).unwrap();
        prop_assert_eq!((all.shape, all.data), (vec![], vec![*x.iter().max().unwrap()]));
    }
}

proptest! {
    #[test]
    fn sums_of_products_round_once(a: [i16; 24], b: [i16; 24], ratio in -8f64..-2.0) {
        let rescale = Rescale::new(10f64.powf(ratio)).unwrap();
        let (a_ref, b_ref) = (TensorRef::new(&a, &SHAPE).unwrap(), TensorRef::new(&b, &SHAPE).unwrap());
        let (y, peak) = reduce_dot::<_, _, i16>(a_ref, b_ref, &[1, 2], false, rescale).unwrap();
        let sums: Vec<i64> = (0..2).map(|i| {
            (12 * i..12 * i + 12).map(|at| i64::from(a[at]) * i64::from(b[at])).sum()
        }).collect();
        prop_assert_eq!(y.shape, [2]);
        let expected: Vec<i16> = sums.iter().map(|&sum| rescale.requant(sum)).collect();
        prop_assert_eq!(y.data, expected);
        prop_assert_eq!(peak.max_abs(), sums.iter().map(|sum| sum.unsigned_abs()).max().unwrap());

        let floats = |x: &[i16; 24]| x.map(f32::from);
        let (a, b) = (floats(&a), floats(&b));
        let (a, b) = (TensorRef::new(&a, &SHAPE).unwrap(), TensorRef::new(&b, &SHAPE).unwrap());
        let means = reduce_dot_f32(a, b, &[1, 2], true, 12.0).unwrap();
        prop_assert_eq!(means.shape, [2, 1, 1]);
        for (mean, &sum) in means.data.iter().zip(&sums) {
            prop_assert_eq!(*mean, (sum as f64 / 12.0) as f32);
        }
    }
}

#[test]
fn products_of_different_shapes_have_no_sum() {
    let x = [0i16; 24];
    let rescale = Rescale::new(1.0).unwrap();
    let (a, b) = (
        TensorRef::new(&x, &SHAPE).unwrap(),
        TensorRef::new(&x, &[24]).unwrap(),
    );
    let error = reduce_dot::<_, _, i16>(a, b, &[0], false, rescale).unwrap_err();
    assert!(matches!(error, ShapeError::Broadcast { .. }), "{error}");
}

#[test]
fn mean_of_equal_values_is_the_value() {
    let s = Scale::new(0.37).unwrap();
    let rescale = Rescale::of_mean(s, 12, s);
    let x = [1234i16; 24];
    let y = reduce_sum::<_, i16>(TensorRef::new(&x, &SHAPE).unwrap(), &[1, 2], false, rescale);
    assert_eq!(y.unwrap().data, [1234, 1234]);
    assert_eq!(reduced_count(&SHAPE, &[1, 2]).unwrap(), 12);
}

#[test]
fn float_reductions() {
    // The large values cancel; an f32 sum would have lost the 1.
    let x = [1e8f32, 1.0, -1e8, 3.0];
    let t = TensorRef::new(&x, &[1, 4]).unwrap();
    assert_eq!(reduce_sum_f32(t, &[1], false).unwrap().data, [4.0]);
    assert_eq!(reduce_mean_f32(t, &[-1], true).unwrap().data, [1.0]);
    assert_eq!(reduce_max(t, &[0], false).unwrap().data, x);
}

#[test]
fn axes_that_are_wrong() {
    let x = [0i8; 24];
    let t = TensorRef::new(&x, &SHAPE).unwrap();
    assert_eq!(
        reduce_max(t, &[3], false),
        Err(ShapeError::Axis { axis: 3, rank: 3 })
    );
    assert_eq!(
        reduce_max(t, &[i64::MIN], false),
        Err(ShapeError::Axis {
            axis: i64::MIN,
            rank: 3
        })
    );
    assert_eq!(
        reduce_max(t, &[1, -2], false),
        Err(ShapeError::RepeatedAxis { axis: 1 })
    );
    let empty = TensorRef::<f32>::new(&[], &[2, 0]).unwrap();
    assert_eq!(reduce_max(empty, &[1], false).unwrap().data, [0.0, 0.0]);
    assert_eq!(
        reduce_mean_f32(empty, &[1], false).unwrap().data,
        [0.0, 0.0]
    );
    assert_eq!(reduce_sum_f32(empty, &[1], false).unwrap().data, [0.0, 0.0]);
    assert_eq!(reduce_sum_f32(empty, &[0], false).unwrap().shape, [0]);
}

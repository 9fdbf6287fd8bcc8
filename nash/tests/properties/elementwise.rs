//! Broadcasting against index arithmetic, and the integer ops against their definitions.

use dual16_nash::elementwise::{add, broadcast_shape, map_binary, mul, relu, rescale_to, sub};
use dual16_nash::tensor::element_count;
use dual16_nash::{Rescale, ShapeError, TensorRef};
use proptest::collection::vec;
use proptest::prelude::*;

/// Value of a broadcast tensor at a flat index of the result.
fn at<T: Copy>(data: &[T], shape: &[usize], result: &[usize], mut flat: usize) -> T {
    let (mut own, mut stride) = (0, 1);
    for (back, &size) in result.iter().rev().enumerate() {
        let i = flat % size;
        flat /= size;
        if let Some(&own_size) = shape.iter().rev().nth(back) {
            own += if own_size == 1 { 0 } else { i * stride };
            stride *= own_size;
        }
    }
    data[own]
}

/// Two shapes that broadcast: sizes of one shape, some of them 1, leading ones left out.
fn shapes() -> impl Strategy<Value = (Vec<usize>, Vec<usize>)> {
    vec(1usize..5, 0..5).prop_flat_map(|full| {
        let rank = full.len();
        let cut = move |full: Vec<usize>, ones: Vec<bool>, skip: usize| -> Vec<usize> {
            full.into_iter()
                .zip(ones)
                .map(|(s, one)| if one { 1 } else { s })
                .skip(skip)
                .collect()
        };
        let masks = (
            vec(any::<bool>(), rank),
            vec(any::<bool>(), rank),
            0..=rank,
            0..=rank,
        );
        masks.prop_map(move |(a, b, skip_a, skip_b)| {
            (cut(full.clone(), a, skip_a), cut(full.clone(), b, skip_b))
        })
    })
}

proptest! {
    #[test]
    fn broadcasting_equals_index_arithmetic((a_shape, b_shape) in shapes()) {
        let a: Vec<i32> = (0..element_count(&a_shape).unwrap() as i32).collect();
        let b: Vec<i32> = (0..element_count(&b_shape).unwrap() as i32).map(|v| v + 1000).collect();
        let view = |data, shape| TensorRef::<i32>::new(data, shape).unwrap();
        let y = map_binary(view(&a, &a_shape), view(&b, &b_shape), |a, b| (a, b)).unwrap();
        prop_assert_eq!(&y.shape, &broadcast_shape(&a_shape, &b_shape).unwrap());
        for (flat, &pair) in y.data.iter().enumerate() {
            let expected = (at(&a, &a_shape, &y.shape, flat), at(&b, &b_shape, &y.shape, flat));
            prop_assert_eq!(pair, expected);
        }
        prop_assert_eq!(y.data.len(), element_count(&y.shape).unwrap());
    }

    #[test]
    fn integer_ops_equal_their_definitions(
        a in vec(any::<i16>(), 6),
        b in vec(any::<i8>(), 6),
        ratio_a in -9f64..3.0,
        ratio_b in -9f64..3.0,
    ) {
        let (ra, rb) =
            (Rescale::new(10f64.powf(ratio_a)).unwrap(), Rescale::new(10f64.powf(ratio_b)).unwrap());
        let shape = [2, 3];
        let (x, y) = (TensorRef::new(&a, &shape).unwrap(), TensorRef::new(&b, &shape).unwrap());
        let saturate = |v: i64| v.clamp(-32768, 32767) as i16;
        let expect = |f: &dyn Fn(i64, i64) -> i64| -> Vec<i16> {
            a.iter().zip(&b).map(|(&a, &b)| saturate(f(a.into(), b.into()))).collect()
        };
        prop_assert_eq!(mul::<_, _, i16>(x, y, ra).unwrap().data, expect(&|a, b| ra.apply(a * b)));
        prop_assert_eq!(
            add::<_, _, i16>(x, ra, y, rb).unwrap().data,
            expect(&|a, b| ra.apply(a) + rb.apply(b))
        );
        prop_assert_eq!(
            sub::<_, _, i16>(x, ra, y, rb).unwrap().data,
            expect(&|a, b| ra.apply(a) - rb.apply(b))
        );
        let mut out = [0i16; 6];
        relu(&a, Some(ra), &mut out).unwrap();
        prop_assert_eq!(&out[..], &expect(&|a, _| ra.apply(a.max(0)))[..]);
        relu(&a, None, &mut out).unwrap();
        prop_assert_eq!(&out[..], &expect(&|a, _| a.max(0))[..]);
        rescale_to(&a, ra, &mut out).unwrap();
        prop_assert_eq!(&out[..], &expect(&|a, _| ra.apply(a))[..]);
    }
}

#[test]
fn empty_tensors_and_scalars() {
    let empty: [i16; 0] = [];
    let scalar = TensorRef::new(&[5i16], &[]).unwrap();
    let y = map_binary(TensorRef::new(&empty, &[0, 3]).unwrap(), scalar, |a, b| {
        a + b
    })
    .unwrap();
    assert_eq!((y.shape, y.data.len()), (vec![0, 3], 0));
    let y = map_binary(scalar, scalar, |a, b| a + b).unwrap();
    assert_eq!((y.shape, y.data), (vec![], vec![10]));
}

#[test]
fn shapes_that_do_not_broadcast() {
    assert!(matches!(
        broadcast_shape(&[2, 3], &[2]),
        Err(ShapeError::Broadcast { .. })
    ));
    assert!(matches!(
        TensorRef::new(&[1], &[usize::MAX, 2]),
        Err(ShapeError::TooLarge { .. })
    ));
    assert!(matches!(
        TensorRef::new(&[1], &[2]),
        Err(ShapeError::Length { .. })
    ));
    assert!(relu::<i8, i8>(&[1], None, &mut []).is_err());
}

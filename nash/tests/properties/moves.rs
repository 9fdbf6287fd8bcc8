//! Moves that undo each other, and slices against index lists.

use dual16_nash::elementwise::map_binary;
use dual16_nash::moves::{
    AxisSlice, concat, concat_rescaled, expand, gather, slice, split, transpose,
};
use dual16_nash::tensor::element_count;
use dual16_nash::{Rescale, ShapeError, Tensor, TensorRef};
use proptest::collection::vec;
use proptest::prelude::*;

fn counted(shape: &[usize]) -> Tensor<i32> {
    let count = element_count(shape).unwrap() as i32;
    Tensor::new((0..count).collect(), shape.to_vec()).unwrap()
}

fn shape() -> impl Strategy<Value = Vec<usize>> {
    vec(0usize..5, 1..5)
}

fn permuted() -> impl Strategy<Value = (Vec<usize>, Vec<usize>)> {
    shape().prop_flat_map(|shape| {
        let axes: Vec<usize> = (0..shape.len()).collect();
        (Just(shape), Just(axes).prop_shuffle())
    })
}

/// The indices that Python's `range` with ONNX's clamping would walk.
fn indices(size: i64, start: i64, end: i64, step: i64) -> Vec<usize> {
    let front = |i: i64| if i < 0 { i.saturating_add(size) } else { i };
    let (start, end) = (front(start), front(end));
    if step > 0 {
        (start.clamp(0, size)..end.clamp(0, size))
            .step_by(step as usize)
            .map(|i| i as usize)
            .collect()
    } else {
        let (start, end) = (
            start.clamp(0, (size - 1).max(0)),
            end.clamp(-1, (size - 1).max(-1)),
        );
        let down = (end + 1..=start)
            .rev()
            .step_by(step.unsigned_abs() as usize);
        down.filter(|&i| i < size).map(|i| i as usize).collect()
    }
}

proptest! {
    #[test]
    fn transpose_round_trips((shape, permutation) in permuted()) {
        let x = counted(&shape);
        let there = transpose(x.view().unwrap(), &permutation).unwrap();
        let mut inverse = vec![0; permutation.len()];
        for (to, &from) in permutation.iter().enumerate() {
            prop_assert_eq!(there.shape[to], shape[from]);
            inverse[from] = to;
        }
        prop_assert_eq!(transpose(there.view().unwrap(), &inverse).unwrap(), x);
    }

    #[test]
    fn split_and_concat_round_trip(shape in shape(), axis in 0usize..4, cut in 0usize..5) {
        let axis = axis % shape.len();
        let cut = cut.min(shape[axis]);
        let x = counted(&shape);
        let parts = split(x.view().unwrap(), axis as i64, &[cut, shape[axis] - cut]).unwrap();
        let views: Vec<_> = parts.iter().map(|part| part.view().unwrap()).collect();
        let back = concat(&views, axis as i64 - shape.len() as i64).unwrap();
        prop_assert_eq!(back, x);
    }

    #[test]
    fn slice_equals_index_lists(
        size in 0usize..7,
        start in -9i64..9,
        end in prop_oneof![-9i64..9, Just(i64::MAX), Just(i64::MIN)],
        step in prop_oneof![-3i64..0, 1i64..4, Just(i64::MAX), Just(i64::MIN)],
    ) {
        let x = counted(&[2, size, 3]);
        let y = slice(x.view().unwrap(), &[AxisSlice { axis: -2, start, end, step }]).unwrap();
        let rows = indices(size as i64, start, end, step);
        let list: Vec<i64> = rows.iter().map(|&i| i as i64).collect();
        let list = Tensor::new(list, vec![rows.len()]).unwrap();
        let expected = gather(x.view().unwrap(), list.view().unwrap(), 1).unwrap();
        prop_assert_eq!(y, expected);
    }

    #[test]
    fn expand_is_a_broadcast_add_of_zero(shape in vec(1usize..4, 1..4), times in 1usize..4) {
        let x = counted(&shape);
        let mut target = vec![times];
        target.extend(&shape);
        let zeros = Tensor::new(vec![0; element_count(&target).unwrap()], target.clone()).unwrap();
        let sum = map_binary(x.view().unwrap(), zeros.view().unwrap(), |a, b| a + b).unwrap();
        prop_assert_eq!(expand(x.view().unwrap(), &target).unwrap(), sum);
    }
}

#[test]
fn gather_replaces_the_axis() {
    let x = counted(&[2, 3]);
    let at = TensorRef::new(&[2i64, -3, 1, 1], &[2, 2]).unwrap();
    let y = gather(x.view().unwrap(), at, 1).unwrap();
    assert_eq!(
        (y.shape, y.data),
        (vec![2, 2, 2], vec![2, 0, 1, 1, 5, 3, 4, 4])
    );
    let far = TensorRef::new(&[3i64], &[]).unwrap();
    let error = gather(x.view().unwrap(), far, 1);
    assert_eq!(error, Err(ShapeError::Index { index: 3, size: 3 }));
}

#[test]
fn concat_brings_parts_to_one_scale() {
    let half = Rescale::new(0.5).unwrap();
    let double = Rescale::new(2.0).unwrap();
    let part = TensorRef::new(&[100i16, -7], &[1, 2]).unwrap();
    let y = concat_rescaled::<_, i8>(&[(part, half), (part, double)], 0).unwrap();
    assert_eq!((y.shape, y.data), (vec![2, 2], vec![50, -3, 127, -14]));
}

#[test]
fn arguments_that_are_wrong() {
    let x = counted(&[2, 3]);
    let v = x.view().unwrap();
    assert!(matches!(
        transpose(v, &[0]),
        Err(ShapeError::Entries { .. })
    ));
    assert!(matches!(
        transpose(v, &[0, 0]),
        Err(ShapeError::RepeatedAxis { .. })
    ));
    assert!(matches!(
        transpose(v, &[0, 2]),
        Err(ShapeError::Axis { .. })
    ));
    let whole = AxisSlice {
        axis: 0,
        start: 0,
        end: i64::MAX,
        step: 1,
    };
    assert!(matches!(
        slice(v, &[AxisSlice { step: 0, ..whole }]),
        Err(ShapeError::ZeroStep { .. })
    ));
    assert!(matches!(
        slice(v, &[whole, whole]),
        Err(ShapeError::RepeatedAxis { .. })
    ));
    assert!(matches!(
        split(v, 1, &[1, 1]),
        Err(ShapeError::Length { .. })
    ));
    assert!(matches!(
        concat::<i32>(&[], 0),
        Err(ShapeError::Empty { .. })
    ));
    let other = counted(&[3, 2]);
    let parts = [v, other.view().unwrap()];
    assert!(matches!(concat(&parts, 0), Err(ShapeError::Concat { .. })));
    assert!(matches!(expand(v, &[2]), Err(ShapeError::Broadcast { .. })));
}

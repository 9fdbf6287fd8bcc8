//! Reductions and running results along axes.

use ndarray::{ArrayD, Axis, IxDyn};

use super::{
    Made,
    call::{Call, beyond, stored},
};
use crate::{onnx::DataType, tensor::Datum};

/// ReduceSum, ReduceProd, ReduceMean, ReduceL1 and ReduceSumSquare of integers.
pub(super) fn integers(call: &Call<'_>) -> Made {
    let x = call.integers(0)?;
    let given = call.list(1)?.unwrap_or_default();
    let mut axes = Vec::new();
    for &axis in &given {
        axes.push(call.axis(axis, x.ndim())?);
    }
    if given.is_empty() && call.int("noop_with_empty_axes", 0) == 0 {
        axes = (0..x.ndim()).collect();
    }
    let keep = call.int("keepdims", 1) != 0;
    let product = call.op() == "ReduceProd";
    let element = |x: i64| match call.op() {
        "ReduceL1" => x.checked_abs(),
        "ReduceSumSquare" => x.checked_mul(x),
        _ => Some(x),
    };
    let shape: Vec<usize> = (0..x.ndim())
        .map(|axis| {
            if axes.contains(&axis) {
                1
            } else {
                x.shape()[axis]
            }
        })
        .collect();
    let mut y = ArrayD::from_elem(IxDyn(&shape), i64::from(product));
    for (index, &x) in x.indexed_iter() {
        let mut at = ndarray::Dimension::slice(&index).to_vec();
        for &axis in &axes {
            at[axis] = 0;
        }
        let slot = &mut y[IxDyn(&at)];
        let next = element(x).and_then(|x| match product {
            true => slot.checked_mul(x),
            false => slot.checked_add(x),
        });
        *slot = next.ok_or_else(|| beyond("of a reduction"))?;
    }
    if call.op() == "ReduceMean" {
        let count: usize = axes.iter().map(|&axis| x.shape()[axis]).product();
        let count = i64::try_from(count.max(1)).unwrap_or(i64::MAX);
        y.mapv_inplace(|sum| sum / count);
    }
    if !keep {
        let kept: Vec<usize> = (0..x.ndim())
            .filter(|axis| !axes.contains(axis))
            .map(|axis| x.shape()[axis])
            .collect();
        y = super::call::tensor(&kept, y.into_raw_vec_and_offset().0)?;
    }
    // What a sum wraps to depends on the order and width in which it is taken, which ONNX leaves open.
    let outside = y.iter().find(|&&y| i32::try_from(y).is_err());
    if let (DataType::Int32, Some(y)) = (call.elem(), outside) {
        return Err(beyond(&y.to_string()));
    }
    Ok(vec![stored(&y, call.elem())?])
}

/// ArgMax and ArgMin that take the last of equals.
pub(super) fn arg(call: &Call<'_>) -> Made {
    let x = match call.needs(0)? {
        Datum::F32(x) => x.mapv(f64::from),
        _ => call.integers(0)?.mapv(|x| x as f64),
    };
    let axis = call.axis(call.int("axis", 0), x.ndim())?;
    if x.shape()[axis] == 0 {
        return Err(format!("its axis {axis} is empty"));
    }
    let last = call.int("select_last_index", 0) != 0;
    let largest = call.op() == "ArgMax";
    let best = x.map_axis(Axis(axis), |lane| {
        let mut best = 0;
        for (index, &x) in lane.iter().enumerate() {
            let better = if largest {
                x > lane[best]
            } else {
                x < lane[best]
            };
            if better || (last && x == lane[best]) {
                best = index;
            }
        }
        best as i32
    });
    let best = match call.int("keepdims", 1) != 0 {
        true => best.insert_axis(Axis(axis)),
        false => best,
    };
    Ok(vec![Datum::I32(best)])
}

/// CumSum and CumProd.
pub(super) fn cumulated(call: &Call<'_>) -> Made {
    let axis = call.integers(1)?;
    let axis = axis.first().copied().ok_or("its axis is empty")?;
    let product = call.op() == "CumProd";
    if let Datum::F32(x) = call.needs(0)? {
        let step = |a: f64, b: f64| Some(if product { a * b } else { a + b });
        let y = running(
            call,
            &x.mapv(f64::from),
            axis,
            f64::from(u8::from(product)),
            step,
        )?;
        return Ok(vec![Datum::F32(y.mapv(|y| y as f32))]);
    }
    let step = |a: i64, b: i64| match product {
        true => a.checked_mul(b),
        false => a.checked_add(b),
    };
    let y = running(call, &call.integers(0)?, axis, i64::from(product), step)?;
    Ok(vec![stored(&y, call.elem())?])
}

fn running<T: Copy>(
    call: &Call<'_>,
    x: &ArrayD<T>,
    axis: i64,
    neutral: T,
    step: impl Fn(T, T) -> Option<T>,
) -> Result<ArrayD<T>, String> {
    let axis = call.axis(axis, x.ndim())?;
    let exclusive = call.int("exclusive", 0) != 0;
    let reverse = call.int("reverse", 0) != 0;
    let mut y = x.as_standard_layout().into_owned();
    for mut lane in y.lanes_mut(Axis(axis)) {
        let mut sum = neutral;
        let length = lane.len();
        for place in 0..length {
            let slot = &mut lane[if reverse { length - 1 - place } else { place }];
            let next = step(sum, *slot).ok_or_else(|| beyond("of a running sum"))?;
            *slot = if exclusive { sum } else { next };
            sum = next;
        }
    }
    Ok(y)
}

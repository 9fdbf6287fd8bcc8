//! Window functions, the mel filter bank, the discrete Fourier transform and the determinant.

use std::f64::consts::TAU;

use ndarray::{Array2, Axis, IxDyn};

use super::{
    Made,
    call::{Call, stored, tensor},
};
use crate::{onnx::DataType, tensor::Datum};

/// HannWindow, HammingWindow and BlackmanWindow.
pub(super) fn window(call: &Call<'_>) -> Made {
    let size = call.integers(0)?;
    let size = size.first().copied().ok_or("its size is empty")?;
    let size = usize::try_from(size).map_err(|_| "its size is negative")?;
    let periodic = call.int("periodic", 1) != 0;
    let period = if periodic {
        size
    } else {
        size.saturating_sub(1)
    } as f64;
    let value = |index: usize| {
        let turn = TAU * index as f64 / period;
        match call.op() {
            "HannWindow" => 0.5 - 0.5 * turn.cos(),
            "HammingWindow" => 25.0 / 46.0 - 21.0 / 46.0 * turn.cos(),
            _ => 0.42 - 0.5 * turn.cos() + 0.08 * (2.0 * turn).cos(),
        }
    };
    let values: Vec<f64> = (0..size).map(value).collect();
    Ok(vec![typed(call, &[size], &values)?])
}

/// Numbers in the type that `output_datatype` names.
fn typed(call: &Call<'_>, shape: &[usize], values: &[f64]) -> Result<Datum, String> {
    use DataType as T;
    match call.elem_of("output_datatype") {
        T::Undefined | T::Float | T::Double | T::Float16 | T::Bfloat16 => Ok(Datum::F32(tensor(
            shape,
            values.iter().map(|&x| x as f32).collect(),
        )?)),
        elem => stored(
            &tensor(shape, values.iter().map(|&x| x as i64).collect())?,
            elem,
        ),
    }
}

/// MelWeightMatrix: triangles of equal width on the mel scale.
pub(super) fn mel(call: &Call<'_>) -> Made {
    let number = |index: usize| -> Result<f64, String> {
        call.number(index)?
            .ok_or_else(|| format!("its input {index} is missing"))
    };
    let (bins, length, rate) = (number(0)? as usize, number(1)?, number(2)?);
    let (low, high) = (number(3)?, number(4)?);
    let spectrum = (length / 2.0).floor() as usize + 1;
    let to_mel = |hertz: f64| 2595.0 * (1.0 + hertz / 700.0).log10();
    let (low, high) = (to_mel(low), to_mel(high));
    let step = (high - low) / (bins as f64 + 2.0);
    let edges: Vec<i64> = (0..bins + 2)
        .map(|index| {
            let hertz = 700.0 * (10_f64.powf((index as f64 * step + low) / 2595.0) - 1.0);
            ((length + 1.0) * hertz / rate).floor() as i64
        })
        .collect();
    let mut y = Array2::<f64>::zeros((spectrum, bins));
    for bin in 0..bins {
        let (lower, center, upper) = (edges[bin], edges[bin + 1], edges[bin + 2]);
        let mut set = |row: i64, value: f64| {
            let row = usize::try_from(row).ok();
            if let Some(slot) = row.and_then(|row| y.get_mut((row, bin))) {
                *slot = value;
            }
        };
        if center == lower {
            set(center, 1.0);
        }
        for row in lower..=center {
            if center != lower {
                set(row, (row - lower) as f64 / (center - lower) as f64);
            }
        }
        for row in center..upper {
            set(row, (upper - row) as f64 / (upper - center) as f64);
        }
    }
    let values: Vec<f64> = y.iter().copied().collect();
    Ok(vec![typed(call, &[spectrum, bins], &values)?])
}

/// DFT along an axis of `[.., 1 or 2]`.
pub(super) fn dft(call: &Call<'_>) -> Made {
    let x = call.floats(0)?;
    let rank = x.ndim();
    let parts = x.shape().last().copied().unwrap_or(0);
    if !(parts == 1 || parts == 2) || rank < 2 {
        return Err(format!(
            "its input has shape {:?}, without real and imaginary parts",
            x.shape()
        ));
    }
    let axis = match call.number(2)? {
        Some(axis) => axis as i64,
        None => call.int("axis", -2),
    };
    let axis = call.axis(axis, rank)?;
    let (inverse, onesided) = (call.int("inverse", 0) != 0, call.int("onesided", 0) != 0);
    // The inverse of one side is real, its other side being the conjugate.
    let given = x.shape()[axis];
    let natural = if inverse && onesided {
        2 * given.saturating_sub(1)
    } else {
        given
    };
    let length = match call.number(1)? {
        Some(length) if length >= 1.0 => length as usize,
        Some(length) => return Err(format!("its dft_length {length} is not above 0")),
        None => natural,
    };
    let outputs = if onesided && !inverse {
        length / 2 + 1
    } else {
        length
    };
    let real = inverse && onesided;
    let mut shape = x.shape().to_vec();
    shape[axis] = outputs;
    shape[rank - 1] = if real { 1 } else { 2 };
    let mut y = ndarray::ArrayD::<f32>::zeros(IxDyn(&shape));
    let sign = if inverse { 1.0 } else { -1.0 };
    let part = |lane: &ndarray::ArrayViewD<'_, f32>, index: usize| -> (f64, f64) {
        let read = |index: usize| {
            let row = lane.index_axis(Axis(0), index);
            let im = if parts == 2 {
                f64::from(row[IxDyn(&[1])])
            } else {
                0.0
            };
            (f64::from(row[IxDyn(&[0])]), im)
        };
        if real && index > length / 2 {
            let (re, im) = if length - index < given {
                read(length - index)
            } else {
                (0.0, 0.0)
            };
            return (re, -im);
        }
        if index < given {
            read(index)
        } else {
            (0.0, 0.0)
        }
    };
    // Lanes `[length, parts]`, one for each place of the other axes.
    let order: Vec<usize> = (0..rank)
        .filter(|&other| other != axis && other != rank - 1)
        .collect();
    let order: Vec<usize> = order.into_iter().chain([axis, rank - 1]).collect();
    let from = x.view().permuted_axes(IxDyn(&order));
    let mut into = y.view_mut().permuted_axes(IxDyn(&order));
    let places: usize = order[..rank - 2]
        .iter()
        .map(|&axis| x.shape()[axis])
        .product();
    let lengths: Vec<usize> = order[..rank - 2]
        .iter()
        .map(|&axis| x.shape()[axis])
        .collect();
    let mut at = vec![0; lengths.len()];
    for place in 0..places {
        super::windows::unravel(place, &lengths, &mut at);
        let mut lane = from.view();
        let mut out = into.view_mut();
        for &index in &at {
            lane = lane.index_axis_move(Axis(0), index);
            out = out.index_axis_move(Axis(0), index);
        }
        let samples: Vec<(f64, f64)> = (0..length).map(|index| part(&lane, index)).collect();
        for k in 0..outputs {
            let (mut re, mut im) = (0.0, 0.0);
            for (n, (a, b)) in samples.iter().enumerate() {
                let (sin, cos) = (sign * TAU * ((k * n) % length) as f64 / length as f64).sin_cos();
                re += a * cos - b * sin;
                im += a * sin + b * cos;
            }
            if inverse {
                re /= length as f64;
                im /= length as f64;
            }
            out[IxDyn(&[k, 0])] = re as f32;
            if !real {
                out[IxDyn(&[k, 1])] = im as f32;
            }
        }
    }
    Ok(vec![Datum::F32(y)])
}

/// Determinants of the matrices of a batch, by elimination.
pub(super) fn det(call: &Call<'_>) -> Made {
    let x = call.floats(0)?;
    let &[ref batch @ .., n, m] = x.shape() else {
        return Err(format!(
            "its input has shape {:?}, which is no matrix",
            x.shape()
        ));
    };
    if n != m {
        return Err(format!("its matrices are {n} x {m}, not square"));
    }
    let flat: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
    let count: usize = batch.iter().product();
    let one = |index: usize| {
        let mut a = flat[index * n * n..(index + 1) * n * n].to_vec();
        let mut det = 1.0;
        for column in 0..n {
            let size = |&row: &usize| a[row * n + column].abs();
            let pivot = (column..n)
                .max_by(|x, y| size(x).total_cmp(&size(y)))
                .unwrap_or(column);
            if a[pivot * n + column] == 0.0 {
                return 0.0;
            }
            if pivot != column {
                (0..n).for_each(|k| a.swap(pivot * n + k, column * n + k));
                det = -det;
            }
            det *= a[column * n + column];
            for row in column + 1..n {
                let factor = a[row * n + column] / a[column * n + column];
                (column..n).for_each(|k| a[row * n + k] -= factor * a[column * n + k]);
            }
        }
        det
    };
    let values = (0..count).map(|index| one(index) as f32).collect();
    Ok(vec![Datum::F32(tensor(batch, values)?)])
}

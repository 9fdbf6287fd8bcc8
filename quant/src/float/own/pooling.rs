//! Pools with whatever windows ONNX has, the inverse of MaxPool, and LRN.

use ndarray::{ArrayD, IxDyn};

use super::{
    Made,
    call::{Call, integers, stored, tensor},
    windows::{Windows, unravel},
};
use crate::tensor::Datum;

/// MaxPool with its indices, AveragePool and LpPool.
pub(super) fn pool(call: &Call<'_>) -> Made {
    let datum = call.needs(0)?;
    let &[n, c, ref spatial @ ..] = datum.shape() else {
        return Err(format!(
            "its input has shape {:?}, without channels",
            datum.shape()
        ));
    };
    let kernel = call.sizes("kernel_shape", spatial.len(), 1)?;
    let windows = Windows::of(call, spatial, &kernel)?;
    let x: Vec<f64> = match datum {
        Datum::F32(x) => x.iter().map(|&x| f64::from(x)).collect(),
        other => integers(other)
            .ok_or("its input holds no numbers")?
            .iter()
            .map(|&x| x as f64)
            .collect(),
    };
    let size: usize = spatial.iter().product();
    let count: usize = windows.output.iter().product();
    let by_columns = call.int("storage_order", 0) != 0;
    let mut y = Vec::with_capacity(n * c * count);
    let mut indices = Vec::with_capacity(n * c * count);
    let mut place = vec![0; kernel.len()];
    for channel in 0..n * c {
        let plane = &x[channel * size..(channel + 1) * size];
        for number in 0..count {
            unravel(number, &windows.output, &mut place);
            let (value, index) = one(call, &windows, plane, &place);
            y.push(value);
            let index = if by_columns {
                transposed(index, spatial)
            } else {
                index
            };
            indices.push((channel * size + index) as i32);
        }
    }
    let shape = [&[n, c], windows.output.as_slice()].concat();
    let y = match datum {
        Datum::F32(_) => Datum::F32(tensor(&shape, y.iter().map(|&y| y as f32).collect())?),
        Datum::I8(_) => Datum::I8(tensor(&shape, y.iter().map(|&y| y as i8).collect())?),
        Datum::U8(_) => Datum::U8(tensor(&shape, y.iter().map(|&y| y as u8).collect())?),
        Datum::I32(_) => stored(
            &tensor(&shape, y.iter().map(|&y| y as i64).collect())?,
            call.elem(),
        )?,
    };
    Ok(vec![y, Datum::I32(tensor(&shape, indices)?)])
}

fn one(call: &Call<'_>, windows: &Windows, plane: &[f64], place: &[usize]) -> (f64, usize) {
    match call.op() {
        "MaxPool" => {
            let mut best: Option<(f64, usize)> = None;
            windows.each(place, |_, at| {
                let Some(at) = at else { return };
                if best.is_none_or(|(value, _)| plane[at] > value || plane[at].is_nan()) {
                    best = Some((plane[at], at));
                }
            });
            best.unwrap_or((f64::NEG_INFINITY, 0))
        }
        "AveragePool" => {
            let (mut sum, mut inside) = (0.0, 0);
            windows.each(place, |_, at| {
                if let Some(at) = at {
                    sum += plane[at];
                    inside += 1;
                }
            });
            let count = match call.int("count_include_pad", 0) != 0 {
                true => windows.counted(place),
                false => inside,
            };
            (sum / count as f64, 0)
        }
        _ => {
            let p = call.int("p", 2) as f64;
            let mut sum = 0.0;
            windows.each(place, |_, at| {
                if let Some(at) = at {
                    sum += plane[at].abs().powf(p);
                }
            });
            (sum.powf(1.0 / p), 0)
        }
    }
}

/// A place in column-major order.
fn transposed(index: usize, spatial: &[usize]) -> usize {
    let mut at = vec![0; spatial.len()];
    unravel(index, spatial, &mut at);
    let mut flat = 0;
    for axis in (0..spatial.len()).rev() {
        flat = flat * spatial[axis] + at[axis];
    }
    flat
}

/// Elements put where MaxPool took them from.
pub(super) fn unpool(call: &Call<'_>) -> Made {
    let (x, indices) = (call.floats(0)?, call.integers(1)?);
    let rank = x.ndim().saturating_sub(2);
    if x.shape() != indices.shape() || rank == 0 {
        return Err(format!(
            "its indices have shape {:?}, its input {:?}",
            indices.shape(),
            x.shape()
        ));
    }
    let kernel = call.sizes("kernel_shape", rank, 1)?;
    let strides = call.sizes("strides", rank, 1)?;
    let pads = call.sizes("pads", 2 * rank, 0)?;
    let mut inferred = x.shape()[..2].to_vec();
    for axis in 0..rank {
        let length = (x.shape()[axis + 2] * strides[axis] + kernel[axis])
            .checked_sub(strides[axis] + pads[axis] + pads[rank + axis]);
        inferred.push(length.ok_or("its pads are larger than its output")?);
    }
    let wanted = call.list(2)?.map(|list| {
        let sizes: Option<Vec<usize>> = list.iter().map(|&x| usize::try_from(x).ok()).collect();
        sizes.ok_or("its output_shape is negative")
    });
    let shape = wanted.transpose()?.unwrap_or_else(|| inferred.clone());
    if shape.len() != inferred.len() {
        return Err(format!(
            "its output_shape {shape:?} has not {} axes",
            inferred.len()
        ));
    }
    // Indices count in the inferred shape, which the stated one may be larger than.
    let mut y = ArrayD::zeros(IxDyn(&shape));
    let mut at = vec![0; shape.len()];
    for (&x, &index) in x.iter().zip(&indices) {
        let index = usize::try_from(index).map_err(|_| "an index is negative")?;
        unravel(index, &inferred, &mut at);
        let slot = y.get_mut(IxDyn(&at));
        *slot.ok_or("an index is outside its output")? = x;
    }
    Ok(vec![Datum::F32(y)])
}

/// Local response normalization over channels.
pub(super) fn lrn(call: &Call<'_>) -> Made {
    let x = call.floats(0)?;
    let size = usize::try_from(call.int("size", 1)).map_err(|_| "its size is negative")?;
    let (alpha, beta) = (call.float("alpha", 0.0001), call.float("beta", 0.75));
    let bias = f64::from(call.float("bias", 1.0));
    let &[n, c, ref rest @ ..] = x.shape() else {
        return Err(format!(
            "its input has shape {:?}, without channels",
            x.shape()
        ));
    };
    let rest: usize = rest.iter().product();
    let flat: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
    let (below, above) = (
        size.saturating_sub(1) / 2,
        size.saturating_sub(1).div_ceil(2),
    );
    let mut y = Vec::with_capacity(flat.len());
    for batch in 0..n {
        for channel in 0..c {
            for place in 0..rest {
                let at = |channel: usize| flat[(batch * c + channel) * rest + place];
                let last = (channel + above).min(c - 1);
                let squares: f64 = (channel.saturating_sub(below)..=last)
                    .map(|channel| at(channel) * at(channel))
                    .sum();
                let scale = bias + f64::from(alpha) / size as f64 * squares;
                y.push((at(channel) / scale.powf(f64::from(beta))) as f32);
            }
        }
    }
    Ok(vec![Datum::F32(tensor(x.shape(), y)?)])
}

//! Elements moved, chosen and padded; they stay what they are.

use ndarray::{ArrayD, ArrayViewD, Axis, IxDyn, Slice};

use super::{
    Made,
    call::{Call, moved, tensor},
};
use crate::tensor::Datum;

/// The slices along an axis whose condition is true.
pub(super) fn compress(call: &Call<'_>) -> Made {
    let x = call.needs(0)?;
    let condition = call.integers(1)?;
    let taken = |length: usize| -> Vec<usize> {
        let all = condition.iter().take(length).enumerate();
        all.filter(|(_, condition)| **condition != 0)
            .map(|(index, _)| index)
            .collect()
    };
    let Some(axis) = call.node.int("axis") else {
        let flat = moved!(x, x => {
            let all: Vec<_> = x.iter().copied().collect();
            let chosen = taken(all.len()).into_iter().map(|index| all[index]).collect::<Vec<_>>();
            tensor(&[chosen.len()], chosen)?
        });
        return Ok(vec![flat]);
    };
    let axis = call.axis(axis, x.shape().len())?;
    let indices = taken(x.shape()[axis]);
    Ok(vec![moved!(x, x => x.select(Axis(axis), &indices))])
}

/// Centred in a shape that is larger or smaller.
pub(super) fn center_crop_pad(call: &Call<'_>) -> Made {
    let x = call.needs(0)?;
    let wanted = call.list(1)?.unwrap_or_default();
    let rank = x.shape().len();
    let axes = match call.node.ints("axes") {
        Some(axes) => axes.to_vec(),
        None => (0..rank as i64).collect(),
    };
    if axes.len() != wanted.len() {
        return Err(format!(
            "its shape {wanted:?} is not as long as its axes {axes:?}"
        ));
    }
    let mut pads = vec![(0, 0); rank];
    for (&axis, &wanted) in axes.iter().zip(&wanted) {
        let axis = call.axis(axis, rank)?;
        let more = wanted - x.shape()[axis] as i64;
        // What is left of an odd number goes to the end.
        let before = if more < 0 { -(-more / 2) } else { more / 2 };
        pads[axis] = (before, more - before);
    }
    Ok(vec![
        moved!(x, x => padded(x.view(), &pads, Mode::Constant, Default::default())?),
    ])
}

/// Pad, negative pads included.
pub(super) fn pad(call: &Call<'_>) -> Made {
    let x = call.needs(0)?;
    let rank = x.shape().len();
    let given = call.list(1)?.unwrap_or_default();
    let axes = match call.list(3)? {
        Some(axes) => axes,
        None => (0..rank as i64).collect(),
    };
    if given.len() != 2 * axes.len() {
        return Err(format!(
            "its pads {given:?} are not two for each of {} axes",
            axes.len()
        ));
    }
    let mut pads = vec![(0, 0); rank];
    for (index, &axis) in axes.iter().enumerate() {
        pads[call.axis(axis, rank)?] = (given[index], given[axes.len() + index]);
    }
    let mode = match call.text("mode", "constant") {
        "constant" => Mode::Constant,
        "reflect" => Mode::Reflect,
        "edge" => Mode::Edge,
        "wrap" => Mode::Wrap,
        other => return Err(format!("its mode '{other}' is none that ONNX has")),
    };
    let value = call.given(2);
    let y = match x {
        Datum::F32(x) => {
            let value = value.and_then(|_| call.number(2).ok()?).unwrap_or(0.0);
            Datum::F32(padded(x.view(), &pads, mode, value as f32)?)
        }
        x => {
            let value = value.and_then(|_| call.number(2).ok()?).unwrap_or(0.0) as i64;
            match x {
                Datum::I32(x) => Datum::I32(padded(x.view(), &pads, mode, value as i32)?),
                Datum::I8(x) => Datum::I8(padded(x.view(), &pads, mode, value as i8)?),
                Datum::U8(x) => Datum::U8(padded(x.view(), &pads, mode, value as u8)?),
                Datum::F32(_) => x.clone(),
            }
        }
    };
    Ok(vec![y])
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Constant,
    Reflect,
    Edge,
    Wrap,
}

fn padded<T: Copy>(
    x: ArrayViewD<'_, T>,
    pads: &[(i64, i64)],
    mode: Mode,
    value: T,
) -> Result<ArrayD<T>, String> {
    // Negative pads crop first.
    let mut x = x;
    for (axis, &(before, after)) in pads.iter().enumerate() {
        let length = x.shape()[axis] as i64;
        let (from, to) = ((-before).max(0), length - (-after).max(0));
        if from > to {
            return Err(format!("its pads take more than axis {axis} has"));
        }
        x.slice_axis_inplace(Axis(axis), Slice::new(from as isize, Some(to as isize), 1));
    }
    let lengths: Vec<i64> = x.shape().iter().map(|&length| length as i64).collect();
    let shape: Vec<usize> = pads
        .iter()
        .zip(&lengths)
        .map(|(&(before, after), &length)| (length + before.max(0) + after.max(0)) as usize)
        .collect();
    let source = |axis: usize, place: usize| -> Option<usize> {
        let place = place as i64 - pads[axis].0.max(0);
        let length = lengths[axis];
        let within = match mode {
            _ if (0..length).contains(&place) => place,
            Mode::Constant => return None,
            Mode::Edge => place.clamp(0, length - 1),
            Mode::Wrap => place.rem_euclid(length),
            Mode::Reflect if length == 1 => 0,
            Mode::Reflect => {
                let period = 2 * (length - 1);
                let place = place.rem_euclid(period);
                if place < length {
                    place
                } else {
                    period - place
                }
            }
        };
        Some(within as usize)
    };
    if mode != Mode::Constant && lengths.contains(&0) && !shape.contains(&0) {
        return Err("it repeats elements of an empty tensor".to_owned());
    }
    let mut at = vec![0; shape.len()];
    Ok(ArrayD::from_shape_fn(IxDyn(&shape), |index| {
        for (axis, &place) in ndarray::Dimension::slice(&index).iter().enumerate() {
            match source(axis, place) {
                Some(place) => at[axis] = place,
                None => return value,
            }
        }
        x[IxDyn(&at)]
    }))
}

/// Blocks of pixels as channels.
pub(super) fn space_to_depth(call: &Call<'_>) -> Made {
    let x = call.needs(0)?;
    let block = usize::try_from(call.int("blocksize", 0)).unwrap_or(0);
    if block == 0 {
        return Err("its blocksize is not above 0".to_owned());
    }
    let &[n, c, h, w] = x.shape() else {
        return Err(format!(
            "its input has shape {:?}, not four dimensions",
            x.shape()
        ));
    };
    if h % block != 0 || w % block != 0 {
        return Err(format!("{h} x {w} pixels are not whole blocks of {block}"));
    }
    let order = match call.text("mode", "DCR") {
        "CRD" => [0, 1, 3, 5, 2, 4],
        _ => [0, 3, 5, 1, 2, 4],
    };
    let split = [n, c, h / block, block, w / block, block];
    let whole = [n, c * block * block, h / block, w / block];
    let y = moved!(x, x => {
        let x = x.to_owned().into_shape_with_order(IxDyn(&split)).map_err(|e| e.to_string())?;
        let x = x.permuted_axes(IxDyn(&order));
        let x = x.as_standard_layout().into_owned();
        x.into_shape_with_order(IxDyn(&whole)).map_err(|e| e.to_string())?
    });
    Ok(vec![y])
}

/// The elements or slices that differ, with where they first are, which each is and how many.
pub(super) fn unique(call: &Call<'_>) -> Made {
    let x = call.needs(0)?;
    let sorted = call.int("sorted", 1) != 0;
    let keys: ArrayD<f64> = match x {
        Datum::F32(x) => x.mapv(f64::from),
        _ => call.integers(0)?.mapv(|x| x as f64),
    };
    let axis = call.node.int("axis");
    let axis = axis.map(|axis| call.axis(axis, keys.ndim())).transpose()?;
    let rows: Vec<Vec<f64>> = match axis {
        Some(axis) => keys
            .axis_iter(Axis(axis))
            .map(|row| row.iter().copied().collect())
            .collect(),
        None => keys.iter().map(|&key| vec![key]).collect(),
    };
    let order = |a: &[f64], b: &[f64]| {
        // Both zeros are one value.
        let differ = a
            .iter()
            .zip(b)
            .map(|(a, b)| (a + 0.0).total_cmp(&(b + 0.0)));
        differ.fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then)
    };
    let mut by_value: Vec<usize> = (0..rows.len()).collect();
    by_value.sort_by(|&a, &b| order(&rows[a], &rows[b]).then(a.cmp(&b)));
    // Each group of equals by where it first is.
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for row in by_value {
        match groups.last_mut() {
            Some(group) if order(&rows[group[0]], &rows[row]).is_eq() => group.push(row),
            _ => groups.push(vec![row]),
        }
    }
    if !sorted {
        groups.sort_by_key(|group| group[0]);
    }
    let first: Vec<usize> = groups.iter().map(|group| group[0]).collect();
    let mut inverse = vec![0_i32; rows.len()];
    for (number, group) in groups.iter().enumerate() {
        group.iter().for_each(|&row| inverse[row] = number as i32);
    }
    let chosen = moved!(x, x => match axis {
        Some(axis) => x.select(Axis(axis), &first),
        None => {
            let all: Vec<_> = x.iter().copied().collect();
            tensor(&[first.len()], first.iter().map(|&index| all[index]).collect())?
        }
    });
    let vector = |values: Vec<i32>| Ok::<_, String>(Datum::I32(tensor(&[values.len()], values)?));
    Ok(vec![
        chosen,
        vector(first.iter().map(|&index| index as i32).collect())?,
        vector(inverse)?,
        vector(groups.iter().map(|group| group.len() as i32).collect())?,
    ])
}

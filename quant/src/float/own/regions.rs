//! RoiAlign and DeformConv: elements read between the four around a point of an image.

use super::{
    Made,
    call::{Call, tensor},
    windows::unravel,
};
use crate::tensor::{Datum, Tensor};

/// The four elements around a point of a plane, zero outside it.
fn around(y: f64, x: f64, (height, width): (usize, usize)) -> Vec<(usize, f64)> {
    let (top, left) = (y.floor(), x.floor());
    let corners = [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0)];
    let one = |(down, right): (f64, f64)| {
        let (row, column) = (top + down, left + right);
        let weight = (1.0 - (y - row).abs()) * (1.0 - (x - column).abs());
        let inside = (0.0..height as f64).contains(&row) && (0.0..width as f64).contains(&column);
        inside.then_some((row as usize * width + column as usize, weight))
    };
    corners.into_iter().filter_map(one).collect()
}

/// RoiAlign-22.
pub(super) fn roi_align(call: &Call<'_>) -> Made {
    let (x, rois, batches) = (call.floats(0)?, call.floats(1)?, call.integers(2)?);
    let &[n, c, h, w] = x.shape() else {
        return Err(format!(
            "its input has shape {:?}, not four dimensions",
            x.shape()
        ));
    };
    let (&[regions, 4], true) = (rois.shape(), h > 0 && w > 0) else {
        return Err(format!(
            "its regions have shape {:?}, not four corners each",
            rois.shape()
        ));
    };
    let size = |name: &str| {
        usize::try_from(call.int(name, 1)).map_err(|_| format!("its {name} is negative"))
    };
    let (rows, columns) = (size("output_height")?, size("output_width")?);
    let ratio = size("sampling_ratio").unwrap_or(0);
    let ratio = if call.node.int("sampling_ratio").is_none() {
        0
    } else {
        ratio
    };
    let scale = f64::from(call.float("spatial_scale", 1.0));
    let half = call.text("coordinate_transformation_mode", "half_pixel") == "half_pixel";
    let shift = if half { 0.5 } else { 0.0 };
    let maximum = call.text("mode", "avg") == "max";
    let x: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
    let mut y = Vec::with_capacity(regions * c * rows * columns);
    for (roi, &batch) in rois.rows_of_four().zip(&batches) {
        let batch = usize::try_from(batch).ok().filter(|&batch| batch < n);
        let batch = batch.ok_or("a region's batch index is outside its input")?;
        let [x1, y1, x2, y2] = roi.map(|edge| f64::from(edge) * scale - shift);
        let least = if half { f64::MIN } else { 1.0 };
        let (width, height) = ((x2 - x1).max(least), (y2 - y1).max(least));
        let (bin_h, bin_w) = (height / rows as f64, width / columns as f64);
        let samples = |bin: f64| {
            if ratio > 0 {
                ratio
            } else {
                bin.ceil().max(0.0) as usize
            }
        };
        let (grid_h, grid_w) = (samples(bin_h), samples(bin_w));
        for channel in 0..c {
            let plane = &x[(batch * c + channel) * h * w..][..h * w];
            for bin in 0..rows * columns {
                let (row, column) = ((bin / columns) as f64, (bin % columns) as f64);
                let (mut sum, mut best) = (0.0, None::<f64>);
                for sample in 0..grid_h * grid_w {
                    let along = |index: usize, count: usize| (index as f64 + 0.5) / count as f64;
                    let py = y1 + (row + along(sample / grid_w, grid_h)) * bin_h;
                    let px = x1 + (column + along(sample % grid_w, grid_w)) * bin_w;
                    if py < -1.0 || py > h as f64 || px < -1.0 || px > w as f64 {
                        best = Some(best.map_or(0.0, |best| best.max(0.0)));
                        continue;
                    }
                    let (py, px) = (py.clamp(0.0, h as f64 - 1.0), px.clamp(0.0, w as f64 - 1.0));
                    for (at, weight) in around(py, px, (h, w)) {
                        let value = plane[at] * weight;
                        sum += value;
                        best = Some(best.map_or(value, |best| best.max(value)));
                    }
                }
                y.push(match maximum {
                    true => best.unwrap_or(0.0),
                    false => sum / (grid_h * grid_w).max(1) as f64,
                } as f32);
            }
        }
    }
    Ok(vec![Datum::F32(tensor(&[regions, c, rows, columns], y)?)])
}

trait RowsOfFour {
    fn rows_of_four(&self) -> impl Iterator<Item = [f32; 4]>;
}

impl RowsOfFour for Tensor {
    fn rows_of_four(&self) -> impl Iterator<Item = [f32; 4]> {
        self.rows()
            .into_iter()
            .map(|row| [row[0], row[1], row[2], row[3]])
    }
}

/// DeformConv-22 of images.
pub(super) fn deform_conv(call: &Call<'_>) -> Made {
    let (x, weight, offset) = (call.floats(0)?, call.floats(1)?, call.floats(2)?);
    let (bias, mask) = (call.optional_floats(3)?, call.optional_floats(4)?);
    let misfit = || {
        format!(
            "inputs of shapes {:?}, {:?} and {:?} do not fit one another",
            x.shape(),
            weight.shape(),
            offset.shape()
        )
    };
    let (&[n, c, h, w], &[o, per_group, kh, kw], &[n2, _, rows, columns]) =
        (x.shape(), weight.shape(), offset.shape())
    else {
        return Err(misfit());
    };
    let size = |name: &str| usize::try_from(call.int(name, 1)).map_err(|_| misfit());
    let (groups, shifts) = (size("group")?, size("offset_group")?);
    let volume = kh * kw;
    let fits = groups > 0
        && shifts > 0
        && c == per_group * groups
        && c % shifts == 0
        && o % groups == 0
        && n == n2
        && offset.len() == n * shifts * volume * 2 * rows * columns
        && mask.is_none_or(|mask| mask.len() == n * shifts * volume * rows * columns);
    if !fits {
        return Err(misfit());
    }
    let strides = call.sizes("strides", 2, 1)?;
    let dilations = call.sizes("dilations", 2, 1)?;
    let pads = call.sizes("pads", 4, 0)?;
    let flat = |x: &Tensor| -> Vec<f64> { x.iter().map(|&x| f64::from(x)).collect() };
    let (x, weight, offset, mask) = (flat(x), flat(weight), flat(offset), mask.map(flat));
    let bias = bias.map(flat);
    let count = rows * columns;
    let mut y = vec![0.0_f64; n * o * count];
    let mut at = [0; 2];
    for batch in 0..n {
        for place in 0..count {
            unravel(place, &[rows, columns], &mut at);
            for tap in 0..volume {
                for shift in 0..shifts {
                    let block = (batch * shifts + shift) * volume + tap;
                    let start = |axis: usize, of_kernel: usize| {
                        (at[axis] * strides[axis] + of_kernel * dilations[axis]) as f64
                            - pads[axis] as f64
                    };
                    let py = start(0, tap / kw) + offset[block * 2 * count + place];
                    let px = start(1, tap % kw) + offset[(block * 2 + 1) * count + place];
                    let factor = mask
                        .as_ref()
                        .map_or(1.0, |mask| mask[block * count + place]);
                    let taps = around(py, px, (h, w));
                    for input in shift * (c / shifts)..(shift + 1) * (c / shifts) {
                        let plane = &x[(batch * c + input) * h * w..][..h * w];
                        let value: f64 = taps.iter().map(|&(at, w)| plane[at] * w).sum();
                        let group = input / per_group;
                        for channel in group * (o / groups)..(group + 1) * (o / groups) {
                            let row = channel * per_group + input % per_group;
                            y[(batch * o + channel) * count + place] +=
                                value * factor * weight[row * volume + tap];
                        }
                    }
                }
            }
        }
    }
    if let Some(bias) = bias {
        for (index, y) in y.iter_mut().enumerate() {
            *y += bias
                .get(index / count % o)
                .copied()
                .ok_or("its bias is too short")?;
        }
    }
    let elements = y.into_iter().map(|y| y as f32).collect();
    Ok(vec![Datum::F32(tensor(&[n, o, rows, columns], elements)?)])
}

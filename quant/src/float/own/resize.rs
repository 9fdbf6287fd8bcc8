//! Resize with every mode and attribute that ONNX has (Resize-19): each axis after the other, an
//! output element as a weighted sum of input elements.

use ndarray::{ArrayD, Axis, IxDyn};

use super::{Made, call::Call};
use crate::{canonical::two_ways_to_align, tensor::Datum};

pub(super) fn resize(call: &Call<'_>) -> Made {
    let datum = call.needs(0)?;
    let x = match datum {
        Datum::F32(x) => x.mapv(f64::from),
        _ if call.text("mode", "nearest") == "nearest" => call.integers(0)?.mapv(|x| x as f64),
        _ => return Err("it interpolates integers; give it floats".to_owned()),
    };
    let plan = Plan::of(call, x.shape())?;
    let mut y = x;
    let mut outside: Vec<Vec<bool>> = Vec::new();
    for axis in 0..y.ndim() {
        let (taps, out) = plan.taps(axis)?;
        outside.push(out);
        if let Some(taps) = taps {
            y = weighted(&y, axis, &taps)?;
        }
    }
    if outside.iter().flatten().any(|&out| out) {
        let value = f64::from(call.float("extrapolation_value", 0.0));
        for (index, y) in y.indexed_iter_mut() {
            let at = ndarray::Dimension::slice(&index);
            if at.iter().zip(&outside).any(|(&at, out)| out[at]) {
                *y = value;
            }
        }
    }
    Ok(vec![match datum {
        Datum::F32(_) => Datum::F32(y.mapv(|y| y as f32)),
        Datum::I32(_) => Datum::I32(y.mapv(|y| y as i32)),
        Datum::I8(_) => Datum::I8(y.mapv(|y| y as i8)),
        Datum::U8(_) => Datum::U8(y.mapv(|y| y as u8)),
    }])
}

/// The elements and weights of an output element.
type Taps = Vec<(usize, f64)>;

fn weighted(x: &ArrayD<f64>, axis: usize, taps: &[Taps]) -> Result<ArrayD<f64>, String> {
    let mut shape = x.shape().to_vec();
    shape[axis] = taps.len();
    let mut y = ArrayD::zeros(IxDyn(&shape));
    for (mut slice, taps) in y.axis_iter_mut(Axis(axis)).zip(taps) {
        for &(index, weight) in taps {
            if weight != 0.0 {
                slice.scaled_add(weight, &x.index_axis(Axis(axis), index));
            }
        }
    }
    Ok(y)
}

struct Plan<'c> {
    mode: &'c str,
    coordinates: &'c str,
    nearest: &'c str,
    cubic: f64,
    antialias: bool,
    exclude_outside: bool,
    input: Vec<usize>,
    output: Vec<usize>,
    scales: Vec<f32>,
    /// Start and end of the region of each axis.
    region: Vec<(f32, f32)>,
}

impl<'c> Plan<'c> {
    fn of(call: &Call<'c>, input: &[usize]) -> Result<Plan<'c>, String> {
        let rank = input.len();
        let axes = match call.node.ints("axes") {
            Some(axes) => axes
                .iter()
                .map(|&axis| call.axis(axis, rank))
                .collect::<Result<Vec<_>, _>>()?,
            None => (0..rank).collect(),
        };
        let mut scales = vec![1.0; rank];
        let mut output = input.to_vec();
        let length = |given: usize| match given == axes.len() {
            true => Ok(()),
            false => Err(format!(
                "it has {given} scales or sizes for {} axes",
                axes.len()
            )),
        };
        let sizes = call.list(3)?.filter(|sizes| !sizes.is_empty());
        if let Some(sizes) = sizes {
            length(sizes.len())?;
            let ratio = |index: usize| sizes[index] as f32 / input[axes[index]] as f32;
            let ratios = (0..axes.len()).map(ratio);
            let kept = match call.text("keep_aspect_ratio_policy", "stretch") {
                "not_larger" => Some(ratios.fold(f32::INFINITY, f32::min)),
                "not_smaller" => Some(ratios.fold(0.0, f32::max)),
                _ => None,
            };
            for (index, &axis) in axes.iter().enumerate() {
                let size = usize::try_from(sizes[index]).map_err(|_| "a size is negative")?;
                scales[axis] = kept.unwrap_or(ratio(index));
                output[axis] = match kept {
                    Some(scale) => (scale * input[axis] as f32 + 0.5).floor() as usize,
                    None => size,
                };
            }
        } else {
            let given = call.floats(2)?;
            length(given.len())?;
            for (&axis, &scale) in axes.iter().zip(given) {
                if !(scale > 0.0 && scale.is_finite()) {
                    return Err(format!("its scale {scale} is not above 0"));
                }
                scales[axis] = scale;
                output[axis] = (input[axis] as f32 * scale).floor() as usize;
            }
        }
        let mut region = vec![(0.0, 1.0); rank];
        if call.text("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize" {
            let roi = call.floats(1)?;
            if roi.len() != 2 * axes.len() {
                return Err(format!(
                    "its roi has {} elements, not two an axis",
                    roi.len()
                ));
            }
            let roi: Vec<f32> = roi.iter().copied().collect();
            for (index, &axis) in axes.iter().enumerate() {
                region[axis] = (roi[index], roi[axes.len() + index]);
            }
        }
        Ok(Plan {
            mode: call.text("mode", "nearest"),
            coordinates: call.text("coordinate_transformation_mode", "half_pixel"),
            nearest: call.text("nearest_mode", "round_prefer_floor"),
            cubic: call.float("cubic_coeff_a", -0.75).into(),
            antialias: call.int("antialias", 0) != 0,
            exclude_outside: call.int("exclude_outside", 0) != 0,
            input: input.to_vec(),
            output,
            scales,
            region,
        })
    }

    /// The taps of an axis, None where it stays; and which of its elements lie outside the region.
    fn taps(&self, axis: usize) -> Result<(Option<Vec<Taps>>, Vec<bool>), String> {
        let (length, count) = (self.input[axis], self.output[axis]);
        let crop = self.coordinates == "tf_crop_and_resize";
        let inside = vec![false; count];
        let same = length == count && self.scales[axis] == 1.0;
        if (same && !(crop && self.region[axis] != (0.0, 1.0))) || count == 0 {
            return Ok((if same { None } else { Some(Vec::new()) }, inside));
        }
        if length == 0 {
            return Err(format!("its axis {axis} is empty"));
        }
        let last = length as f64 - 1.0;
        let mut outside = inside;
        let mut all = Vec::with_capacity(count);
        for (place, outside) in outside.iter_mut().enumerate() {
            let x = f64::from(self.source(axis, place as f32)?);
            *outside = crop && !(0.0..=last).contains(&x);
            all.push(self.at(axis, x)?);
        }
        Ok((Some(all), outside))
    }

    /// Where an output element lies in the input; in f32, since ties are to fall as elsewhere.
    fn source(&self, axis: usize, place: f32) -> Result<f32, String> {
        let scale = self.scales[axis];
        let (length, count) = (self.input[axis] as f32, self.output[axis] as f32);
        let exact = length * scale;
        if self.coordinates == "align_corners" && count > 1.0 && exact.fract() != 0.0 {
            return Err(two_ways_to_align(exact));
        }
        Ok(match self.coordinates {
            "half_pixel" => (place + 0.5) / scale - 0.5,
            "pytorch_half_pixel" if count > 1.0 => (place + 0.5) / scale - 0.5,
            "pytorch_half_pixel" => 0.0,
            "half_pixel_symmetric" => {
                let adjustment = count / (scale * length);
                let offset = length / 2.0 * (1.0 - adjustment);
                offset + (place + 0.5) / scale - 0.5
            }
            "align_corners" if count > 1.0 => place * (length - 1.0) / (count - 1.0),
            "align_corners" => 0.0,
            "asymmetric" => place / scale,
            "tf_crop_and_resize" => {
                let (start, end) = self.region[axis];
                match count > 1.0 {
                    true => {
                        start * (length - 1.0)
                            + place * (end - start) * (length - 1.0) / (count - 1.0)
                    }
                    false => 0.5 * (start + end) * (length - 1.0),
                }
            }
            other => {
                return Err(format!(
                    "its coordinate_transformation_mode '{other}' is none that ONNX has"
                ));
            }
        })
    }

    fn at(&self, axis: usize, x: f64) -> Result<Taps, String> {
        let last = self.input[axis] as i64 - 1;
        if self.mode == "nearest" {
            let index = match self.nearest {
                "floor" => x.floor(),
                "ceil" => x.ceil(),
                "round_prefer_floor" => (x - 0.5).ceil(),
                "round_prefer_ceil" => (x + 0.5).floor(),
                other => return Err(format!("its nearest_mode '{other}' is none that ONNX has")),
            };
            return Ok(vec![((index as i64).clamp(0, last) as usize, 1.0)]);
        }
        let support = match self.mode {
            "linear" => 1.0,
            "cubic" => 2.0,
            other => return Err(format!("its mode '{other}' is none that ONNX has")),
        };
        let narrowing = match self.antialias {
            true => f64::from(self.scales[axis].min(1.0)),
            false => 1.0,
        };
        let first = (x - support / narrowing).floor() as i64;
        let end = (x + support / narrowing).ceil() as i64;
        let weights =
            (first..=end).map(|index| (index, self.weight((index as f64 - x) * narrowing)));
        let kept = |index: i64| !self.exclude_outside || (0..=last).contains(&index);
        let mut taps: Taps = weights
            .filter(|&(index, weight)| weight != 0.0 && kept(index))
            .map(|(index, weight)| (index.clamp(0, last) as usize, weight))
            .collect();
        let sum: f64 = taps.iter().map(|(_, weight)| weight).sum();
        if (self.antialias || self.exclude_outside) && sum != 0.0 {
            taps.iter_mut().for_each(|(_, weight)| *weight /= sum);
        }
        Ok(taps)
    }

    /// Weight of an element at a distance.
    fn weight(&self, distance: f64) -> f64 {
        let d = distance.abs();
        let a = self.cubic;
        match self.mode {
            "linear" => (1.0 - d).max(0.0),
            _ if d <= 1.0 => ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0,
            _ if d < 2.0 => ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a,
            _ => 0.0,
        }
    }
}

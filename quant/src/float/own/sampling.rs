//! GridSample: elements read between others, at points that are given.

use super::{
    Made,
    call::{Call, tensor},
};
use crate::tensor::Datum;

/// GridSample in any number of spatial axes (GridSample-22).
pub(super) fn grid_sample(call: &Call<'_>) -> Made {
    let (x, grid) = (call.floats(0)?, call.floats(1)?);
    let misfit = || {
        format!(
            "a grid of shape {:?} does not fit an input of {:?}",
            grid.shape(),
            x.shape()
        )
    };
    let (&[n, c, ref spatial @ ..], &[n2, ref out @ .., r]) = (x.shape(), grid.shape()) else {
        return Err(misfit());
    };
    if n != n2 || r != spatial.len() || out.len() != r || spatial.contains(&0) {
        return Err(misfit());
    }
    let sampler = Sampler {
        mode: call.text("mode", "linear"),
        padding: call.text("padding_mode", "zeros"),
        corners: call.int("align_corners", 0) != 0,
    };
    let size: usize = spatial.iter().product();
    let count: usize = out.iter().product();
    let x: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
    let grid: Vec<f64> = grid.iter().map(|&x| f64::from(x)).collect();
    let mut y = vec![0.0_f32; n * c * count];
    for batch in 0..n {
        for place in 0..count {
            let first = (batch * count + place) * r;
            let taps = sampler.taps(&grid[first..first + r], spatial)?;
            for channel in 0..c {
                let plane = &x[(batch * c + channel) * size..][..size];
                let sum: f64 = taps.iter().map(|&(at, weight)| plane[at] * weight).sum();
                y[(batch * c + channel) * count + place] = sum as f32;
            }
        }
    }
    let shape = [&[n, c], out].concat();
    Ok(vec![Datum::F32(tensor(&shape, y)?)])
}

struct Sampler<'c> {
    mode: &'c str,
    padding: &'c str,
    corners: bool,
}

impl Sampler<'_> {
    /// Which elements a point takes, in row-major order, and their weights.
    fn taps(&self, point: &[f64], spatial: &[usize]) -> Result<Vec<(usize, f64)>, String> {
        let mut taps = vec![(0, 1.0)];
        for (axis, &length) in spatial.iter().enumerate() {
            // The last axis comes first in a point.
            let along = self.along(point[spatial.len() - 1 - axis], length)?;
            taps = taps
                .iter()
                .flat_map(|&(flat, weight)| {
                    along
                        .iter()
                        .map(move |&(at, factor)| (flat * length + at, weight * factor))
                })
                .collect();
        }
        Ok(taps)
    }

    fn along(&self, x: f64, length: usize) -> Result<Vec<(usize, f64)>, String> {
        let whole = length as f64;
        let (low, high) = match self.corners {
            true => (0.0, whole - 1.0),
            false => (-0.5, whole - 0.5),
        };
        let mut x = match self.corners {
            true => (x + 1.0) / 2.0 * (whole - 1.0),
            false => ((x + 1.0) * whole - 1.0) / 2.0,
        };
        let nearest = self.mode == "nearest";
        if nearest {
            x = x.round_ties_even();
        }
        // Cubic weights are those of the point itself; its neighbours are brought inside each alone.
        if (x < low || x > high) && !self.mode.ends_with("cubic") {
            x = match self.padding {
                "border" => x.clamp(0.0, whole - 1.0),
                "reflection" => reflected(x, low, high),
                _ => x,
            };
        }
        let base = x.floor();
        let taps: Vec<(f64, f64)> = match self.mode {
            "nearest" => vec![(x.round_ties_even(), 1.0)],
            "linear" | "bilinear" => vec![(base, 1.0 - (x - base)), (base + 1.0, x - base)],
            "cubic" | "bicubic" => (-1..=2)
                .map(|offset| {
                    let at = base + f64::from(offset);
                    (at, cubic(at - x))
                })
                .collect(),
            other => return Err(format!("its mode '{other}' is none that ONNX has")),
        };
        let inside = |(at, weight): (f64, f64)| {
            let at = match self.padding {
                "border" => at.clamp(0.0, whole - 1.0),
                "reflection" => reflected(at, low, high),
                _ => at,
            };
            ((0.0..whole).contains(&at) && at >= 0.0).then_some((at as usize, weight))
        };
        Ok(taps.into_iter().filter_map(inside).collect())
    }
}

fn reflected(x: f64, low: f64, high: f64) -> f64 {
    let range = high - low;
    if range <= 0.0 {
        return low.max(0.0);
    }
    let (distance, below) = match (x < low, x > high) {
        (true, _) => (low - x, true),
        (_, true) => (x - high, false),
        _ => return x,
    };
    let turns = (distance / range).floor();
    let rest = distance - turns * range;
    if (turns as i64 % 2 == 0) == below {
        low + rest
    } else {
        high - rest
    }
}

fn cubic(distance: f64) -> f64 {
    const A: f64 = -0.75;
    let d = distance.abs();
    match d {
        _ if d <= 1.0 => ((A + 2.0) * d - (A + 3.0)) * d * d + 1.0,
        _ if d < 2.0 => ((A * d - 5.0 * A) * d + 8.0 * A) * d - 4.0 * A,
        _ => 0.0,
    }
}

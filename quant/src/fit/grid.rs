//! Weights on an integer grid: a scale for each output channel.

use dual16_nash::{
    dtype::IntDtype,
    scale::{ScaleRule, scale_from_range},
};
use ndarray::{Array2, ArrayView1};
use serde::{Deserialize, Serialize};

use super::stored::Stored;

/// An integer weight, `[O, K]`, and the scale of each of its rows: `w = q · scale`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Quantized {
    /// The integers, within `dtype`.
    pub q: Array2<i16>,
    /// One for each row, finite and > 0.
    pub scales: Vec<f32>,
    /// int8 or int16.
    pub dtype: IntDtype,
}

impl Quantized {
    /// Every weight rounded to the nearest, half to even.
    pub fn nearest(weight: &Array2<f64>, scales: Vec<f32>, dtype: IntDtype) -> Self {
        let mut q = Array2::zeros(weight.dim());
        for ((mut q, w), &scale) in q.rows_mut().into_iter().zip(weight.rows()).zip(&scales) {
            q.iter_mut()
                .zip(w)
                .for_each(|(q, &w)| *q = nearest(w, scale, dtype));
        }
        Self { q, scales, dtype }
    }

    /// The floats it stands for.
    pub fn to_float(&self) -> Array2<f64> {
        let mut weight = self.q.mapv(f64::from);
        for (mut row, &scale) in weight.rows_mut().into_iter().zip(&self.scales) {
            row *= f64::from(scale);
        }
        weight
    }

    /// Bytes of the integers.
    pub fn bytes(&self) -> u64 {
        (self.q.len() * self.dtype.bytes()) as u64
    }
}

/// The integer nearest to `w / scale`, half to even, saturated; an f32 division, as weights are quantized
/// everywhere, for the largest weight of a row lies on the border between two integers.
pub(super) fn nearest(w: f64, scale: f32, dtype: IntDtype) -> i16 {
    let q = (w as f32 / scale).round_ties_even();
    q.clamp(dtype.qmin() as f32, dtype.qmax() as f32) as i16
}

/// The scale of each row by its exact range, as every weight has it.
pub(super) fn row_scales(
    weight: &Array2<f64>,
    dtype: IntDtype,
    rule: ScaleRule,
    power_of_two: bool,
) -> Vec<f32> {
    let scale = |row: ArrayView1<'_, f64>| row_scale(row, dtype, rule, power_of_two);
    weight.rows().into_iter().map(scale).collect()
}

fn row_scale(
    row: ArrayView1<'_, f64>,
    dtype: IntDtype,
    rule: ScaleRule,
    power_of_two: bool,
) -> f32 {
    let finite = || row.iter().map(|&w| w as f32).filter(|w| w.is_finite());
    let (min, max) = finite().fold((0f32, 0f32), |(min, max), w| (min.min(w), max.max(w)));
    match scale_from_range(min, max, dtype, rule, power_of_two) {
        Ok(scale) => scale.get(),
        // A range of finite numbers around 0 has a scale; this is the scale of a row of zeros.
        Err(_) => f32::EPSILON,
    }
}

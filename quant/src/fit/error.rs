//! What a replacement of a Linear does to its outputs.

use dual16_nash::{
    dtype::IntDtype,
    quantize::{Rounding, fake_quantize_in_place},
    scale::{Scale, ScaleRule, scale_from_range},
};
use ndarray::{Array1, Array2, ArrayView2, Axis};

use super::{Fitted, Layer, Moments};

/// How a Linear's input is quantized: one scale, from the largest |x| of each column.
#[derive(Debug, Clone, PartialEq)]
pub struct InputGrid {
    /// Largest |x| of each column, `[K]`, in all of calibration, which is what a plan has its scales of.
    pub amax: Vec<f32>,
    /// Of the input.
    pub dtype: IntDtype,
    /// From a range to a scale.
    pub scale_rule: ScaleRule,
    /// Scales are powers of two.
    pub power_of_two: bool,
    /// Scale of the plain way's input, where it is not the range's own.
    pub scale: Option<f32>,
}

impl InputGrid {
    /// The usual rule.
    pub fn new(dtype: IntDtype, amax: &[f32]) -> Self {
        Self {
            amax: amax.to_vec(),
            dtype,
            scale_rule: ScaleRule::default(),
            power_of_two: false,
            scale: None,
        }
    }

    /// Scale of the input as a replacement takes it: the plain one times its share, or, where the columns
    /// are equalized, that of the largest of what is left of them.
    pub fn scale(&self, fitted: &Fitted) -> Option<Scale> {
        if let (Some(scale), None) = (self.scale, &fitted.columns) {
            return Scale::new(scale * fitted.input_range).ok();
        }
        let factors = fitted.columns.iter().flatten().copied();
        let amax = self.amax.iter().zip(factors.chain(std::iter::repeat(1.0)));
        let amax = amax.map(|(&amax, factor)| (f64::from(amax) / factor) as f32);
        let largest = amax.fold(0f32, f32::max) * fitted.input_range;
        scale_from_range(
            -largest,
            largest,
            self.dtype,
            self.scale_rule,
            self.power_of_two,
        )
        .ok()
    }

    /// Inputs as the replacement takes them, fake-quantized, `[N, K]`.
    fn taken(&self, fitted: &Fitted, rows: ArrayView2<'_, f32>) -> Option<Array2<f32>> {
        let scale = self.scale(fitted)?;
        let mut x = rows.as_standard_layout().into_owned();
        if let Some(columns) = &fitted.columns {
            for (mut column, factor) in x.columns_mut().into_iter().zip(columns) {
                column.mapv_inplace(|x| (f64::from(x) / factor) as f32);
            }
        }
        fake_quantize_in_place(x.as_slice_mut()?, scale, self.dtype, Rounding::default());
        Some(x)
    }
}

/// SQNR in dB of the layer's output over `rows` `[N, K]` when `fitted` stands in its place: its input
/// fake-quantized, its weights as they are on the grid, its output not quantized. Infinite for no error at
/// all; `None` where rows and layer do not fit, or rows are not finite.
pub fn held_out_sqnr(
    layer: &Layer<'_>,
    fitted: &Fitted,
    input: &InputGrid,
    rows: ArrayView2<'_, f32>,
) -> Option<f64> {
    let (o, k) = layer.weight.dim();
    let columns = fitted.columns.as_ref().map_or(k, Vec::len);
    let fits = rows.ncols() == k && input.amax.len() == k && fitted.weight.q.dim() == (o, k);
    if !fits || fitted.bias.len() != o || columns != k {
        return None;
    }
    let mut weight = fitted.weight.to_float();
    if let Some(low_rank) = &fitted.low_rank {
        weight += &low_rank.product();
    }
    let original = layer.weight.mapv(f64::from);
    let bias = Array1::from(layer.bias());
    let own_bias = Array1::from_iter(fitted.bias.iter().map(|&b| f64::from(b)));
    let (mut signal, mut noise) = (0.0, 0.0);
    for chunk in rows.axis_chunks_iter(Axis(0), 1024) {
        let taken = input.taken(fitted, chunk)?;
        let reference = chunk.mapv(f64::from).dot(&original.t()) + &bias;
        let output = taken.mapv(f64::from).dot(&weight.t()) + &own_bias;
        signal += reference.iter().map(|y| y * y).sum::<f64>();
        noise += output
            .iter()
            .zip(&reference)
            .map(|(y, r)| (y - r) * (y - r))
            .sum::<f64>();
    }
    decibels(signal, noise)
}

/// The same from the moments of rows alone, the rounding of the input left out: enough where the input
/// is int16, whose rounding is far below that of an int8 weight, and only where nothing is clipped.
pub fn moment_sqnr(layer: &Layer<'_>, fitted: &Fitted, rows: &Moments) -> Option<f64> {
    let effective = fitted.effective_weight();
    let original = layer.weight.mapv(f64::from);
    if effective.dim() != original.dim() || rows.columns() != original.ncols() {
        return None;
    }
    let bias = layer.bias();
    let shift: Vec<f64> = fitted
        .bias
        .iter()
        .zip(&bias)
        .map(|(own, b)| f64::from(*own) - b)
        .collect();
    let signal = energy(&original, &bias, rows);
    let noise = energy(&(effective - original), &shift, rows);
    decibels(signal, noise.max(0.0))
}

/// Σ over rows of |A x + b|².
fn energy(a: &Array2<f64>, b: &[f64], rows: &Moments) -> f64 {
    let (mean, count) = (Array1::from(rows.mean()), rows.rows() as f64);
    let quadratic = a.dot(&rows.second());
    let of_row = |(index, row): (usize, ndarray::ArrayView1<'_, f64>)| {
        let b = b.get(index).copied().unwrap_or(0.0);
        row.dot(&quadratic.row(index)) + 2.0 * b * count * row.dot(&mean) + count * b * b
    };
    a.rows().into_iter().enumerate().map(of_row).sum()
}

fn decibels(signal: f64, noise: f64) -> Option<f64> {
    match (signal.is_finite() && noise.is_finite(), noise > 0.0) {
        (false, _) => None,
        (true, false) => Some(f64::INFINITY),
        (true, true) => Some(10.0 * libm::log10(signal / noise)),
    }
}

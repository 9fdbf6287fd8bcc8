//! The scale of each output channel by the error at the output, not by the range alone.

use dual16_nash::dtype::IntDtype;
use ndarray::{Array2, ArrayView1};

use super::grid::nearest;

/// Candidates: the range's own scale and these many below it.
const CANDIDATES: usize = 20;
/// From one to the next, relative to the first.
const STEP: f64 = 0.02;

/// For each row of `weight` `[O, K]` the scale, among `scales[o] · (1 - 0.02 i)` with i in 0..20, whose
/// rounding to the nearest has the smallest `d scatter dᵀ`; of equals the largest scale.
pub fn scales_by_error(
    weight: &Array2<f64>,
    scales: &[f32],
    dtype: IntDtype,
    scatter: &Array2<f64>,
) -> Vec<f32> {
    let rows = weight.rows().into_iter().zip(scales);
    rows.map(|(row, &scale)| best(row, scale, dtype, scatter))
        .collect()
}

fn best(row: ArrayView1<'_, f64>, scale: f32, dtype: IntDtype, scatter: &Array2<f64>) -> f32 {
    let mut best = (f64::INFINITY, scale);
    for candidate in 0..CANDIDATES {
        let scale = (f64::from(scale) * (1.0 - STEP * candidate as f64)) as f32;
        let error = row.mapv(|w| f64::from(nearest(w, scale, dtype)) * f64::from(scale) - w);
        let loss = error.dot(&scatter.dot(&error));
        if loss < best.0 {
            best = (loss, scale);
        }
    }
    best.1
}

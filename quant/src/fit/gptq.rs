//! GPTQ (arXiv 2210.17323): weights are rounded column by column, and each column takes over what the
//! rounding of those before it did to the output.

use dual16_nash::dtype::IntDtype;
use ndarray::{Array1, Array2, ArrayView1, Axis, Zip};

use super::{
    grid::{Quantized, nearest},
    linalg::damped_cholesky,
};

/// Integers near `weight` `[O, K]` that keep `tr(D scatter Dᵀ)` of their error D small, at given scales.
///
/// Columns are rounded in the order of decreasing diagonal. With `P scatter Pᵀ = L Lᵀ`, P having the
/// columns in the opposite order, the error of a row is `Σ_i (Σ_{j ≥ i} d_j L_ji)²`; from the last
/// column to the first each `d_i` is chosen so that its term is as small as the grid allows. That is
/// GPTQ without the inverse of the matrix (Babai's nearest plane, arXiv 2507.18553).
///
/// A row for which rounding to the nearest is better, by `scatter` itself, is rounded so: no row is
/// worse than the plain one on the inputs that it is fitted to.
///
/// `damp` is what is added to the diagonal, relative to its mean; 0.01 as in the paper. Where the
/// matrix cannot be decomposed, every weight is rounded to the nearest.
pub fn gptq(
    weight: &Array2<f64>,
    scales: Vec<f32>,
    dtype: IntDtype,
    scatter: &Array2<f64>,
    damp: f64,
) -> Quantized {
    let k = weight.ncols();
    let mut order: Vec<usize> = (0..k).collect();
    // Ascending, for the last is the first to be rounded.
    order.sort_by(|&a, &b| scatter[[a, a]].total_cmp(&scatter[[b, b]]));
    let permuted = Array2::from_shape_fn((k, k), |(i, j)| scatter[[order[i], order[j]]]);
    let Some(factor) = damped_cholesky(&permuted, damp) else {
        return Quantized::nearest(weight, scales, dtype);
    };
    // What is read of it for column i is its column i, so that a row of the transposed lies together.
    let factor = factor.t().as_standard_layout().into_owned();
    let columns = factor.as_slice().unwrap_or_default();
    let mut q = Array2::<i16>::zeros(weight.dim());
    Zip::from(q.rows_mut())
        .and(weight.rows())
        .and(&ArrayView1::from(&scales))
        .par_for_each(|mut q, w, &scale| {
            let mut errors = vec![0f64; k];
            for i in (0..k).rev() {
                let at = order[i];
                let column = &columns[i * k..(i + 1) * k];
                let later = ArrayView1::from(&errors[i + 1..]);
                let carried = later.dot(&ArrayView1::from(&column[i + 1..])) / column[i];
                q[at] = nearest(w[at] - carried, scale, dtype);
                // d = q - w, so that this term is (d_i L_ii + what is carried).
                errors[i] = f64::from(q[at]) * f64::from(scale) - w[at];
            }
        });
    let plain = Quantized::nearest(weight, scales.clone(), dtype);
    let mut fitted = Quantized { q, scales, dtype };
    let (of_plain, of_fitted) = (
        losses(&plain, weight, scatter),
        losses(&fitted, weight, scatter),
    );
    let rows = fitted.q.rows_mut().into_iter().zip(plain.q.rows());
    for ((mut fitted, plain), (of_plain, of_fitted)) in rows.zip(of_plain.iter().zip(&of_fitted)) {
        if of_plain < of_fitted {
            fitted.assign(&plain);
        }
    }
    fitted
}

/// `d scatter dᵀ` of the error of each row.
fn losses(quantized: &Quantized, weight: &Array2<f64>, scatter: &Array2<f64>) -> Array1<f64> {
    let error = quantized.to_float() - weight;
    (error.dot(scatter) * error).sum_axis(Axis(1))
}

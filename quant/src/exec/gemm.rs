//! The one f32 matrix product of VALIDATION and of what calibration computes itself.

use dual16_nash::linear::GemmShape;
use ndarray::{Array2, ArrayView2, linalg::general_mat_mul};

/// `x [n, k] * w [o, k]^T`, row-major. Single-threaded, so its result does not depend on the number
/// of threads; tasks are what runs in parallel.
///
/// Gives zeros where the slices do not have the sizes of `shape`, which no caller lets happen.
pub(crate) fn gemm_f32(x: &[f32], w: &[f32], shape: GemmShape) -> Vec<f32> {
    let GemmShape { n, k, o } = shape;
    let (Ok(x), Ok(w)) = (
        ArrayView2::from_shape((n, k), x),
        ArrayView2::from_shape((o, k), w),
    ) else {
        debug_assert!(false, "gemm operands do not fit {shape:?}");
        return vec![0.0; n * o];
    };
    let mut y = Array2::zeros((n, o));
    // Into memory whose layout is known: where n, k or o is 1, `dot` is free to give columns.
    general_mat_mul(1.0, &x, &w.t(), 0.0, &mut y);
    y.into_raw_vec_and_offset().0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Small integers, so that every order of summation gives the same.
    fn values(len: usize, seed: usize) -> Vec<f32> {
        let value = |i: usize| ((i * 7 + seed * 3) % 11) as f32 - 5.0;
        (0..len).map(value).collect()
    }

    #[test]
    fn every_small_shape_is_three_plain_loops() {
        for n in 0..6 {
            for k in 0..6 {
                for o in 0..6 {
                    let (x, w) = (values(n * k, 1), values(o * k, 2));
                    let product = |row: usize, channel: usize| -> f32 {
                        (0..k).map(|i| x[row * k + i] * w[channel * k + i]).sum()
                    };
                    let expected: Vec<f32> = (0..n)
                        .flat_map(|row| (0..o).map(move |channel| (row, channel)))
                        .map(|(row, channel)| product(row, channel))
                        .collect();
                    let shape = GemmShape { n, k, o };
                    assert_eq!(gemm_f32(&x, &w, shape), expected, "{shape:?}");
                }
            }
        }
    }
}

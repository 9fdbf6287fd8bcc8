//! The one f32 matrix product of VALIDATION and of what calibration computes itself.

use dual16_nash::linear::GemmShape;
use ndarray::ArrayView2;

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
    x.dot(&w.t()).into_raw_vec_and_offset().0
}

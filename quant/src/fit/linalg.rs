//! Two decompositions, by nalgebra: of matrices that are symmetric and at least nearly positive. (faer is
//! several times as fast at them and takes ten times as long to compile. A thousand columns are 0.14 s
//! for Cholesky and 2.3 s for eigenvectors here.)

use nalgebra::{Cholesky, DMatrix, SymmetricEigen};
use ndarray::Array2;

/// How often the damping is raised before a matrix is given up.
const TRIES: usize = 6;

/// L with `L Lᵀ = matrix + damp · mean(diagonal) · I`. A matrix that is not positive even so gets ten
/// times the damping, some times; `None` where that does not help either, or all of it is 0.
pub(super) fn damped_cholesky(matrix: &Array2<f64>, damp: f64) -> Option<Array2<f64>> {
    let k = matrix.nrows();
    let mean = matrix.diag().sum() / k.max(1) as f64;
    if !(mean.is_finite() && mean > 0.0) {
        return None;
    }
    let mut damping = damp.max(f64::EPSILON) * mean;
    for _ in 0..TRIES {
        let mut damped = dense(matrix);
        for i in 0..k {
            damped[(i, i)] += damping;
        }
        if let Some(factor) = Cholesky::new(damped) {
            let lower = factor.unpack();
            return Some(Array2::from_shape_fn((k, k), |(i, j)| lower[(i, j)]));
        }
        damping *= 10.0;
    }
    None
}

/// Eigenvectors of the `count` largest eigenvalues of a symmetric matrix, as columns, the largest first.
/// Their signs are such that the first of the largest entries is positive. `None` where the matrix is
/// not finite.
pub(super) fn top_eigenvectors(matrix: &Array2<f64>, count: usize) -> Option<Array2<f64>> {
    if !matrix.iter().all(|x| x.is_finite()) {
        return None;
    }
    let n = matrix.nrows();
    let SymmetricEigen {
        eigenvectors,
        eigenvalues,
    } = SymmetricEigen::try_new(dense(matrix), f64::EPSILON, 0)?;
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| eigenvalues[b].total_cmp(&eigenvalues[a]));
    order.truncate(count);
    let sign = |column: usize| {
        let largest = eigenvectors
            .column(column)
            .iter()
            .fold(
                0f64,
                |largest, &x| {
                    if x.abs() > largest.abs() { x } else { largest }
                },
            );
        largest.signum()
    };
    let signs: Vec<f64> = order.iter().map(|&column| sign(column)).collect();
    Some(Array2::from_shape_fn((n, order.len()), |(row, at)| {
        eigenvectors[(row, order[at])] * signs[at]
    }))
}

fn dense(matrix: &Array2<f64>) -> DMatrix<f64> {
    DMatrix::from_fn(matrix.nrows(), matrix.ncols(), |i, j| matrix[[i, j]])
}

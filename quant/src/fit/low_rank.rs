//! A low-rank correction of what rounding left (LoRC, arXiv 2303.08302): a second, narrow branch of two
//! Linears whose output is added.

use dual16_nash::{dtype::IntDtype, scale::ScaleRule};
use ndarray::{Array2, Axis};
use serde::{Deserialize, Serialize};

use super::{
    grid::{Quantized, row_scales},
    linalg::{damped_cholesky, top_eigenvectors},
};

/// `x · downᵀ · upᵀ`: two Linears with int8 weights and an int16 tensor between them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LowRank {
    /// `[r, K]`.
    pub down: Quantized,
    /// `[O, r]`.
    pub up: Quantized,
}

impl LowRank {
    /// Width of the branch.
    pub fn rank(&self) -> usize {
        self.down.q.nrows()
    }

    /// Bytes of both weights.
    pub fn bytes(&self) -> u64 {
        self.down.bytes() + self.up.bytes()
    }

    /// The weight that both apply, `[O, K]`.
    pub fn product(&self) -> Array2<f64> {
        self.up.to_float().dot(&self.down.to_float())
    }
}

/// The branches of these widths that take most of `residual = W - Wq` `[O, K]` away, by the outputs: the
/// best approximation of R L, with `scatter = L Lᵀ`, is `U Uᵀ R L`, U having its leading left singular
/// vectors; so up = U and down = Uᵀ R, and the inverse of L is not needed. Both are rounded to int8, a
/// scale for each row.
///
/// A width that is 0 or no smaller than the layer's own gives none, and so do moments that are not
/// finite.
pub fn low_rank(residual: &Array2<f64>, scatter: &Array2<f64>, ranks: &[usize]) -> Vec<LowRank> {
    let (o, k) = residual.dim();
    let ranks = ranks.iter().filter(|&&rank| rank > 0 && rank < o.min(k));
    let Some(&largest) = ranks.clone().max() else {
        return Vec::new();
    };
    let Some(all) = left_singular(residual, scatter, largest) else {
        return Vec::new();
    };
    let int8 = |factor: &Array2<f64>| {
        let scales = row_scales(factor, IntDtype::Int8, ScaleRule::default(), false);
        Quantized::nearest(factor, scales, IntDtype::Int8)
    };
    let of = |&rank: &usize| {
        let up = all.slice_axis(Axis(1), (..rank).into()).to_owned();
        LowRank {
            down: int8(&up.t().dot(residual)),
            up: int8(&up),
        }
    };
    ranks.map(of).collect()
}

/// The `count` leading left singular vectors of R L, as columns `[O, count]`: eigenvectors of whichever of
/// `R L Lᵀ Rᵀ` and `Lᵀ Rᵀ R L` is smaller.
fn left_singular(
    residual: &Array2<f64>,
    scatter: &Array2<f64>,
    count: usize,
) -> Option<Array2<f64>> {
    let (o, k) = residual.dim();
    if o <= k {
        let outputs = residual.dot(scatter).dot(&residual.t());
        return top_eigenvectors(&outputs, count);
    }
    let product = residual.dot(&damped_cholesky(scatter, f64::EPSILON)?);
    let right = top_eigenvectors(&product.t().dot(&product), count)?;
    let mut left = product.dot(&right);
    for mut column in left.columns_mut() {
        let length = column.dot(&column).sqrt();
        if length > 0.0 {
            column /= length;
        }
    }
    Some(left)
}

//! What the tensors inside a low-rank branch hold in calibration, for their scales.

use ndarray::{Array2, ArrayView1, ArrayView2};

use super::{
    super::{Context, session::Session},
    Found,
    rows::for_each_input,
};
use crate::{
    Result,
    fit::{Fitted, Quantized},
};

/// Largest magnitudes inside each low-rank branch over all calibration batches, in the order of
/// [`LinearFit::inside`]; `None` for what has no branch.
pub(super) fn observe_branches(
    session: &Session,
    context: &Context<'_>,
    found: &[Found],
) -> Result<Vec<Option<[f32; 3]>>> {
    let branched = |found: &&Found| found.candidate.fitted.low_rank.is_some();
    let mut linears: Vec<usize> = found
        .iter()
        .filter(branched)
        .map(|found| found.id)
        .collect();
    linears.dedup();
    let mut inside: Vec<Option<[f32; 3]>> = vec![None; found.len()];
    if linears.is_empty() {
        return Ok(inside);
    }
    let branches: Vec<Option<Branch>> = found
        .iter()
        .map(|found| Branch::of(&found.candidate.fitted))
        .collect();
    for_each_input(session, context, &linears, |id, x| {
        for ((found, branch), inside) in found.iter().zip(&branches).zip(&mut inside) {
            if let Some(branch) = branch.as_ref().filter(|_| found.id == id) {
                let largest = inside.get_or_insert([0.0; 3]);
                let new = branch.largest(x);
                largest.iter_mut().zip(new).for_each(|(a, b)| *a = a.max(b));
            }
        }
    })?;
    Ok(inside)
}

/// A fitted weight and its branch in floats.
struct Branch {
    columns: Option<Vec<f64>>,
    weight: Array2<f32>,
    bias: Vec<f32>,
    down: Array2<f32>,
    up: Array2<f32>,
}

impl Branch {
    fn of(fitted: &Fitted) -> Option<Self> {
        let low_rank = fitted.low_rank.as_ref()?;
        let float = |quantized: &Quantized| quantized.to_float().mapv(|w| w as f32);
        Some(Self {
            columns: fitted.columns.clone(),
            weight: float(&fitted.weight),
            bias: fitted.bias.clone(),
            down: float(&low_rank.down),
            up: float(&low_rank.up),
        })
    }

    /// Largest finite magnitudes of `x Wᵀ + b`, `x downᵀ` and `x downᵀ upᵀ` over some rows.
    fn largest(&self, x: ArrayView2<'_, f32>) -> [f32; 3] {
        let mut x = x.to_owned();
        for (mut column, factor) in x
            .columns_mut()
            .into_iter()
            .zip(self.columns.iter().flatten())
        {
            column.mapv_inplace(|x| (f64::from(x) / factor) as f32);
        }
        let main = x.dot(&self.weight.t()) + ArrayView1::from(&self.bias);
        let inner = x.dot(&self.down.t());
        let branch = inner.dot(&self.up.t());
        [main, inner, branch].map(|values| {
            let finite = values.iter().map(|v| v.abs()).filter(|v| v.is_finite());
            finite.fold(0.0, f32::max)
        })
    }
}

//! Integer weights of a Linear fitted to the inputs it has, instead of rounded one by one: bias
//! correction, GPTQ, equalization, low-rank correction, scales by output error. Each turns a weight and
//! the moments of the layer's input into another weight on the same kind of grid; none needs more than
//! int8 or int16 times int8 on the chip.
//!
//! Pure functions: no model, no plan, no job. Whoever calls them decides which rows are fitted to and
//! accepts only what is better on other rows ([`held_out_sqnr`]); in a job that is `flow::evaluate`.
//!
//! # Layout
//! - [`Moments`]: what is kept of a layer's input rows.
//! - [`Quantized`]: integers and their scales; [`Fitted`]: a whole replacement of a Linear.
//! - `scale`, `gptq`, `equalize`, `low_rank`: the modifiers; [`ladder`]: all of them by name.
//! - `error`: what a replacement does to outputs, by moments or by rows.
//! - [`Fit`]: what a modifier is called; `stored`: a fitted layer as bytes.
//! - `linalg`: the matrix decompositions that they need.
//!
//! # The bias is free
//! The output error of a weight error `D = Wq - W` over rows x is `D x + (bq - b)`. The best bias for a
//! given D takes the mean away: `bq = b - D mean(x)` (bias correction, arXiv 1906.04721), and what is
//! left is `D C Dᵀ` with the covariance C of the inputs. So everything that fits a weight fits it to C,
//! not to the second moment, and corrects the bias after: the two are then minimized together. On the
//! article's linear2, whose input is nearly constant, GPTQ reaches 32.7 dB so and 30.8 dB by the second
//! moment with a correction after it.
//!
//! Qronos (arXiv 2505.11695) was tried and is not here: docs/mending.md has the figures.

mod equalize;
mod error;
mod gptq;
mod grid;
mod ladder;
mod linalg;
mod low_rank;
mod moments;
mod name;
mod scale;
mod stored;

pub use equalize::{column_amax, column_factors};
pub use error::{InputGrid, held_out_sqnr, moment_sqnr};
pub use gptq::gptq;
pub use grid::Quantized;
pub use ladder::{Candidate, LadderOptions, ladder};
pub use low_rank::{LowRank, low_rank};
pub use moments::Moments;
pub use name::{Fit, way_name};
pub use scale::scales_by_error;

use std::collections::BTreeMap;

use ndarray::{Array2, ArrayView1, ArrayView2, Zip};
use serde::{Deserialize, Serialize};

/// What a plan's Linears run with instead of their rounded weights, by node index.
pub type Fits = BTreeMap<usize, Fitted>;

/// A Linear as the model has it.
#[derive(Debug, Clone, Copy)]
pub struct Layer<'a> {
    /// `[O, K]`, finite.
    pub weight: ArrayView2<'a, f32>,
    /// `[O]`.
    pub bias: Option<ArrayView1<'a, f32>>,
}

/// What runs in a Linear's place: `y = q(x / columns) · weightᵀ (+ q(..) · factorsᵀ) + bias`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Fitted {
    /// `[O, K]`, a scale for each output.
    pub weight: Quantized,
    /// `[O]`; there is one even where the layer had none.
    pub bias: Vec<f32>,
    /// What each input column is divided by, where the layer before can take it.
    pub columns: Option<Vec<f64>>,
    /// A second branch that is added.
    pub low_rank: Option<LowRank>,
    /// What the observed range of the input is multiplied by before it gives the input's scale, > 0: below
    /// 1 the input is clipped, above 1 it has room beyond what was observed.
    pub input_range: f32,
}

impl Layer<'_> {
    /// The weight for inputs divided by `columns`.
    fn scaled(&self, columns: Option<&[f64]>) -> Array2<f64> {
        let mut weight = self.weight.mapv(f64::from);
        for (mut column, factor) in weight
            .columns_mut()
            .into_iter()
            .zip(columns.unwrap_or_default())
        {
            column *= *factor;
        }
        weight
    }

    /// The bias, 0 where there is none.
    fn bias(&self) -> Vec<f64> {
        match self.bias {
            Some(bias) => bias.iter().map(|&b| f64::from(b)).collect(),
            None => vec![0.0; self.weight.nrows()],
        }
    }
}

impl Fitted {
    /// The weight that all branches together apply to the inputs as the model has them, `[O, K]`.
    pub fn effective_weight(&self) -> Array2<f64> {
        let mut weight = self.weight.to_float();
        if let Some(low_rank) = &self.low_rank {
            weight += &low_rank.product();
        }
        for (mut column, factor) in weight
            .columns_mut()
            .into_iter()
            .zip(self.columns.iter().flatten())
        {
            column /= *factor;
        }
        weight
    }

    /// Takes the mean of the error away: `b + (W - Wq) mean(x)`, from the layer's own bias.
    #[must_use]
    pub fn corrected(mut self, layer: &Layer<'_>, inputs: &Moments) -> Self {
        let effective = self.effective_weight();
        let mean = inputs.mean();
        let shift = Zip::from(effective.rows())
            .and(layer.weight.rows())
            .map_collect(|wrong, right| {
                let terms = wrong.iter().zip(right).zip(&mean);
                terms
                    .map(|((wrong, right), x)| (f64::from(*right) - wrong) * x)
                    .sum::<f64>()
            });
        let bias = layer.bias().into_iter().zip(shift);
        self.bias = bias.map(|(b, shift)| (b + shift) as f32).collect();
        self
    }

    /// With each output divided by a factor: the integers stay, their scales and the bias do not.
    #[must_use]
    pub fn divided(mut self, factors: &[f64]) -> Self {
        let up = self.low_rank.as_mut().map(|branch| &mut branch.up.scales);
        let scales = std::iter::once(&mut self.weight.scales).chain(up);
        for values in scales.chain(std::iter::once(&mut self.bias)) {
            for (value, factor) in values.iter_mut().zip(factors) {
                *value = (f64::from(*value) / factor) as f32;
            }
        }
        self
    }

    /// Multiply-accumulates relative to the plain layer.
    pub fn mac_factor(&self) -> f64 {
        let (o, k) = self.weight.q.dim();
        let rank = self.low_rank.as_ref().map_or(0, LowRank::rank);
        1.0 + (rank * (o + k)) as f64 / ((o * k).max(1)) as f64
    }

    /// Bytes of the integers that it stores, int32 biases included.
    pub fn weight_bytes(&self) -> u64 {
        let branch = self.low_rank.as_ref().map_or(0, LowRank::bytes);
        self.weight.bytes() + branch + 4 * self.bias.len() as u64
    }
}

//! Every modifier of a way's weight, by name.

use dual16_nash::{dtype::IntDtype, scale::ScaleRule};
use ndarray::Array2;

use super::{
    Fit, Fitted, Layer, LowRank, Moments, column_amax, column_factors, gptq,
    grid::{Quantized, row_scales},
    low_rank, scales_by_error,
};

/// Room that an equalized int16 input gets beyond the observed range. Before, the largest column set the
/// scale and all others had room; now each of them may exceed its own maximum on another batch, and
/// saturate. A bit of int16 is nothing beside an int8 weight.
const HEADROOM: f32 = 2.0;
/// Widths of a low-rank branch.
const RANKS: [u16; 3] = [4, 8, 16];

/// What may be tried, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct LadderOptions {
    /// Format of the input.
    pub input: IntDtype,
    /// Format of the weight.
    pub weight: IntDtype,
    /// From a range to a scale.
    pub scale_rule: ScaleRule,
    /// Scales are powers of two.
    pub power_of_two: bool,
    /// Diagonal that GPTQ adds, relative to its mean.
    pub damp: f64,
    /// What is tried.
    pub fits: Vec<Fit>,
    /// Alphas of equalization.
    pub alphas: Vec<f64>,
    /// Largest |w| of each column over all Linears that read the input and take the same factors; empty
    /// where the layer is alone.
    pub column_amax: Vec<f32>,
    /// Shares that the input's range is clipped to.
    pub clips: Vec<f32>,
}

impl LadderOptions {
    /// What is tried by default: for an int8 weight everything but clips of an int16 input, which has no
    /// use for them; for an int16 weight, whose rounding is no trouble, bias correction and clips.
    pub fn new(input: IntDtype, weight: IntDtype) -> Self {
        let bc = Fit::default();
        let mut fits = vec![bc];
        if input == IntDtype::Int8 {
            fits.push(Fit { clip: true, ..bc });
        }
        if weight == IntDtype::Int8 {
            let gptq = Fit { gptq: true, ..bc };
            let equal = |fit| Fit {
                equalize: true,
                ..fit
            };
            let ranks = |fit: Fit| RANKS.map(move |rank| Fit { rank, ..fit });
            let searched = [bc, gptq].map(|fit| Fit { scale: true, ..fit });
            fits.extend(searched);
            fits.extend([gptq, equal(bc), equal(gptq)]);
            fits.extend([bc, gptq, equal(gptq)].into_iter().flat_map(ranks));
        }
        Self {
            input,
            weight,
            scale_rule: ScaleRule::default(),
            power_of_two: false,
            damp: 0.01,
            fits,
            alphas: vec![0.4, 0.5, 0.6, 0.7],
            column_amax: Vec::new(),
            clips: vec![0.9, 0.8, 0.7],
        }
    }
}

/// A replacement of a layer, and what it costs beside the plain one.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Its fit; `None` for the plain way.
    pub fit: Option<Fit>,
    /// The same with the alpha and the clip that were taken: `bc`, `scale+bc`, `gptq`, `eq0.6+gptq`,
    /// `gptq+lowrank=8`, `clip0.9+bc`. Empty for the plain way.
    pub name: String,
    /// What runs.
    pub fitted: Fitted,
    /// Multiply-accumulates relative to the plain layer.
    pub mac_factor: f64,
    /// Bytes of integers.
    pub weight_bytes: u64,
}

/// Every modifier for a layer, fitted to `inputs`, the plain way first and then by cost; of one fit as
/// many as there are alphas and clips. Deterministic; nothing of it is said to be better than the plain
/// way before it is held against other rows. Where moments and layer do not fit, or there is no row,
/// the plain way alone. Scales that are to be powers of two are not searched.
pub fn ladder(layer: &Layer<'_>, inputs: &Moments, options: &LadderOptions) -> Vec<Candidate> {
    let plain = Making::new(layer, inputs, options, None);
    let nearest = plain.fitted(plain.nearest(), false);
    let mut made = vec![Candidate::of(None, String::new(), nearest)];
    if inputs.rows() == 0 || inputs.columns() != layer.weight.ncols() {
        return made;
    }
    made.extend(plain.candidates());
    if options.fits.iter().any(|fit| fit.equalize) {
        for &alpha in &options.alphas {
            let equalized = Making::new(layer, inputs, options, Some(alpha));
            made.extend(equalized.candidates());
        }
    }
    // Stable: those of one cost stay in the order in which they were made.
    made.sort_by(|a, b| a.mac_factor.total_cmp(&b.mac_factor));
    made
}

impl Candidate {
    fn of(fit: Option<Fit>, name: String, fitted: Fitted) -> Self {
        Self {
            fit,
            name,
            mac_factor: fitted.mac_factor(),
            weight_bytes: fitted.weight_bytes(),
            fitted,
        }
    }
}

/// A layer and its inputs, once equalized, as the modifiers share them.
struct Making<'a, 'w> {
    layer: &'a Layer<'w>,
    inputs: &'a Moments,
    options: &'a LadderOptions,
    alpha: Option<f64>,
    columns: Option<Vec<f64>>,
    /// Of the equalized layer.
    weight: Array2<f64>,
    /// Of the equalized inputs.
    scatter: Array2<f64>,
}

impl<'a, 'w> Making<'a, 'w> {
    fn new(
        layer: &'a Layer<'w>,
        inputs: &'a Moments,
        options: &'a LadderOptions,
        alpha: Option<f64>,
    ) -> Self {
        let columns = alpha.map(|alpha| match options.column_amax.as_slice() {
            [] => column_factors(inputs.amax(), &column_amax([layer.weight]), alpha),
            all => column_factors(inputs.amax(), all, alpha),
        });
        let scatter = match &columns {
            Some(columns) => inputs.divided(columns).scatter(),
            None => inputs.scatter(),
        };
        Self {
            layer,
            inputs,
            options,
            alpha,
            weight: layer.scaled(columns.as_deref()),
            columns,
            scatter,
        }
    }

    /// Of each fit that is wanted, with every clip; those whose integers are alike share them.
    fn candidates(&self) -> Vec<Candidate> {
        let mut made = Vec::new();
        for (scale, gptq) in [(false, false), (true, false), (false, true), (true, true)] {
            let alike = |fit: &&Fit| {
                (fit.equalize, fit.scale, fit.gptq) == (self.alpha.is_some(), scale, gptq)
                    && !(scale && self.options.power_of_two)
            };
            let fits: Vec<Fit> = self.options.fits.iter().filter(alike).copied().collect();
            if fits.is_empty() {
                continue;
            }
            let mut weight = match scale {
                true => self.searched(),
                false => self.nearest(),
            };
            if gptq {
                weight = self.gptq(weight.scales);
            }
            let ranks: Vec<usize> = fits.iter().map(|fit| fit.rank.into()).collect();
            let branches = self.low_ranks(&weight, &ranks);
            for fit in fits {
                let branch = |branch: &&Fitted| {
                    let own = branch.low_rank.as_ref().map_or(0, LowRank::rank);
                    own == usize::from(fit.rank)
                };
                let fitted = match fit.rank {
                    0 => Some(self.fitted(weight.clone(), true)),
                    _ => branches.iter().find(branch).cloned(),
                };
                made.extend(
                    fitted
                        .into_iter()
                        .flat_map(|fitted| self.clipped(fit, &fitted)),
                );
            }
        }
        made
    }

    /// A fit with each clip, where it has one.
    fn clipped(&self, fit: Fit, fitted: &Fitted) -> Vec<Candidate> {
        let clips = match fit.clip {
            true => self.options.clips.as_slice(),
            false => &[1.0],
        };
        let equalize = self
            .alpha
            .map_or_else(String::new, |alpha| format!("eq{alpha}"));
        let clipped = |clip: &f32| {
            let name = fit.written(&equalize, &format!("clip{clip}"));
            let fitted = Fitted {
                input_range: fitted.input_range * clip,
                ..fitted.clone()
            };
            Candidate::of(Some(fit), name, fitted)
        };
        clips.iter().map(clipped).collect()
    }

    fn nearest(&self) -> Quantized {
        let LadderOptions {
            weight: dtype,
            scale_rule,
            power_of_two,
            ..
        } = *self.options;
        let scales = row_scales(&self.weight, dtype, scale_rule, power_of_two);
        Quantized::nearest(&self.weight, scales, dtype)
    }

    /// Rounded to the nearest at the scales that are best at the output.
    fn searched(&self) -> Quantized {
        let nearest = self.nearest();
        let scales = scales_by_error(&self.weight, &nearest.scales, nearest.dtype, &self.scatter);
        Quantized::nearest(&self.weight, scales, nearest.dtype)
    }

    fn gptq(&self, scales: Vec<f32>) -> Quantized {
        gptq(
            &self.weight,
            scales,
            self.options.weight,
            &self.scatter,
            self.options.damp,
        )
    }

    /// `base` with a branch of each width for what it leaves.
    fn low_ranks(&self, base: &Quantized, ranks: &[usize]) -> Vec<Fitted> {
        if ranks.iter().all(|&rank| rank == 0) {
            return Vec::new();
        }
        let residual = &self.weight - &base.to_float();
        let branches = low_rank(&residual, &self.scatter, ranks);
        let of = |branch: LowRank| {
            let fitted = Fitted {
                low_rank: Some(branch),
                ..self.fitted(base.clone(), false)
            };
            fitted.corrected(self.layer, self.inputs)
        };
        branches.into_iter().map(of).collect()
    }

    fn fitted(&self, weight: Quantized, correct: bool) -> Fitted {
        let fitted = Fitted {
            weight,
            bias: self.layer.bias().into_iter().map(|b| b as f32).collect(),
            columns: self.columns.clone(),
            low_rank: None,
            input_range: match (&self.columns, self.options.input) {
                (Some(_), IntDtype::Int16) => HEADROOM,
                _ => 1.0,
            },
        };
        match correct {
            true => fitted.corrected(self.layer, self.inputs),
            false => fitted,
        }
    }
}

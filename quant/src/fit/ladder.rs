//! Every modifier of a way's weight, by name.

use dual16_nash::{dtype::IntDtype, scale::ScaleRule};
use ndarray::Array2;

use super::{
    Fitted, Layer, LowRank, Moments, column_factors, gptq,
    grid::{Quantized, row_scales},
    low_rank, scales_by_error,
};

/// Room that an equalized int16 input gets beyond the observed range. Before, the largest column set the
/// scale and all others had room; now each of them may exceed its own maximum on another batch, and
/// saturate. A bit of int16 is nothing beside an int8 weight.
const HEADROOM: f32 = 2.0;

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
    /// Alphas of equalization; none where nothing before the layer can take the factors in.
    pub alphas: Vec<f64>,
    /// Widths of the low-rank branch.
    pub ranks: Vec<usize>,
    /// Shares that the input's range is clipped to.
    pub clips: Vec<f32>,
}

impl LadderOptions {
    /// What is tried by default: for an int8 weight everything but clips of an int16 input, which has no
    /// use for them; for an int16 weight, whose rounding is no trouble, bias correction and clips.
    pub fn new(input: IntDtype, weight: IntDtype) -> Self {
        let int8 = weight == IntDtype::Int8;
        let only = |values: &[f64]| if int8 { values.to_vec() } else { Vec::new() };
        Self {
            input,
            weight,
            scale_rule: ScaleRule::default(),
            power_of_two: false,
            damp: 0.01,
            alphas: only(&[0.4, 0.5, 0.6, 0.7]),
            ranks: if int8 { vec![4, 8, 16] } else { Vec::new() },
            clips: match input {
                IntDtype::Int8 => vec![0.9, 0.8, 0.7],
                IntDtype::Int16 => Vec::new(),
            },
        }
    }
}

/// A replacement of a layer, and what it costs beside the plain one.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Its modifiers, joined by `+`: `bc`, `scale+bc`, `gptq`, `eq0.6+gptq`, `gptq+lowrank=8`, `clip0.9+bc`.
    /// Empty for the plain way. `gptq` and `lowrank` correct the bias as well, see [`super`].
    pub name: String,
    /// What runs.
    pub fitted: Fitted,
    /// Multiply-accumulates relative to the plain layer.
    pub mac_factor: f64,
    /// Bytes of integers.
    pub weight_bytes: u64,
}

/// Every modifier for a layer, fitted to `inputs`, the plain way first and then by cost. Deterministic;
/// nothing of it is said to be better than the plain way before it is held against other rows. Where
/// moments and layer do not fit, or there is no row, the plain way alone.
pub fn ladder(layer: &Layer<'_>, inputs: &Moments, options: &LadderOptions) -> Vec<Candidate> {
    let plain = Making::new(layer, inputs, options, None);
    let nearest = plain.nearest();
    let mut made = vec![(String::new(), plain.fitted(nearest.clone(), false))];
    if inputs.rows() == 0 || inputs.columns() != layer.weight.ncols() {
        return made.into_iter().map(Candidate::of).collect();
    }
    made.push(("bc".to_owned(), plain.fitted(nearest.clone(), true)));
    for &clip in &options.clips {
        let clipped = Fitted {
            input_range: clip,
            ..plain.fitted(nearest.clone(), true)
        };
        made.push((format!("clip{clip}+bc"), clipped));
    }
    if options.weight == IntDtype::Int8 {
        let rounded = plain.gptq(nearest.scales.clone());
        made.extend(plain.low_ranks("", &nearest));
        made.extend(plain.low_ranks("gptq+", &rounded));
        made.push(("gptq".to_owned(), plain.fitted(rounded, true)));
        // A searched scale is no power of two.
        if !options.power_of_two {
            let searched = plain.searched();
            made.push(("scale+bc".to_owned(), plain.fitted(searched.clone(), true)));
            made.push((
                "scale+gptq".to_owned(),
                plain.fitted(plain.gptq(searched.scales), true),
            ));
        }
        for &alpha in &options.alphas {
            let columns = column_factors(inputs.amax(), layer.weight, alpha);
            let equalized = Making::new(layer, inputs, options, Some(columns));
            let nearest = equalized.nearest();
            let rounded = equalized.gptq(nearest.scales.clone());
            made.push((format!("eq{alpha}+bc"), equalized.fitted(nearest, true)));
            made.extend(equalized.low_ranks(&format!("eq{alpha}+gptq+"), &rounded));
            made.push((format!("eq{alpha}+gptq"), equalized.fitted(rounded, true)));
        }
    }
    let mut candidates: Vec<Candidate> = made.into_iter().map(Candidate::of).collect();
    // Stable: those of one cost stay in the order in which they were made.
    candidates.sort_by(|a, b| a.mac_factor.total_cmp(&b.mac_factor));
    candidates
}

impl Candidate {
    fn of((name, fitted): (String, Fitted)) -> Self {
        Self {
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
        columns: Option<Vec<f64>>,
    ) -> Self {
        let scatter = match &columns {
            Some(columns) => inputs.divided(columns).scatter(),
            None => inputs.scatter(),
        };
        Self {
            layer,
            inputs,
            options,
            weight: layer.scaled(columns.as_deref()),
            columns,
            scatter,
        }
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
    fn low_ranks(&self, prefix: &str, base: &Quantized) -> Vec<(String, Fitted)> {
        let residual = &self.weight - &base.to_float();
        let branches = low_rank(&residual, &self.scatter, &self.options.ranks);
        let of = |branch: LowRank| {
            let name = format!("{prefix}lowrank={}", branch.rank());
            let fitted = Fitted {
                low_rank: Some(branch),
                ..self.fitted(base.clone(), false)
            };
            (name, fitted.corrected(self.layer, self.inputs))
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

//! Equalization of input columns: what is large in the input and small in the weight is moved from one
//! to the other, by a factor that the layer before takes in (a LayerNorm's weight and bias, a Linear's
//! output channels, either through a ReLU).

use ndarray::ArrayView2;

/// Factors are kept within this much of 1 on either side: the layer before has to hold them in int16.
const LARGEST: f64 = 256.0;

/// What each input column is divided by, and the weight's column multiplied by:
/// `max|x_k|^alpha / max|w_k|^(1 - alpha)` (SmoothQuant, arXiv 2211.10438), over their geometric mean.
/// A column that is 0 everywhere in either has factor 1. Where several Linears read the input, `weight_amax`
/// is of all their weights ([`column_amax`]).
pub fn column_factors(input_amax: &[f32], weight_amax: &[f32], alpha: f64) -> Vec<f64> {
    let columns = weight_amax.iter().zip(input_amax);
    let logs: Vec<Option<f64>> = columns
        .map(|(&w, &x)| {
            let usable = |amax: f32| amax > 0.0 && amax.is_finite();
            let log = |amax: f32| libm::log(f64::from(amax));
            (usable(w) && usable(x)).then(|| alpha * log(x) - (1.0 - alpha) * log(w))
        })
        .collect();
    let known = logs.iter().flatten();
    let (count, sum) = known.fold((0usize, 0.0), |(count, sum), log| (count + 1, sum + log));
    let mean = sum / count.max(1) as f64;
    let factor = |log: Option<f64>| {
        let factor = log.map_or(1.0, |log| libm::exp(log - mean));
        factor.clamp(1.0 / LARGEST, LARGEST)
    };
    logs.into_iter().map(factor).collect()
}

/// Largest |w| of each column of weights `[.., K]`, K being that of the first.
pub fn column_amax<'w>(weights: impl IntoIterator<Item = ArrayView2<'w, f32>>) -> Vec<f32> {
    let mut largest: Vec<f32> = Vec::new();
    for weight in weights {
        if largest.is_empty() {
            largest = vec![0.0; weight.ncols()];
        }
        for row in weight.rows() {
            for (largest, w) in largest.iter_mut().zip(row) {
                *largest = largest.max(w.abs());
            }
        }
    }
    largest
}

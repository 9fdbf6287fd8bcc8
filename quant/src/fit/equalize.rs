//! Equalization of input columns: what is large in the input and small in the weight is moved from one
//! to the other, by a factor that the layer before takes in (a LayerNorm's weight and bias, a Linear's
//! output channels, either through a ReLU).

use ndarray::ArrayView2;

/// Factors are kept within this much of 1 on either side: the layer before has to hold them in int16.
const LARGEST: f64 = 256.0;

/// What each input column is divided by, and the weight's column multiplied by:
/// `max|x_k|^alpha / max|w_k|^(1 - alpha)` (SmoothQuant, arXiv 2211.10438), over their geometric mean.
/// A column that is 0 everywhere in either has factor 1.
pub fn column_factors(input_amax: &[f32], weight: ArrayView2<'_, f32>, alpha: f64) -> Vec<f64> {
    let columns = weight.columns().into_iter().zip(input_amax);
    let logs: Vec<Option<f64>> = columns
        .map(|(column, &x)| {
            let w = column.iter().fold(0f32, |amax, w| amax.max(w.abs()));
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

//! Metrics that no table shows by default and that cost a pass of their own.

use super::{MetricsError, error::check};

/// Smallest |ref| that [`rtol`] divides by: f32's epsilon, 2^-23 `[our]`.
pub const RTOL_EPSILON: f64 = f32::EPSILON as f64;

/// Bins of [`kl_divergence`].
pub const KL_BINS: usize = 2048;

/// What every bin holds beforehand, so that an empty one costs a finite amount `[our]`.
const PRIOR: f64 = 1e-4;

/// Rtol = max over elements of |d| / max(|ref|, [`RTOL_EPSILON`]); 0 of nothing. The rtol of several
/// parts is the largest of theirs.
///
/// # Errors
/// [`MetricsError::Length`], [`MetricsError::NonFinite`].
pub fn rtol(reference: &[f32], got: &[f32]) -> Result<f64, MetricsError> {
    check(reference, got)?;
    let worst = reference.iter().zip(got).fold(0.0, |worst: f64, (&r, &g)| {
        let (r, g) = (f64::from(r), f64::from(g));
        worst.max((g - r).abs() / r.abs().max(RTOL_EPSILON))
    });
    Ok(worst)
}

/// KL(reference || got), in nats, of the two histograms of [`KL_BINS`] equal bins over the range that
/// both tensors span together. >= 0; 0 for equal histograms, so also where all values are equal.
///
/// # Errors
/// [`MetricsError::Length`], [`MetricsError::NonFinite`].
pub fn kl_divergence(reference: &[f32], got: &[f32]) -> Result<f64, MetricsError> {
    check(reference, got)?;
    let both = || reference.iter().chain(got).map(|&v| f64::from(v));
    let (min, max) = (
        both().fold(f64::INFINITY, f64::min),
        both().fold(f64::NEG_INFINITY, f64::max),
    );
    if min >= max {
        return Ok(0.0);
    }
    let per_bin = KL_BINS as f64 / (max - min);
    let histogram = |values: &[f32]| {
        let mut bins = vec![PRIOR; KL_BINS];
        for &value in values {
            let bin = ((f64::from(value) - min) * per_bin) as usize;
            if let Some(count) = bins.get_mut(bin.min(KL_BINS - 1)) {
                *count += 1.0;
            }
        }
        bins
    };
    let total = reference.len() as f64 + PRIOR * KL_BINS as f64;
    let terms = histogram(reference).into_iter().zip(histogram(got));
    let divergence: f64 = terms.map(|(p, q)| p / total * libm::log(p / q)).sum();
    Ok(divergence.max(0.0))
}

//! Metrics that no table shows by default and that cost a pass of their own.

use dual16_nash::compare::extremes;

use super::{MetricsError, error::check};

/// Smallest |ref| that [`rtol`] divides by: f32's epsilon, 2^-23 `[our]`.
pub const RTOL_EPSILON: f64 = f32::EPSILON as f64;

/// Bins of [`kl_divergence`].
pub const KL_BINS: usize = 2048;

/// Values that are looked at side by side.
const LANES: usize = 8;

/// What every bin holds beforehand, so that an empty one costs a finite amount `[our]`.
const PRIOR: f64 = 1e-4;

/// Rtol = max over elements of |d| / max(|ref|, [`RTOL_EPSILON`]); 0 of nothing. The rtol of several
/// parts is the largest of theirs.
///
/// # Errors
/// [`MetricsError::Length`], [`MetricsError::NonFinite`].
pub fn rtol(reference: &[f32], got: &[f32]) -> Result<f64, MetricsError> {
    check(reference, got)?;
    Ok(rtol_of_finite(reference, got))
}

/// [`rtol`] of as many finite values on both sides.
pub(super) fn rtol_of_finite(reference: &[f32], got: &[f32]) -> f64 {
    let of = |r: f32, g: f32| {
        let (r, g) = (f64::from(r), f64::from(g));
        (g - r).abs() / r.abs().max(RTOL_EPSILON)
    };
    // Lanes, so that divisions need not wait for one another.
    let mut worst = [0.0; LANES];
    let mut see = |reference: &[f32], got: &[f32]| {
        for (worst, (&r, &g)) in worst.iter_mut().zip(reference.iter().zip(got)) {
            let own = of(r, g);
            *worst = if own > *worst { own } else { *worst };
        }
    };
    let (chunks, rest) = reference.as_chunks::<LANES>();
    let (got_chunks, got_rest) = got.as_chunks::<LANES>();
    let pairs = chunks.iter().zip(got_chunks);
    pairs.for_each(|(reference, got)| see(reference, got));
    see(rest, got_rest);
    worst.into_iter().fold(0.0, f64::max)
}

/// KL(reference || got), in nats, of the two histograms of [`KL_BINS`] equal bins over the range that
/// both tensors span together. >= 0; 0 for equal histograms, so also where all values are equal.
///
/// # Errors
/// [`MetricsError::Length`], [`MetricsError::NonFinite`].
pub fn kl_divergence(reference: &[f32], got: &[f32]) -> Result<f64, MetricsError> {
    check(reference, got)?;
    Ok(kl_divergence_of_finite(reference, got))
}

/// [`kl_divergence`] of as many finite values on both sides.
pub(super) fn kl_divergence_of_finite(reference: &[f32], got: &[f32]) -> f64 {
    let ends = [reference, got].map(extremes);
    let min = f64::from(ends[0].0.min(ends[1].0));
    let max = f64::from(ends[0].1.max(ends[1].1));
    if min >= max {
        return 0.0;
    }
    let per_bin = KL_BINS as f64 / (max - min);
    let counts = [reference, got].map(|values| counts(values, min, per_bin));
    let most = counts.iter().flatten().copied().max().unwrap_or(0);
    // What a bin holds after so many values: each is added by itself, and each sum is rounded.
    let mut held = Vec::with_capacity(most as usize + 1);
    held.push(PRIOR);
    for count in 0..most as usize {
        held.push(held[count] + 1.0);
    }
    let total = reference.len() as f64 + PRIOR * KL_BINS as f64;
    let [reference, got] = counts.map(|counts| counts.into_iter().map(|n| held[n as usize]));
    let terms = reference.zip(got);
    let divergence: f64 = terms.map(|(p, q)| p / total * libm::log(p / q)).sum();
    divergence.max(0.0)
}

/// How many values are in each bin. Neighbours are often in the same, and are counted apart, for the second
/// would wait for the first.
fn counts(values: &[f32], min: f64, per_bin: f64) -> Vec<u32> {
    let mut apart = [vec![0u32; KL_BINS], vec![0u32; KL_BINS]];
    for pair in values.chunks(2) {
        for (bins, &value) in apart.iter_mut().zip(pair) {
            let bin = ((f64::from(value) - min) * per_bin) as usize;
            if let Some(count) = bins.get_mut(bin.min(KL_BINS - 1)) {
                *count += 1;
            }
        }
    }
    let [bins, others] = apart;
    bins.into_iter().zip(others).map(|(a, b)| a + b).collect()
}

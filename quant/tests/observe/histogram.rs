//! The histogram is a function of the multiset of values alone, and percentiles and KL come from it
//! as their definitions say.

use dual16_quant::observe::{
    BINS, Histogram, KL_LEVELS, Percentile, SketchBuilder, kl_threshold, percentile_threshold,
};
use proptest::prelude::*;

/// Any finite value, subnormals and zeros of both signs included.
fn finite() -> impl Strategy<Value = f32> {
    use prop::num::f32::{NEGATIVE, NORMAL, POSITIVE, SUBNORMAL, ZERO};
    NORMAL | SUBNORMAL | ZERO | POSITIVE | NEGATIVE
}

/// Values of comparable size, so that many bins are in use.
fn bulk() -> impl Strategy<Value = Vec<f32>> {
    prop::collection::vec(-100.0f32..100.0, 1..3000)
}

fn histogram(values: &[f32]) -> Histogram {
    let mut builder = SketchBuilder::new(&[values.len()], true);
    builder.update(values);
    builder.finish().histogram().unwrap().clone()
}

fn merged(parts: &[&[f32]]) -> Histogram {
    let mut sum = Histogram::default();
    parts.iter().for_each(|part| sum.merge(&histogram(part)));
    sum
}

/// Bins by comparison with their edges, straight from the definition.
fn naive_counts(values: &[f32], width: f64) -> Vec<u64> {
    let mut counts = vec![0; BINS];
    for value in values {
        counts[(f64::from(value.abs()) / width).floor() as usize] += 1;
    }
    let len = counts
        .iter()
        .rposition(|&count| count > 0)
        .map_or(0, |last| last + 1);
    counts.truncate(len);
    counts
}

proptest! {
    #[test]
    fn merging_in_any_order_equals_the_direct_histogram(
        parts in prop::collection::vec(prop::collection::vec(finite(), 0..40), 1..6),
    ) {
        let direct = histogram(&parts.concat());
        let forth: Vec<&[f32]> = parts.iter().map(Vec::as_slice).collect();
        let back: Vec<&[f32]> = forth.iter().rev().copied().collect();
        prop_assert_eq!(&merged(&forth), &direct);
        prop_assert_eq!(&merged(&back), &direct);
        prop_assert_eq!(direct.total(), parts.concat().len() as u64);
    }

    #[test]
    fn counts_follow_the_definition(values in bulk()) {
        let histogram = histogram(&values);
        prop_assert_eq!(histogram.counts(), naive_counts(&values, histogram.bin_width()));
        let amax = values.iter().fold(0.0f32, |amax, v| amax.max(v.abs()));
        prop_assert!(amax == 0.0 || histogram.bin_width() <= f64::from(amax) / 2048.0);
    }

    #[test]
    fn percentile_is_within_one_bin_above_the_exact_one(values in bulk(), percent in 0.01f64..=100.0) {
        let histogram = histogram(&values);
        let threshold = percentile_threshold(&histogram, Percentile::new(percent).unwrap()).unwrap();
        let mut sorted: Vec<f32> = values.iter().map(|v| v.abs()).collect();
        sorted.sort_by(f32::total_cmp);
        let rank = ((percent / 100.0 * sorted.len() as f64).ceil() as usize).max(1);
        let excess = f64::from(threshold) - f64::from(sorted[rank - 1]);
        prop_assert!((0.0..=histogram.bin_width()).contains(&excess), "{excess} above");
    }

    #[test]
    fn survives_the_wire(values in prop::collection::vec(finite(), 0..100)) {
        let histogram = histogram(&values);
        let bytes = postcard::to_stdvec(&histogram).unwrap();
        prop_assert_eq!(postcard::from_bytes::<Histogram>(&bytes).unwrap(), histogram);
    }
}

#[test]
fn extremes_have_a_bin() {
    for value in [
        0.0,
        -0.0,
        f32::from_bits(1),
        f32::MIN_POSITIVE,
        1.0,
        2.0,
        f32::MAX,
        f32::MIN,
    ] {
        let histogram = histogram(&[value]);
        assert_eq!(histogram.total(), 1, "{value:e}");
        let threshold = percentile_threshold(&histogram, Percentile::default()).unwrap();
        assert!(
            threshold >= value.abs() && threshold.is_finite(),
            "{value:e}: {threshold:e}"
        );
    }
    let mut all = histogram(&[f32::from_bits(1)]);
    all.merge(&histogram(&[f32::MAX]));
    assert_eq!(all, histogram(&[f32::MAX, f32::from_bits(1)]));
}

#[test]
fn of_nothing_there_is_no_threshold() {
    assert_eq!(
        percentile_threshold(&Histogram::default(), Percentile::default()),
        None
    );
    assert_eq!(kl_threshold(&Histogram::default()), None);
}

#[test]
fn a_damaged_histogram_is_refused() {
    let too_many = postcard::to_stdvec(&(0i16, vec![1u64; BINS + 1])).unwrap();
    let too_wide = postcard::to_stdvec(&(500i16, vec![1u64])).unwrap();
    for bytes in [too_many, too_wide] {
        assert!(postcard::from_bytes::<Histogram>(&bytes).is_err());
    }
}

/// KL(P || Q) of one clip, with P and Q spelled out bin by bin.
fn naive_divergence(counts: &[u64], clip: usize) -> Option<f64> {
    let total: u64 = counts.iter().sum();
    let inside: u64 = counts[..clip].iter().sum();
    if inside == 0 {
        return None;
    }
    let mut p: Vec<f64> = counts[..clip].iter().map(|&c| c as f64).collect();
    p[clip - 1] += (total - inside) as f64;
    let mut divergence = 0.0;
    for level in 0..KL_LEVELS {
        let bins = level * clip / KL_LEVELS..(level + 1) * clip / KL_LEVELS;
        let held: u64 = counts[bins.clone()].iter().sum();
        let occupied = p[bins.clone()].iter().filter(|&&p| p > 0.0).count();
        for &p in p[bins].iter().filter(|&&p| p > 0.0) {
            let q = (held as f64).max(1e-4) / occupied as f64 / inside as f64;
            let p = p / total as f64;
            divergence += p * (p / q).ln();
        }
    }
    Some(divergence)
}

/// A bell of 20,000 values (sums of four uniform ones, by a small generator) and outliers.
fn bell_with(outliers: &[f32]) -> Vec<f32> {
    let mut state = 1u64;
    let mut uniform = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    let bell = (0..20_000).map(|_| (0..4).map(|_| uniform()).sum());
    bell.chain(outliers.iter().copied()).collect()
}

#[test]
fn kl_takes_the_least_divergence_of_the_definition() {
    for outliers in [&[][..], &[7.0], &[-30.0, 9.5, 12.0]] {
        let histogram = histogram(&bell_with(outliers));
        let counts = histogram.counts();
        let clips = KL_LEVELS..=counts.len();
        let least = clips
            .filter_map(|clip| naive_divergence(counts, clip))
            .fold(f64::MAX, f64::min);
        let chosen = f64::from(kl_threshold(&histogram).unwrap()) / histogram.bin_width();
        let got = naive_divergence(counts, chosen as usize).unwrap();
        assert!(
            got - least < 1e-12,
            "{outliers:?}: {got} where {least} can be had"
        );
    }
}

#[test]
fn kl_clips_outliers_and_keeps_what_carries_information() {
    let clipped = kl_threshold(&histogram(&bell_with(&[30.0]))).unwrap();
    assert!((0.5..6.0).contains(&clipped), "{clipped}");
    let flat: Vec<f32> = (0..40_000).map(|i| i as f32 / 40_000.0).collect();
    let kept = kl_threshold(&histogram(&flat)).unwrap();
    assert!(kept > 0.95, "{kept}");
}

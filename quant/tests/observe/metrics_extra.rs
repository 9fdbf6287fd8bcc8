//! The metrics that cost a pass of their own: channels, rtol, KL of histograms.

use dual16_quant::metrics::{
    ChannelErrorSums, ErrorSums, KL_BINS, MetricsError, kl_divergence, rtol,
};
use proptest::prelude::*;

const CHANNELS: usize = 5;

proptest! {
    #[test]
    fn every_channel_measures_as_its_own_tensor(
        rows in prop::collection::vec(prop::array::uniform5((-9.0f32..9.0, -9.0f32..9.0)), 1..60),
    ) {
        let (reference, got): (Vec<f32>, Vec<f32>) = rows.concat().into_iter().unzip();
        let half = rows.len() / 2 * CHANNELS;
        let mut sums = ChannelErrorSums::new(CHANNELS);
        let mut rest = sums.clone();
        sums.update(&reference[..half], &got[..half]).unwrap();
        rest.update(&reference[half..], &got[half..]).unwrap();
        sums.merge(&rest).unwrap();

        let mut lowest = f64::INFINITY;
        for (channel, own) in sums.channels().iter().enumerate() {
            let column = |x: &[f32]| x.iter().skip(channel).step_by(CHANNELS).copied().collect::<Vec<_>>();
            let mut direct = ErrorSums::default();
            direct.update(&column(&reference), &column(&got)).unwrap();
            let (a, b) = (own.finish(None), direct.finish(None));
            prop_assert!((a.sqnr_db.unwrap() - b.sqnr_db.unwrap()).abs() < 1e-9);
            let (a_mse, b_mse) = (a.mse.unwrap(), b.mse.unwrap());
            prop_assert!((a_mse - b_mse).abs() <= 1e-12 * b_mse && a.atol == b.atol);
            lowest = lowest.min(a.sqnr_db.unwrap());
        }
        prop_assert_eq!(sums.worst(None).unwrap().metrics.sqnr_db, Some(lowest));
    }

    #[test]
    fn kl_is_never_negative_and_0_for_itself(
        pairs in prop::collection::vec((-5.0f32..5.0, -5.0f32..5.0), 1..300),
    ) {
        let (reference, got): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
        prop_assert_eq!(kl_divergence(&reference, &reference).unwrap(), 0.0);
        prop_assert!(kl_divergence(&reference, &got).unwrap() >= 0.0);
    }

    #[test]
    fn rtol_is_its_formula(pairs in prop::collection::vec((1.0f32..9.0, -9.0f32..9.0), 1..100)) {
        let ratios = pairs.iter().map(|&(r, g)| (f64::from(g) - f64::from(r)).abs() / f64::from(r));
        let expected = ratios.fold(0.0, f64::max);
        let (reference, got): (Vec<f32>, Vec<f32>) = pairs.iter().copied().unzip();
        prop_assert_eq!(rtol(&reference, &got).unwrap(), expected);
    }
}

#[test]
fn the_worst_channel_is_the_noisiest() {
    let mut sums = ChannelErrorSums::new(3);
    sums.update(
        &[1.0, 1.0, 1.0, 2.0, 2.0, 2.0],
        &[1.0, 1.5, 1.1, 2.0, 2.5, 2.1],
    )
    .unwrap();
    let worst = sums.worst(Some(0.5)).unwrap();
    assert_eq!((worst.channel, worst.metrics.lsb), (1, Some(1.0)));
    assert_eq!(ChannelErrorSums::new(3).worst(None), None);
}

#[test]
fn broken_rows_are_refused() {
    let mut sums = ChannelErrorSums::new(3);
    let broken = MetricsError::Channels {
        len: 4,
        channels: 3,
    };
    assert_eq!(sums.update(&[0.0; 4], &[0.0; 4]), Err(broken));
    assert!(sums.merge(&ChannelErrorSums::new(2)).is_err());
    let mut none = ChannelErrorSums::new(0);
    assert!(none.update(&[1.0], &[1.0]).is_err());
    assert!(none.update(&[], &[]).is_ok());
}

#[test]
fn kl_of_two_known_histograms() {
    // Range [0, 1]: the reference half in the first bin and half in the last, the other 1 : 3.
    let divergence = kl_divergence(&[0.0, 0.0, 1.0, 1.0], &[0.0, 1.0, 1.0, 1.0]).unwrap();
    let (prior, total) = (1e-4, 4.0 + 1e-4 * KL_BINS as f64);
    let term = |p: f64, q: f64| (p + prior) / total * ((p + prior) / (q + prior)).ln();
    let expected = term(2.0, 1.0) + term(2.0, 3.0);
    assert!(
        (divergence - expected).abs() < 1e-12,
        "{divergence} is not {expected}"
    );
    assert_eq!(kl_divergence(&[7.0; 3], &[7.0; 3]).unwrap(), 0.0);
    assert_eq!(kl_divergence(&[], &[]).unwrap(), 0.0);
    assert!(kl_divergence(&[f32::MAX], &[f32::MIN]).unwrap().is_finite());
}

#[test]
fn rtol_of_a_zero_reference_is_finite() {
    let worst = rtol(&[0.0, 1.0], &[1e-3, 1.0]).unwrap();
    assert!((worst - f64::from(1e-3f32) / f64::from(f32::EPSILON)).abs() < 1e-9);
    assert!(matches!(
        rtol(&[f32::NAN], &[0.0]),
        Err(MetricsError::NonFinite { .. })
    ));
}

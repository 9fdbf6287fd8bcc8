//! How far two figures of the same rows agree on their order.

/// Spearman's rank correlation, in [-1, 1]: the correlation of ranks, equal figures having the mean
/// of theirs. Infinite figures are the largest or smallest there are. None where there are fewer
/// than two pairs, a NaN, or nothing to order on one side.
///
/// ```
/// use dual16_quant::sensitivity::rank_correlation;
///
/// let exact = [40.1, 13.4, 26.3, f64::INFINITY];
/// let estimate = [39.8, 15.0, 25.0, f64::INFINITY];
/// assert_eq!(rank_correlation(&exact, &estimate), Some(1.0));
/// ```
pub fn rank_correlation(a: &[f64], b: &[f64]) -> Option<f64> {
    if a.len() != b.len() || a.len() < 2 || a.iter().chain(b).any(|x| x.is_nan()) {
        return None;
    }
    let (a, b) = (ranks(a), ranks(b));
    let mean = (a.len() as f64 - 1.0) / 2.0;
    let product = |a: &[f64], b: &[f64]| -> f64 {
        let pairs = a.iter().zip(b);
        pairs.map(|(a, b)| (a - mean) * (b - mean)).sum()
    };
    let norms = (product(&a, &a) * product(&b, &b)).sqrt();
    (norms > 0.0).then(|| product(&a, &b) / norms)
}

/// Ranks from 0, equal figures having the mean of theirs.
fn ranks(figures: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..figures.len()).collect();
    order.sort_by(|&i, &j| figures[i].total_cmp(&figures[j]));
    let mut ranks = vec![0.0; figures.len()];
    let mut start = 0;
    for equal in order.chunk_by(|&i, &j| figures[i] == figures[j]) {
        let rank = start as f64 + (equal.len() as f64 - 1.0) / 2.0;
        equal.iter().for_each(|&index| ranks[index] = rank);
        start += equal.len();
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reversed_order_correlates_negatively() {
        assert_eq!(
            rank_correlation(&[1.0, 2.0, 3.0], &[9.0, 5.0, 1.0]),
            Some(-1.0)
        );
    }

    #[test]
    fn ties_have_their_mean_rank() {
        // By hand: ranks 0.5 0.5 2 3 and 0 1 2 3, whose deviations multiply to 4.5; the norms are
        // sqrt(4.5) and sqrt(5).
        let got = rank_correlation(&[1.0, 1.0, 2.0, 3.0], &[1.0, 2.0, 3.0, 4.0]);
        assert!((got.unwrap_or_default() - 4.5 / (4.5f64 * 5.0).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn what_cannot_be_ordered_has_no_correlation() {
        assert_eq!(rank_correlation(&[1.0], &[1.0]), None);
        assert_eq!(rank_correlation(&[1.0, 1.0], &[1.0, 2.0]), None);
        assert_eq!(rank_correlation(&[1.0, f64::NAN], &[1.0, 2.0]), None);
        assert_eq!(rank_correlation(&[1.0, 2.0], &[1.0]), None);
    }
}

//! Best first: candidates in the order of the bounds on their errors, until the next bound exceeds the
//! least error found. No candidate that could win, or tie, is left out.

use std::cell::OnceCell;

use dual16_nash::dtype::IntDtype;

use super::{super::Range, MSE_CANDIDATES, MseChoice, candidate::Candidate, tails::Tails};

/// With fewer values, 95 passes that end early cost less than the tables of [`Tails`].
const FEW: usize = 4096;

/// The search over one batch. Both dtypes share what one pass over the values has found.
#[derive(Debug)]
pub struct MseSearch<'a> {
    values: &'a [f32],
    range: Range,
    tails: OnceCell<Tails>,
}

impl<'a> MseSearch<'a> {
    /// Over finite values, whose smallest and largest `range` holds.
    pub const fn new(values: &'a [f32], range: Range) -> Self {
        Self {
            values,
            range,
            tails: OnceCell::new(),
        }
    }

    /// The best candidate; to the bit that of [`super::choose_mse_exhaustive`].
    pub fn choose(&self, dtype: IntDtype) -> MseChoice {
        let mut best: Option<(f64, Candidate)> = None;
        for (bound, candidate) in self.by_bound(dtype) {
            let limit = best.map_or(f64::INFINITY, |(squares, _)| squares);
            if bound > limit {
                break;
            }
            let Some(squares) = candidate.squared_error(self.values, dtype, limit) else {
                continue;
            };
            if best.is_none_or(|(least, winner)| {
                squares < least || (squares == least && candidate.index > winner.index)
            }) {
                best = Some((squares, candidate));
            }
        }
        best.map_or(MseChoice::unclipped(self.range), |(squares, candidate)| {
            MseChoice::measured(&candidate, squares)
        })
    }

    /// Candidates that differ in their scales, each with a lower bound on its squared error, the
    /// least first.
    fn by_bound(&self, dtype: IntDtype) -> Vec<(f64, Candidate)> {
        let mut candidates: Vec<_> = (0..MSE_CANDIDATES)
            .rev()
            .filter_map(|index| Candidate::new(index, self.range, dtype))
            .collect();
        // Equal scales make equal errors, and of a tie the larger index wins, which comes first
        // here. Of a range so small that the least scale holds for all of it, one is left.
        candidates.dedup_by_key(|candidate| candidate.scale.get());
        if self.values.len() < FEW || candidates.len() == 1 {
            return candidates.into_iter().map(|c| (0.0, c)).collect();
        }
        let tails = self.tails.get_or_init(|| Tails::new(self.values));
        let mut bounded: Vec<_> = candidates
            .into_iter()
            .map(|candidate| (tails.least_squares(candidate.scale, dtype), candidate))
            .collect();
        bounded.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        bounded
    }
}

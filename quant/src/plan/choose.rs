//! The choice among measured ways.

use dual16_nash::ways::Way;

/// Ways within this many dB of the best are equally good; the cheaper one is taken, and one on the
/// matrix unit before one on the vector unit.
pub const SQNR_TIE_DB: f64 = 0.5;

/// What the choice needs to know of a way.
#[derive(Debug, Clone, Copy)]
pub struct Candidate {
    /// The way.
    pub way: Way,
    /// Whether the toolchain can run it.
    pub legal: bool,
    /// Isolated SQNR in dB; infinite for no error at all.
    pub sqnr_db: f64,
    /// Multiply-accumulates.
    pub macs: u64,
}

/// The legal way with the best SQNR; among those within [`SQNR_TIE_DB`] of it one that the matrix
/// unit runs, whatever it multiplies: a multiplication on the vector unit is no cheap one. Among
/// those the one with the fewest multiply-accumulates, then the higher SQNR, then the earlier in the
/// list. `None` if no candidate is legal.
pub fn choose(candidates: &[Candidate]) -> Option<Way> {
    let legal = || candidates.iter().filter(|candidate| candidate.legal);
    let best = legal()
        .map(|candidate| candidate.sqnr_db)
        .fold(f64::NEG_INFINITY, f64::max);
    let good = legal().filter(|candidate| candidate.sqnr_db >= best - SQNR_TIE_DB);
    let order = |a: &&Candidate, b: &&Candidate| {
        let vector_unit = |candidate: &Candidate| candidate.way.int16_gemm_operands().is_none();
        (vector_unit(a), a.macs)
            .cmp(&(vector_unit(b), b.macs))
            .then_with(|| b.sqnr_db.total_cmp(&a.sqnr_db))
    };
    good.min_by(order).map(|candidate| candidate.way)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(way: Way, legal: bool, sqnr_db: f64, macs: u64) -> Candidate {
        Candidate {
            way,
            legal,
            sqnr_db,
            macs,
        }
    }

    #[test]
    fn an_illegal_way_is_never_chosen_however_good() {
        let ways = [
            candidate(Way::A16W16, false, 90.0, 1),
            candidate(Way::A16W8, true, 10.0, 1),
        ];
        assert_eq!(choose(&ways), Some(Way::A16W8));
    }

    #[test]
    fn within_half_a_decibel_the_cheaper_way_wins() {
        let near = [
            candidate(Way::Split, true, 48.7, 2),
            candidate(Way::A16W8, true, 48.3, 1),
        ];
        assert_eq!(choose(&near), Some(Way::A16W8));
        let far = [
            candidate(Way::Split, true, 48.7, 2),
            candidate(Way::MulSum, true, 39.3, 1),
        ];
        assert_eq!(choose(&far), Some(Way::Split));
    }

    #[test]
    fn a_tie_never_goes_to_the_vector_unit() {
        let poor = [
            candidate(Way::MulSum, true, 0.28, 1),
            candidate(Way::A8W8, true, 0.27, 1),
            candidate(Way::Split, true, 0.27, 2),
        ];
        assert_eq!(choose(&poor), Some(Way::A8W8));
        let near = [
            candidate(Way::MulSum, true, 48.7, 1),
            candidate(Way::Split, true, 48.3, 2),
        ];
        assert_eq!(choose(&near), Some(Way::Split));
        let alone = [
            candidate(Way::MulSum, true, 39.3, 1),
            candidate(Way::A16W8, true, 13.4, 1),
        ];
        assert_eq!(choose(&alone), Some(Way::MulSum));
    }

    #[test]
    fn no_error_at_all_beats_everything_and_ties_go_to_the_cheaper() {
        let exact = f64::INFINITY;
        let ways = [
            candidate(Way::Split, true, exact, 2),
            candidate(Way::A16W8, true, exact, 1),
        ];
        assert_eq!(choose(&ways), Some(Way::A16W8));
    }

    #[test]
    fn nothing_legal_chooses_nothing() {
        assert_eq!(choose(&[candidate(Way::A16W16, false, 50.0, 1)]), None);
    }
}

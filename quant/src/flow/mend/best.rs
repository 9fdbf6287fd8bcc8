//! The best plan that a search has measured. What each change brings is an estimate, and errors of changes that
//! are made together may add up where they were estimated apart: a search that does not reach its aim could
//! otherwise end with less than it had.

use serde::{Deserialize, Serialize};

use crate::plan::Change;

/// dB that an earlier plan must be ahead for the search to go back to it.
const AHEAD_DB: f64 = 0.1;

/// A plan that was measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Best {
    /// SQNR of each output, in dB.
    outputs_db: Vec<f64>,
    /// Its last round.
    pub(super) round: u32,
    pub(super) changes: Vec<Change>,
}

impl Best {
    pub(super) fn new(outputs_db: &[f64], round: u32, changes: &[Change]) -> Self {
        Best {
            outputs_db: outputs_db.to_vec(),
            round,
            changes: changes.to_vec(),
        }
    }

    /// Whether it is ahead, by more than noise, of outputs with this SQNR in dB: at the output that is
    /// furthest from its aim in either.
    pub(super) fn is_ahead(&self, outputs_db: &[f64], aims: &[f64]) -> bool {
        short_db(&self.outputs_db, aims) < short_db(outputs_db, aims) - AHEAD_DB
    }

    /// Whether another is as good.
    pub(super) fn is_no_better(&self, other: &Best, aims: &[f64]) -> bool {
        short_db(&other.outputs_db, aims) <= short_db(&self.outputs_db, aims)
    }
}

/// dB that the worst output is short of its aim; negative where all have more.
fn short_db(outputs_db: &[f64], aims: &[f64]) -> f64 {
    let short = aims.iter().zip(outputs_db).map(|(aim, db)| aim - db);
    short.fold(f64::NEG_INFINITY, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_furthest_from_its_aim_decides() {
        let best = Best::new(&[38.0, 52.0], 2, &[]);
        let aims = [40.0, 60.0];
        assert!(best.is_ahead(&[45.0, 51.0], &aims));
        assert!(!best.is_ahead(&[30.0, 52.0], &[20.0, 60.0]));
        assert!(!best.is_ahead(&[38.0, 51.95], &aims), "no more than noise");
        // With another aim it is another one.
        assert!(!best.is_ahead(&[45.0, 51.0], &[40.0, 50.0]));
    }
}

//! The sums that all cheap metrics come from.

use dual16_nash::compare::{LANES, error_lanes};
use serde::{Deserialize, Serialize};

use super::{Metrics, MetricsError, error::check_len};
use crate::observe::NonFiniteAt;

/// Elements that are summed lane by lane before they join the total.
const BLOCK: usize = 1024;

/// A mergeable accumulator of errors: count, sums and maximum, all in f64.
///
/// The last bits of a sum depend on the order of calls, so a caller that wants equal bytes updates
/// and merges in a fixed order (map order, batch order).
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct ErrorSums {
    count: u64,
    reference_squares: f64,
    got_squares: f64,
    products: f64,
    error_abs: f64,
    error_squares: f64,
    error_max: f64,
    /// Positions at which the reference is not finite.
    left_out: u64,
    /// Positions at which the reference is finite and the other is not.
    broken: u64,
}

/// Both tensors are equal.
const NO_ERROR: &str = "there is no error";
/// Every batch was empty here.
const NOTHING: &str = "no measured batch has an element of it";

impl ErrorSums {
    /// Takes in two tensors, or matching parts of them, element by element. Where the reference is
    /// not finite there is nothing to compare with: those positions are left out and counted.
    ///
    /// # Errors
    /// [`MetricsError::Length`]; the sums are then as they were.
    pub fn update(&mut self, reference: &[f32], got: &[f32]) -> Result<(), MetricsError> {
        check_len(reference, got)?;
        if NonFiniteAt::check(reference).is_ok() && NonFiniteAt::check(got).is_ok() {
            self.add(reference, got);
            return Ok(());
        }
        let (mut finite_reference, mut finite_got) = (Vec::new(), Vec::new());
        for (&reference, &got) in reference.iter().zip(got) {
            match (reference.is_finite(), got.is_finite()) {
                (false, _) => self.left_out += 1,
                (true, false) => self.broken += 1,
                (true, true) => {
                    finite_reference.push(reference);
                    finite_got.push(got);
                }
            }
        }
        self.add(&finite_reference, &finite_got);
        Ok(())
    }

    /// Finite values.
    fn add(&mut self, reference: &[f32], got: &[f32]) {
        for (reference, got) in reference.chunks(BLOCK).zip(got.chunks(BLOCK)) {
            self.merge(&Self::of_block(reference, got));
        }
    }

    /// Sum of the squares of the reference.
    pub fn reference_energy(&self) -> f64 {
        self.reference_squares
    }

    /// Sum of the squares of the error.
    pub fn error_energy(&self) -> f64 {
        self.error_squares
    }

    /// Adds the sums of other elements.
    pub fn merge(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.reference_squares += other.reference_squares;
        self.got_squares += other.got_squares;
        self.products += other.products;
        self.error_abs += other.error_abs;
        self.error_squares += other.error_squares;
        self.error_max = self.error_max.max(other.error_max);
        self.left_out = self.left_out.saturating_add(other.left_out);
        self.broken = self.broken.saturating_add(other.broken);
    }

    /// The metrics of everything taken in; of nothing, those of a perfect match.
    ///
    /// `output_scale` is the step of the quantized output, > 0; `None` for a high-precision one.
    pub fn finish(&self, output_scale: Option<f32>) -> Metrics {
        let left_out = self.left_out;
        let none = |reason: String| Metrics {
            left_out,
            ..Metrics::none(reason)
        };
        if self.broken > 0 {
            return none(format!(
                "the quantized tensor is NaN or infinite at {} positions",
                self.broken
            ));
        }
        if self.count == 0 && left_out > 0 {
            return none("the reference is nowhere finite".to_owned());
        }
        let mean = |sum: f64| match self.count {
            0 => 0.0,
            count => sum / count as f64,
        };
        let zero_reference = self.reference_squares == 0.0;
        let (sqnr_db, reason) = match self.sqnr_db() {
            None if self.count == 0 => (None, NOTHING),
            None => (None, NO_ERROR),
            Some(_) if zero_reference => (None, "the reference is 0 everywhere"),
            Some(db) => (Some(db), ""),
        };
        Metrics {
            sqnr_db,
            cosine: Some(self.cosine()),
            l1: Some(mean(self.error_abs)),
            mse: Some(mean(self.error_squares)),
            atol: Some(self.error_max),
            lsb: output_scale.map(|scale| self.error_max / f64::from(scale)),
            reason: reason.to_owned(),
            left_out,
        }
    }

    /// Whether nothing was taken in at all.
    pub(crate) const fn is_empty(&self) -> bool {
        self.count == 0 && self.left_out == 0 && self.broken == 0
    }

    /// Whether every one of so many elements was compared.
    pub(super) const fn is_of_all(&self, elements: usize) -> bool {
        self.count == elements as u64
    }

    /// Number of elements compared.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// See [`Metrics::sqnr_db`]; here a reference of zeros counts as the smallest normal f64, which
    /// gives a finite and very low figure.
    pub(super) fn sqnr_db(&self) -> Option<f64> {
        if self.error_squares == 0.0 {
            return None;
        }
        // A difference of logarithms, because the ratio could leave the range of f64.
        let signal = self.reference_squares.max(f64::MIN_POSITIVE);
        Some(10.0 * (libm::log10(signal) - libm::log10(self.error_squares)))
    }

    fn cosine(&self) -> f64 {
        match (self.reference_squares == 0.0, self.got_squares == 0.0) {
            (true, true) => 1.0,
            (true, false) | (false, true) => 0.0,
            (false, false) => {
                let norms = self.reference_squares.sqrt() * self.got_squares.sqrt();
                if self.error_squares == 0.0 {
                    1.0
                } else {
                    (self.products / norms).clamp(-1.0, 1.0)
                }
            }
        }
    }

    /// One pair of finite values.
    #[inline(always)]
    pub(super) fn add_pair(&mut self, reference: f32, got: f32) {
        let (reference, got) = (f64::from(reference), f64::from(got));
        self.count += 1;
        let error = got - reference;
        self.reference_squares += reference * reference;
        self.got_squares += got * got;
        self.products += reference * got;
        self.error_abs += error.abs();
        self.error_squares += error * error;
        self.error_max = self.error_max.max(error.abs());
    }

    /// Lanes break the chain of additions; their order is fixed.
    fn of_block(reference: &[f32], got: &[f32]) -> Self {
        let sums = error_lanes(reference, got);
        let mut block = Self::default();
        for lane in 0..LANES {
            block.merge(&Self {
                count: reference.len().saturating_sub(lane).div_ceil(LANES) as u64,
                reference_squares: sums.reference_squares[lane],
                got_squares: sums.got_squares[lane],
                products: sums.products[lane],
                error_abs: sums.error_abs[lane],
                error_squares: sums.error_squares[lane],
                error_max: sums.error_max[lane],
                left_out: 0,
                broken: 0,
            });
        }
        block
    }
}

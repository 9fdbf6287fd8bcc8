//! The error of one output of the model, in every metric.

use serde::{Deserialize, Serialize};

use super::{
    ErrorSums, Metric, Metrics,
    extra::{kl_divergence_of_finite, rtol_of_finite},
};
use crate::{
    Error, Result,
    tensor::{Datum, Tensor},
};

/// Sums that every metric of an output follows from; batches are merged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct OutputError {
    sums: ErrorSums,
    /// The largest of the batches'.
    rtol: f64,
    /// Each batch's, times the number of its elements.
    kl: f64,
}

impl OutputError {
    /// Compares an output with the float run's. Positions that are not finite on either side are
    /// counted as [`ErrorSums::update`] does and take no part in Rtol and KL.
    ///
    /// # Errors
    /// Outputs of different lengths, naming the output.
    pub fn of(name: &str, reference: &Datum, got: &Datum) -> Result<Self> {
        match (reference, got) {
            (Datum::F32(reference), Datum::F32(got)) => Self::of_tensors(name, reference, got),
            _ => Ok(OutputError::default()),
        }
    }

    /// The same of float tensors.
    pub(crate) fn of_tensors(name: &str, reference: &Tensor, got: &Tensor) -> Result<Self> {
        let (reference, got) = (reference.as_standard_layout(), got.as_standard_layout());
        let (reference, got) = (
            reference.as_slice().unwrap_or_default(),
            got.as_slice().unwrap_or_default(),
        );
        let failed = |error: crate::metrics::MetricsError| Error::FloatRun {
            node: name.to_owned(),
            reason: error.to_string(),
        };
        let mut sums = ErrorSums::default();
        sums.update(reference, got).map_err(failed)?;
        let (rtol, kl) = match sums.is_of_all(reference.len()) {
            true => extra(reference, got),
            false => {
                let pairs = reference.iter().zip(got);
                let pairs = pairs.filter(|(a, b)| a.is_finite() && b.is_finite());
                let (reference, got): (Vec<f32>, Vec<f32>) = pairs.unzip();
                extra(&reference, &got)
            }
        };
        Ok(OutputError {
            sums,
            rtol,
            kl: kl * sums.count() as f64,
        })
    }

    /// Adds another batch.
    pub fn merge(&mut self, other: &Self) {
        self.sums.merge(&other.sums);
        self.rtol = self.rtol.max(other.rtol);
        self.kl += other.kl;
    }

    /// The sums of the cheap metrics.
    pub fn sums(&self) -> &ErrorSums {
        &self.sums
    }

    /// The cheap metrics.
    pub fn metrics(&self) -> Metrics {
        self.sums.finish(None)
    }

    /// One metric; None where it has no finite figure, as the SQNR of an output without error. KL is
    /// the mean of the batches', weighted by their elements.
    pub fn figure(&self, metric: Metric) -> Option<f64> {
        let metrics = self.metrics();
        match metric {
            Metric::Rtol => metrics.l1.map(|_| self.rtol),
            Metric::Kl => metrics.l1.map(|_| match self.sums.count() {
                0 => 0.0,
                count => self.kl / count as f64,
            }),
            other => other.of(&metrics),
        }
    }
}

/// Rtol and KL of finite values.
fn extra(reference: &[f32], got: &[f32]) -> (f64, f64) {
    (
        rtol_of_finite(reference, got),
        kl_divergence_of_finite(reference, got),
    )
}

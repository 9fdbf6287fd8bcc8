//! Metrics by name, and how a table sorts by each: the worst row first.

use std::{cmp::Ordering, fmt, str::FromStr};

use dual16_nash::ParseError;
use serde::{Deserialize, Serialize};

use super::Metrics;

/// A column that tables can sort by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// Signal to quantization noise, dB.
    Sqnr,
    /// Cosine similarity.
    Cosine,
    /// Mean absolute error.
    L1,
    /// Mean squared error.
    Mse,
    /// Largest absolute error.
    Atol,
    /// Largest error in steps of the output scale.
    Lsb,
    /// Largest relative error.
    Rtol,
    /// Divergence of histograms.
    Kl,
}

/// Direction of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SortOrder {
    /// Smallest first.
    Ascending,
    /// Largest first.
    Descending,
}

impl SortOrder {
    /// Compares two figures in this direction.
    pub fn compare(self, a: f64, b: f64) -> Ordering {
        match self {
            Self::Ascending => a.total_cmp(&b),
            Self::Descending => b.total_cmp(&a),
        }
    }
}

impl Metric {
    /// Every metric.
    pub const ALL: [Self; 8] = [
        Self::Sqnr,
        Self::Cosine,
        Self::L1,
        Self::Mse,
        Self::Atol,
        Self::Lsb,
        Self::Rtol,
        Self::Kl,
    ];

    /// Direction that puts the worst first: ascending for Cosine and SQNR, descending for the others.
    pub const fn sort_order(self) -> SortOrder {
        match self {
            Self::Sqnr | Self::Cosine => SortOrder::Ascending,
            _ => SortOrder::Descending,
        }
    }

    /// The figure in `metrics`; `None` where it has none, or where the metric is not part of them
    /// (rtol, kl).
    pub const fn of(self, metrics: &Metrics) -> Option<f64> {
        match self {
            Self::Sqnr => metrics.sqnr_db,
            Self::Cosine => metrics.cosine,
            Self::L1 => metrics.l1,
            Self::Mse => metrics.mse,
            Self::Atol => metrics.atol,
            Self::Lsb => metrics.lsb,
            Self::Rtol | Self::Kl => None,
        }
    }

    /// Orders rows by this metric, the worst first: rows whose error has no figure before all others,
    /// rows that have no error, or no such metric, after them. For a stable sort.
    pub fn worst_first(self, a: &Metrics, b: &Metrics) -> Ordering {
        let group = |metrics: &Metrics| match self.of(metrics) {
            Some(_) => 1,
            None if metrics.sqnr_rank() == f64::NEG_INFINITY => 0,
            None => 2,
        };
        match (self.of(a), self.of(b)) {
            (Some(a), Some(b)) => self.sort_order().compare(a, b),
            _ => group(a).cmp(&group(b)),
        }
    }

    /// Lower-case name: "sqnr", "cosine" …
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sqnr => "sqnr",
            Self::Cosine => "cosine",
            Self::L1 => "l1",
            Self::Mse => "mse",
            Self::Atol => "atol",
            Self::Lsb => "lsb",
            Self::Rtol => "rtol",
            Self::Kl => "kl",
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Metric {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|metric| metric.name() == s)
            .ok_or_else(|| ParseError {
                what: "metric",
                got: s.to_owned(),
                expected: "sqnr, cosine, l1, mse, atol, lsb, rtol, kl",
            })
    }
}

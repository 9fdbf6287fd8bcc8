//! Which observer and which merge a job or a value uses. The arithmetic of an observer is in its own file.

use std::{fmt, str::FromStr};

use dual16_nash::{ParseError, dtype::IntDtype};
use serde::{Deserialize, Serialize};

use super::{ObserveError, RangeChoice, Statistics, Wants, kl::Kl, minmax::MinMax, mse::Mse};

/// An observer: a file of its own, and a row of [`ObserverKind::row`].
pub(super) trait Observer {
    /// Parts of a sketch that it reads for a value of this dtype.
    fn wants(&self, dtype: IntDtype) -> Wants;

    /// The range that it takes; see [`Statistics::range`].
    fn range(
        &self,
        seen: &Statistics,
        dtype: IntDtype,
        merge: MergeMode,
    ) -> Result<RangeChoice, ObserveError>;
}

/// How a range is taken from what was observed.
///
/// A fixed scale is not among them: it is a setting that needs no data.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ObserverKind {
    /// Smallest and largest value.
    #[default]
    MinMax,
    /// The shrunken range with the least L2 error of fake quantization.
    Mse,
    /// The range clipped where the given share of all |x| lies inside.
    Percentile(Percentile),
    /// The range clipped where the entropy lost to 128 levels is least; int8 only.
    Kl,
}

impl ObserverKind {
    /// Every observer, with its defaults.
    const ALL: [Self; 4] = [
        Self::MinMax,
        Self::Mse,
        Self::Percentile(Percentile::DEFAULT),
        Self::Kl,
    ];

    /// What it is called, and what it is.
    fn row(&self) -> (&'static str, &dyn Observer) {
        match self {
            Self::MinMax => ("minmax", &MinMax),
            Self::Mse => ("mse", &Mse),
            Self::Percentile(percentile) => ("percentile", percentile),
            Self::Kl => ("kl", &Kl),
        }
    }

    /// "minmax", "mse", "percentile" or "kl".
    pub fn name(self) -> &'static str {
        self.row().0
    }

    pub(super) fn observer(&self) -> &dyn Observer {
        self.row().1
    }
}

/// The name; a percentile that is not the default follows it: "percentile:99.9".
impl fmt::Display for ObserverKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Percentile(p) if *p != Percentile::default() => {
                write!(f, "{}:{}", self.name(), p.get())
            }
            _ => f.pad(self.name()),
        }
    }
}

const OBSERVERS: &str = "minmax, mse, percentile, percentile:P with P in (0, 100], kl";

impl FromStr for ObserverKind {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let unknown = || ParseError {
            what: "observer",
            got: s.to_owned(),
            expected: OBSERVERS,
        };
        if let Some(kind) = Self::ALL.into_iter().find(|kind| kind.name() == s) {
            return Ok(kind);
        }
        let percent = s.strip_prefix("percentile:").ok_or_else(unknown)?;
        let percent = percent.parse().ok().and_then(Percentile::new);
        percent.map(Self::Percentile).ok_or_else(unknown)
    }
}

impl TryFrom<String> for ObserverKind {
    type Error = ParseError;

    fn try_from(s: String) -> Result<Self, Self::Error> {
        s.parse()
    }
}

impl From<ObserverKind> for String {
    fn from(kind: ObserverKind) -> Self {
        kind.to_string()
    }
}

/// A share of values in percent, in (0, 100]; 99.99 by default.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Percentile(f64);

impl Percentile {
    const DEFAULT: Self = Self(99.99);

    /// The percentile, or `None` unless `percent` is in (0, 100].
    pub fn new(percent: f64) -> Option<Self> {
        (percent > 0.0 && percent <= 100.0).then_some(Self(percent))
    }

    /// In percent.
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl Default for Percentile {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// How the batches of one value merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MergeMode {
    /// Lossless and independent of order: min of mins, max of maxes, sum of histograms.
    #[default]
    Exact,
    /// Exponential moving average of the batches' ranges in batch order, for parity with the
    /// vendor's tool; see [`super::Range::ema_step`].
    Ema,
}

impl MergeMode {
    /// "exact" or "ema".
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Ema => "ema",
        }
    }
}

impl fmt::Display for MergeMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for MergeMode {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        match s {
            "exact" => Ok(Self::Exact),
            "ema" => Ok(Self::Ema),
            _ => Err(ParseError {
                what: "merge",
                got: s.to_owned(),
                expected: "exact, ema",
            }),
        }
    }
}

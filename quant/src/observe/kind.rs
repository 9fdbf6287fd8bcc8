//! Which observer and which merge a job or a value uses. Names only; the arithmetic is elsewhere.

use std::{fmt, str::FromStr};

use dual16_nash::ParseError;
use serde::{Deserialize, Serialize};

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
    /// "minmax", "mse", "percentile" or "kl".
    pub const fn name(self) -> &'static str {
        match self {
            Self::MinMax => "minmax",
            Self::Mse => "mse",
            Self::Percentile(_) => "percentile",
            Self::Kl => "kl",
        }
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
        match s {
            "minmax" => Ok(Self::MinMax),
            "mse" => Ok(Self::Mse),
            "percentile" => Ok(Self::Percentile(Percentile::default())),
            "kl" => Ok(Self::Kl),
            _ => {
                let percent = s.strip_prefix("percentile:").ok_or_else(unknown)?;
                let percent = percent.parse().ok().and_then(Percentile::new);
                percent.map(Self::Percentile).ok_or_else(unknown)
            }
        }
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
        Self(99.99)
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

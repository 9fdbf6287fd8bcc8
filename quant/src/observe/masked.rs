//! Masked elements: they say that something is left out, so no range is taken of them.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::Range;

/// Masked elements of one value.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Masked {
    count: u64,
    /// Of the finite ones.
    range: Option<Range>,
}

impl Masked {
    /// Parts the masked elements from the rest; a copy is made only where there are some.
    pub fn part(values: &[f32], is_masked: impl Fn(f32) -> bool) -> (Cow<'_, [f32]>, Option<Self>) {
        let count = values.iter().filter(|&&x| is_masked(x)).count();
        if count == 0 {
            return (values.into(), None);
        }
        let masked = values.iter().filter(|&&x| is_masked(x));
        let masked = Masked {
            count: count as u64,
            range: masked
                .filter_map(|&x| Range::new(x, x))
                .reduce(Range::union),
        };
        let rest = values.iter().copied().filter(|&x| !is_masked(x));
        (rest.collect(), Some(masked))
    }

    /// Those of two batches.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Masked {
            count: self.count.saturating_add(other.count),
            range: match (self.range, other.range) {
                (Some(a), Some(b)) => Some(a.union(b)),
                (a, b) => a.or(b),
            },
        }
    }

    /// How many.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The finite ones' smallest and largest; `None` where all are infinite.
    pub const fn range(&self) -> Option<Range> {
        self.range
    }
}

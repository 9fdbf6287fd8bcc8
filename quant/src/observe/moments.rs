//! Count, mean and variance in f64, accurate also where the mean is far larger than the deviation.

use serde::{Deserialize, Serialize};

/// Count, mean and sum of squared deviations from the mean.
///
/// Two halves combine by Chan, Golub, LeVeque, "Algorithms for computing the sample variance"
/// (1983); a plain sum of squares would lose every digit of the variance to cancellation where
/// mean^2 / variance exceeds 2^53.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Moments {
    count: u64,
    mean: f64,
    /// Sum of (x - mean)^2.
    squares: f64,
}

impl Moments {
    /// Of a block that fits the cache: the mean first, then the deviations from it.
    pub(super) fn of_block(block: &[f32]) -> Self {
        if block.is_empty() {
            return Self::default();
        }
        let mean = lane_sum(block, |x| x) / block.len() as f64;
        let squares = lane_sum(block, |x| (x - mean) * (x - mean));
        Self {
            count: block.len() as u64,
            mean,
            squares,
        }
    }

    /// Takes in the moments of other values. The last bits depend on the order of merges, so a
    /// caller merges in a fixed one.
    pub fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        let count = self.count.saturating_add(other.count);
        let share = other.count as f64 / count as f64;
        let delta = other.mean - self.mean;
        self.mean += delta * share;
        self.squares += other.squares + delta * delta * share * self.count as f64;
        self.count = count;
    }

    /// Number of values.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Arithmetic mean; 0 of nothing.
    pub const fn mean(&self) -> f64 {
        self.mean
    }

    /// Population variance (divisor n); 0 of nothing.
    pub fn variance(&self) -> f64 {
        if self.count == 0 {
            0.0
        } else {
            self.squares / self.count as f64
        }
    }
}

/// Sum over eight independent lanes: a fixed order that still vectorizes.
fn lane_sum(block: &[f32], f: impl Fn(f64) -> f64) -> f64 {
    let mut lanes = [0.0; 8];
    let (octets, rest) = block.as_chunks::<8>();
    for octet in octets {
        for (lane, &x) in lanes.iter_mut().zip(octet) {
            *lane += f(x.into());
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane += f(x.into());
    }
    lanes.iter().sum()
}

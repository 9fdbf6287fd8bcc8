//! How urgent a job is, next to others.

use serde::{Deserialize, Serialize};

/// Which jobs' tasks are leased first. Of no influence on what they compute.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// After the others, though not never.
    Low,
    /// Unless said otherwise; also of every job that was stored before there were priorities.
    #[default]
    Normal,
    /// Before the others.
    High,
}

impl Priority {
    /// Every priority, the lowest first; the place of each is its number.
    pub const ALL: [Self; 3] = [Self::Low, Self::Normal, Self::High];
}

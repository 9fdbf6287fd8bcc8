//! A model made by hand, lowered, checked value by value, and told as the list of its operators.

use super::{
    Sample,
    made::{self, Made},
    reference,
};

/// Of the f64 reference against the float run, relative to the range of each value.
pub const TOLERANCE: f64 = 1e-4;

/// Of the input x.
pub const SHAPE: [usize; 3] = [2, 3, 4];

pub fn sample(made: Made) -> Sample {
    Sample::new(made.model(), made::batch(&SHAPE))
}

/// Lowers a model, compares every value, and returns the operators.
pub fn operators(made: Made) -> Vec<String> {
    let sample = sample(made);
    let worst = reference::worst_difference(&sample);
    assert!(worst < TOLERANCE, "{worst}");
    sample
        .graph
        .nodes
        .iter()
        .map(|node| reference::kind(&node.op))
        .collect()
}

/// A model with the input x.
pub fn x() -> Made {
    Made::new(&SHAPE)
}

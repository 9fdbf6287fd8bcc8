//! Why a node cannot be run rightly; whoever walks the graph adds which node it is.

/// A reason, in terms of the node's operator and attributes, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal(pub(super) String);

impl Refusal {
    pub(super) fn new(reason: impl Into<String>) -> Refusal {
        Refusal(reason.into())
    }
}

/// What is said of corners of a length that a scale gives a fraction: ONNX's own tests align those
/// of the fractional length, its runtimes the whole one's.
pub(crate) fn two_ways_to_align(length: f32) -> String {
    format!(
        "the corners of {length} elements can be aligned in two ways; give it sizes instead of scales"
    )
}

/// What is said of an axis whose first element is its last.
pub(crate) const NO_TWO_CORNERS: &str = "an axis of length 1 has no two corners to align";

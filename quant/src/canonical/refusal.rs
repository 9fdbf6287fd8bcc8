//! Why a node cannot be run rightly; whoever walks the graph adds which node it is.

/// A reason, in terms of the node's operator and attributes, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal(pub(super) String);

impl Refusal {
    pub(super) fn new(reason: impl Into<String>) -> Refusal {
        Refusal(reason.into())
    }
}

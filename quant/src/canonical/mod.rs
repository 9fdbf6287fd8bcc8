//! The canonical form of a model: whatever a file says in one of ONNX's many ways is said in one,
//! with every attribute written out and the meaning of one operator set. Float execution and
//! lowering read this form and nothing else.
//!
//! [`form`] walks the nodes in order. Each is offered to the [`rewrites`]; what one of them puts in
//! its place is offered to them again, until none applies. Then [`operators`] says whether what is
//! left can be run rightly; if not, the model is refused by node and reason.
//!
//! # Layout
//! - [`known`]: types, shapes and constants of what was made before a node; [`types`] infers them, [`moved`]
//!   and [`followed`] the constants that are not written as such;
//! - [`replacement`]: how a rewrite writes nodes;
//! - [`rewrites`]: a file a rewrite;
//! - [`functions`], [`branches`]: model-local functions, and If with a constant condition, inlined;
//! - [`doubles`]: which nodes can lose what a double has and f32 has not;
//! - [`open`]: which Casts may be given what no integer is;
//! - [`counters`]: which integers in the body of a Loop cannot become large;
//! - [`fold`]: what needs to be known of who consumes a value: BatchNormalization into the Linear or
//!   Conv before it;
//! - [`operators`]: the table of operators;
//! - [`written`]: the form as messages of ONNX.

mod branches;
mod counters;
mod decode;
mod doubles;
mod fold;
mod followed;
mod form;
mod functions;
mod known;
mod moved;
mod open;
mod operators;
mod refusal;
mod replacement;
mod rewrites;
mod sparse;
mod types;
mod written;

pub use form::rewrite_names;
pub use operators::{Fate, Operator, operators};

pub(crate) use decode::narrowed;
pub(crate) use doubles::{Loss, Watch};
pub(crate) use form::{Canonical, canonical};
pub(crate) use open::OPEN;
pub(crate) use refusal::{NO_TWO_CORNERS, two_ways_to_align};
pub(crate) use replacement::{float_attribute, int_attribute, ints_attribute, text_attribute};
pub(crate) use written::{file, named};

/// Version of the standard operator set whose meaning the form has. From it on axes, bounds and
/// sizes are inputs, Softmax works along one axis and Resize is what it is today.
pub(crate) const OPSET: i64 = 21;

/// Domain of the operators that this crate runs by kernels of its own.
pub(crate) const OWN_DOMAIN: &str = "dual16";

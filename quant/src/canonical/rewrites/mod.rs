//! The rewrites: each looks at one node of an operator and says what stands in for it, if anything.
//! They are tried in the order of [`ALL`], again on what they made, until none applies; a rewrite
//! that applies must leave nothing that it applies to.

mod activations;
mod attention;
mod broadcast_axis;
mod cast;
mod defaults;
mod dequantize;
mod einsum;
mod gemm;
mod integers;
mod kernels;
mod matmul;
mod norms;
mod older;
mod pow;
mod quantized;
mod reductions;
mod rotary;
mod sign;
mod softmax;
mod windowed;
mod windows;

use super::{known::Known, refusal::Refusal};
use crate::onnx::{AttributeProto, NodeProto};

/// What stands in for a node; None where it stays.
pub(super) type Rewritten = Result<Option<Vec<NodeProto>>, Refusal>;

/// A rewrite of nodes of some operators.
type Rewrite = fn(&Known<'_>, &Node<'_>) -> Rewritten;

/// In the order they are tried.
const ALL: &[Rewrite] = &[
    older::rewrite,
    broadcast_axis::rewrite,
    defaults::rewrite,
    windows::rewrite,
    windowed::rewrite,
    softmax::rewrite,
    activations::rewrite,
    norms::rewrite,
    attention::rewrite,
    rotary::rewrite,
    einsum::rewrite,
    pow::rewrite,
    gemm::rewrite,
    matmul::rewrite,
    cast::rewrite,
    sign::rewrite,
    dequantize::rewrite,
    quantized::rewrite,
    reductions::rewrite,
    integers::rewrite,
    kernels::rewrite,
];

/// The first rewrite that applies to a node of the standard operators.
pub(super) fn apply(known: &Known<'_>, node: &NodeProto) -> Rewritten {
    if !node.domain.is_empty() {
        return Ok(None);
    }
    let node = Node { proto: node };
    for rewrite in ALL {
        if let Some(nodes) = rewrite(known, &node)? {
            return Ok(Some(nodes));
        }
    }
    Ok(None)
}

/// A node as rewrites read it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node<'n> {
    pub(super) proto: &'n NodeProto,
}

impl<'n> Node<'n> {
    pub(super) fn op(&self) -> &'n str {
        &self.proto.op_type
    }

    /// Input by position; None where it is left out.
    pub(super) fn input(&self, index: usize) -> Option<&'n str> {
        let name = self.proto.input.get(index).map(String::as_str);
        name.filter(|name| !name.is_empty())
    }

    /// Input by position, which the operator cannot do without.
    pub(super) fn needs(&self, index: usize) -> Result<&'n str, Refusal> {
        self.input(index)
            .ok_or_else(|| Refusal::new(format!("its input {index} is missing")))
    }

    /// Whether an output is there and named.
    pub(super) fn makes(&self, index: usize) -> bool {
        self.proto
            .output
            .get(index)
            .is_some_and(|name| !name.is_empty())
    }

    pub(super) fn attribute(&self, name: &str) -> Option<&'n AttributeProto> {
        self.proto
            .attribute
            .iter()
            .find(|attribute| attribute.name == name)
    }

    pub(super) fn int(&self, name: &str) -> Option<i64> {
        // A value of 0 may be left out on the wire.
        self.attribute(name)
            .map(|attribute| attribute.i.unwrap_or_default())
    }

    pub(super) fn float(&self, name: &str) -> Option<f32> {
        self.attribute(name)
            .map(|attribute| attribute.f.unwrap_or_default())
    }

    pub(super) fn ints(&self, name: &str) -> Option<&'n [i64]> {
        self.attribute(name)
            .map(|attribute| attribute.ints.as_slice())
    }

    pub(super) fn text(&self, name: &str) -> Option<&'n str> {
        std::str::from_utf8(self.attribute(name)?.s.as_ref()?).ok()
    }

    /// The attributes but those of these names.
    pub(super) fn attributes_but(&self, names: &[&str]) -> Vec<AttributeProto> {
        let kept = |attribute: &&AttributeProto| !names.contains(&attribute.name.as_str());
        self.proto.attribute.iter().filter(kept).cloned().collect()
    }

    /// All inputs as they are, by name.
    pub(super) fn inputs(&self) -> Vec<&'n str> {
        self.proto.input.iter().map(String::as_str).collect()
    }
}

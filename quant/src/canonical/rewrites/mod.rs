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

/// By the names of their files, in the order they are tried.
pub(super) const ALL: &[(&str, Rewrite)] = &[
    ("older", older::rewrite),
    ("broadcast_axis", broadcast_axis::rewrite),
    ("defaults", defaults::rewrite),
    ("windows", windows::rewrite),
    ("windowed", windowed::rewrite),
    ("softmax", softmax::rewrite),
    ("activations", activations::rewrite),
    ("norms", norms::rewrite),
    ("attention", attention::rewrite),
    ("rotary", rotary::rewrite),
    ("einsum", einsum::rewrite),
    ("pow", pow::rewrite),
    ("gemm", gemm::rewrite),
    ("matmul", matmul::rewrite),
    ("cast", cast::rewrite),
    ("sign", sign::rewrite),
    ("dequantize", dequantize::rewrite),
    ("quantized", quantized::rewrite),
    ("reductions", reductions::rewrite),
    ("integers", integers::rewrite),
    ("kernels", kernels::rewrite),
];

/// What the first rewrite that applies puts in the place of a node of the standard operators, and its
/// name.
pub(super) fn apply(
    known: &Known<'_>,
    node: &NodeProto,
) -> Result<Option<(&'static str, Vec<NodeProto>)>, Refusal> {
    if !node.domain.is_empty() {
        return Ok(None);
    }
    let node = Node { proto: node };
    for (name, rewrite) in ALL {
        if let Some(nodes) = rewrite(known, &node)? {
            return Ok(Some((name, nodes)));
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

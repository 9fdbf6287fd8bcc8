//! Constants of floats behind nodes that only move their elements.

use std::sync::Arc;

use super::known::{Known, counted};
use crate::{onnx::NodeProto, tensor::Tensor};

/// Moves of a constant that are followed, one behind the other.
const MOST_MOVES: usize = 16;

/// A node that moves the elements of a constant: a view for whoever multiplies by it, not one more constant
/// in the file, for others may read the same.
#[derive(Debug, Clone)]
pub(super) struct Moved {
    node: Arc<NodeProto>,
    /// How many moves are before it.
    depth: usize,
}

impl Moved {
    /// A node as a move of what another made, if it is one and not too many are before it.
    pub(super) fn of(node: &NodeProto, before: Option<&Moved>) -> Option<Moved> {
        let moves = matches!(
            node.op_type.as_str(),
            "Identity" | "Cast" | "Transpose" | "Reshape" | "Unsqueeze" | "Squeeze" | "Flatten"
        );
        let depth = before.map_or(0, |moved| moved.depth + 1);
        (moves && node.domain.is_empty() && depth < MOST_MOVES).then(|| Moved {
            node: Arc::new(node.clone()),
            depth,
        })
    }

    /// What it moves.
    pub(super) fn of_value(&self) -> Option<&str> {
        self.node.input.first().map(String::as_str)
    }

    /// What it makes; None where that does not follow from constants.
    pub(super) fn apply(&self, of: Tensor, known: &Known<'_>) -> Option<Tensor> {
        let node = &self.node;
        let axes = || known.ints(node.input.get(1)?);
        let attribute = |name: &str| node.attribute.iter().find(|found| found.name == name);
        let rank = of.ndim();
        let shape: Vec<usize> = match node.op_type.as_str() {
            "Transpose" => {
                let perm = match attribute("perm") {
                    Some(perm) => perm.ints.iter().map(|&axis| counted(axis, rank)).collect(),
                    None => Some((0..rank).rev().collect()),
                };
                let perm: Vec<usize> = perm?;
                let each = (0..rank).all(|axis| perm.contains(&axis));
                return (each && perm.len() == rank).then(|| {
                    let turned = of.permuted_axes(perm.as_slice());
                    turned.as_standard_layout().into_owned()
                });
            }
            "Reshape" => {
                let rest = of.len();
                let asked = axes()?;
                let zero_is_zero = attribute("allowzero").is_some_and(|found| found.i == Some(1));
                let length = |(at, &length): (usize, &i64)| match length {
                    0 if !zero_is_zero => of.shape().get(at).copied(),
                    -1 => Some(0),
                    length => usize::try_from(length).ok(),
                };
                let mut shape: Vec<usize> = asked
                    .iter()
                    .enumerate()
                    .map(length)
                    .collect::<Option<_>>()?;
                if let Some(open) = asked.iter().position(|&length| length == -1) {
                    shape[open] = 1;
                    shape[open] = rest.checked_div(shape.iter().product())?;
                }
                shape
            }
            "Unsqueeze" => {
                let axes = axes()?;
                let all = rank + axes.len();
                let axes: Vec<usize> = axes
                    .iter()
                    .map(|&axis| counted(axis, all))
                    .collect::<Option<_>>()?;
                let mut lengths = of.shape().iter().copied();
                let length = |axis| match axes.contains(&axis) {
                    true => Some(1),
                    false => lengths.next(),
                };
                (0..all).map(length).collect::<Option<_>>()?
            }
            "Squeeze" => {
                let gone: Vec<usize> = match node.input.get(1).filter(|name| !name.is_empty()) {
                    Some(_) => axes()?
                        .iter()
                        .map(|&axis| counted(axis, rank))
                        .collect::<Option<_>>()?,
                    None => (0..rank).filter(|&axis| of.shape()[axis] == 1).collect(),
                };
                let kept = (0..rank).filter(|axis| !gone.contains(axis));
                kept.map(|axis| of.shape()[axis]).collect()
            }
            "Flatten" => {
                let axis = attribute("axis").map_or(1, |found| found.i.unwrap_or_default());
                let axis = match axis {
                    axis if axis == rank as i64 => rank,
                    axis => counted(axis, rank)?,
                };
                let (rows, columns) = of.shape().split_at(axis);
                vec![rows.iter().product(), columns.iter().product()]
            }
            _ => return Some(of),
        };
        of.into_shape_with_order(shape).ok()
    }
}

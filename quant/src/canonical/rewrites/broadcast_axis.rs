//! Before operator set 7 the second operand of an arithmetic operator was only broadcast where the
//! attribute `broadcast` said so, its first axis lying on `axis` of the first operand.

use super::{Node, Rewritten};
use crate::canonical::{known::Known, refusal::Refusal, replacement::Replacement};

/// Since this operator set operands broadcast as in numpy.
const AS_NUMPY: i64 = 7;

pub(super) fn rewrite(known: &Known<'_>, node: &Node<'_>) -> Rewritten {
    let arithmetic = matches!(
        node.op(),
        "Add" | "Sub" | "Mul" | "Div" | "Pow" | "And" | "Or" | "Xor" | "Equal" | "Less" | "Greater"
    );
    if !arithmetic
        || known.opset >= AS_NUMPY
        || node.int("broadcast").is_none() && node.int("axis").is_none()
    {
        return Ok(None);
    }
    let (a, b) = (node.needs(0)?, node.needs(1)?);
    let mut new = Replacement::of(node.proto);
    let Some(axis) = node.int("axis") else {
        return Ok(Some(new.last(node.op(), &[a, b])));
    };
    let axis = known.axis(a, axis)?;
    let (Some(rank), Some(own)) = (known.rank(a), known.rank(b)) else {
        return Err(Refusal::new(
            "the ranks of its operands are not known, which its axis is counted by",
        ));
    };
    let after = rank.saturating_sub(axis + own);
    let axes: Vec<i64> = (0..after).map(|index| (own + index) as i64).collect();
    if axes.is_empty() {
        return Ok(Some(new.last(node.op(), &[a, b])));
    }
    let axes = new.ints(&axes);
    let b = new.node("Unsqueeze", &[b, &axes]);
    Ok(Some(new.last(node.op(), &[a, &b])))
}

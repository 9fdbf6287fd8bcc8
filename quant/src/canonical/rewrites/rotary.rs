//! RotaryEmbedding (ONNX, RotaryEmbedding-23) as the products that define it.

use super::{Node, Rewritten};
use crate::canonical::{
    known::Known,
    refusal::Refusal,
    replacement::{Replacement, int_attribute},
};

pub(super) fn rewrite(known: &Known<'_>, node: &Node<'_>) -> Rewritten {
    if node.op() != "RotaryEmbedding" {
        return Ok(None);
    }
    let (x, cos, sin) = (node.needs(0)?, node.needs(1)?, node.needs(2)?);
    let rank = known.rank(x).ok_or_else(|| {
        Refusal::new(format!(
            "the rank of '{x}' is not known; declare its shape in the model"
        ))
    })?;
    let heads = node.int("num_heads").filter(|&heads| heads > 0);
    let rotated = node.int("rotary_embedding_dim").unwrap_or(0);
    let mut new = Replacement::of(node.proto);
    // Heads are before the sequence in four dimensions, and after it in three.
    let (heads_first, x) = match (rank, heads) {
        (4, _) => (true, x.to_owned()),
        (3, Some(heads)) => {
            let shape = new.ints(&[0, 0, heads, -1]);
            (false, new.node("Reshape", &[x, &shape]))
        }
        (3, None) => return Err(Refusal::new("its num_heads is missing")),
        _ => {
            return Err(Refusal::new(format!(
                "its input has {rank} dimensions, not 3 or 4"
            )));
        }
    };
    let axis = new.ints(&[if heads_first { 1 } else { 2 }]);
    let mut factors = |table: &str| {
        let rows = match node.input(3) {
            Some(places) => new.node("Gather", &[table, places]),
            None => table.to_owned(),
        };
        new.node("Unsqueeze", &[&rows, &axis])
    };
    let (cos, sin) = (factors(cos), factors(sin));
    let (last, start, end) = (new.ints(&[-1]), new.ints(&[0]), new.ints(&[i64::MAX]));
    let (turning, rest) = match rotated {
        0 => (x, None),
        size => {
            let size = new.ints(&[size]);
            let turning = new.node("Slice", &[&x, &start, &size, &last]);
            (turning, Some(new.node("Slice", &[&x, &size, &end, &last])))
        }
    };
    let interleaved = node.int("interleaved").unwrap_or(0) != 0;
    let (a, b) = match interleaved {
        true => {
            let (one, two) = (new.ints(&[1]), new.ints(&[2]));
            (
                new.node("Slice", &[&turning, &start, &end, &last, &two]),
                new.node("Slice", &[&turning, &one, &end, &last, &two]),
            )
        }
        false => {
            let half = vec![int_attribute("axis", -1), int_attribute("num_outputs", 2)];
            let halves = new.node_of("Split", &[&turning], 2, half);
            (halves[0].clone(), halves[1].clone())
        }
    };
    let mut sum = |op: &str, (x, f): (&str, &str), (y, g): (&str, &str)| {
        let (left, right) = (new.node("Mul", &[f, x]), new.node("Mul", &[g, y]));
        new.node(op, &[&left, &right])
    };
    let real = sum("Sub", (&a, &cos), (&b, &sin));
    let imaginary = sum("Add", (&a, &sin), (&b, &cos));
    let along = || vec![int_attribute("axis", -1)];
    let mut turned = match interleaved {
        true => {
            let (real, imaginary) = (
                new.node("Unsqueeze", &[&real, &last]),
                new.node("Unsqueeze", &[&imaginary, &last]),
            );
            let pairs = new.node_with("Concat", &[&real, &imaginary], along());
            let shape = new.node("Shape", &[&turning]);
            new.node("Reshape", &[&pairs, &shape])
        }
        false => new.node_with("Concat", &[&real, &imaginary], along()),
    };
    if let Some(rest) = rest {
        turned = new.node_with("Concat", &[&turned, &rest], along());
    }
    if heads_first {
        return Ok(Some(new.last("Identity", &[&turned])));
    }
    let flat = new.ints(&[0, 0, -1]);
    Ok(Some(new.last("Reshape", &[&turned, &flat])))
}
